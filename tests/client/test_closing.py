"""Closing a client at any moment of its life."""

import asyncio

from tests.client.conftest import ClientOf
from tests.daemon import Daemon
from tests.waiting import soon


async def test_can_be_closed_at_any_moment(shared_daemon: Daemon, client_of: ClientOf) -> None:
    """However far it has come with connecting and subscribing, closing ends it, within moments."""
    for turns in range(0, 400, 7):
        client = client_of(shared_daemon)
        await client.__aenter__()
        for _ in range(turns):
            await asyncio.sleep(0)
        await soon(client.__aexit__(None, None, None), 5)
        assert not client.is_connected
