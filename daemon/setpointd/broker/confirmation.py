"""Confirmations: futures that are done when the broker has a message, or never will.

Whoever publishes may await one or not: a failure is looked at here, so that asyncio does not complain that nobody did.
"""

import asyncio
from typing import Any

from setpointd.errors import BrokerLostError, SetpointdError


def awaited() -> asyncio.Future[None]:
    """Return a confirmation that is still to come."""
    return asyncio.get_running_loop().create_future()


def failed(reason: str) -> asyncio.Future[None]:
    """Return the confirmation of what could not even be published: ``BrokerLostError``."""
    confirmation = awaited()
    fail(confirmation, BrokerLostError(reason))
    return confirmation


def fail(future: asyncio.Future[Any], error: SetpointdError) -> None:
    """End a future with an error that nobody needs to look at; no effect on one that has ended."""
    if not future.done():
        future.set_exception(error)
        future.exception()
