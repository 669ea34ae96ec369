"""What most tests of the daemon need: its admin, and a service of the test's own."""

import secrets
from collections.abc import AsyncIterator

import pytest

from tests.caller import Caller, calling
from tests.daemon import Daemon


@pytest.fixture
async def admin(shared_daemon: Daemon) -> AsyncIterator[Caller]:
    """Call the module's shared daemon as its admin."""
    async with calling(shared_daemon) as caller:
        yield caller


@pytest.fixture
def service() -> str:
    """Name a service that no other test uses."""
    return f"svc-{secrets.token_hex(4)}"
