"""Confirmations: futures that are done when the broker has a message, or never will.

Whoever publishes may await one or not. Each is looked at here, so that asyncio does not complain that nobody did.
"""

import asyncio

from setpointd.errors import BrokerLostError


def awaited() -> asyncio.Future[None]:
    """Return a confirmation that is still to come."""
    confirmation: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    confirmation.add_done_callback(look_at)
    return confirmation


def failed(reason: str) -> asyncio.Future[None]:
    """Return the confirmation of what could not even be published: ``BrokerLostError``."""
    confirmation = awaited()
    confirmation.set_exception(BrokerLostError(reason))
    return confirmation


def look_at(future: asyncio.Future[None]) -> None:
    """Take note of how a future ended."""
    if not future.cancelled():
        future.exception()
