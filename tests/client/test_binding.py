"""`bind` over a real broker and a running daemon."""

import asyncio

from pydantic import BaseModel

from setpoint import Client


class Stt(BaseModel):
    """A service's model."""

    model: str = "base"
    threads: int = 1


async def test_binds_live_and_tells_of_a_change(client: Client, service: str) -> None:
    """What is set is the value; a change comes with both values, the document, and what differs."""
    await client.set(service, {"model": "small", "threads": 2})
    live = await client.bind(service, Stt)
    assert live.value == Stt(model="small", threads=2)
    assert (live.source, live.version, live.stale, live.error) == ("live", 1, False, None)
    changes = live.changes()
    await client.patch(service, {"model": "large"})
    async with asyncio.timeout(20):
        change = await anext(changes)
    assert (change.old, change.new) == (Stt(model="small", threads=2), Stt(model="large", threads=2))
    assert change.document.version == live.version == 2
    assert [one.model_dump() for one in change.diff] == [
        {"op": "replace", "path": "/model", "old": "small", "new": "large"}
    ]
    assert live.value is change.new
