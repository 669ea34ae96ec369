"""Five hundred watchers at once, over a restart of the broker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from setpoint import Client
from setpoint.watching import Watch
from tests.brokers import Broker
from tests.client.conftest import ClientOf
from tests.daemon import Daemon, NewDaemon
from tests.waiting import eventually

CLIENTS, WATCHES_EACH = 10, 50
SERVICES = [f"svc-{n:02}" for n in range(50)]
WRITES = 5_000
WRITERS = 20
PATTERNS = ["*", "svc-*", "svc-[0-4]?", "svc-?[0-9]"]
"""Each matches all services."""


async def follow(watch: Watch, seen: dict[str, int]) -> None:
    """Read until the client is closed, and note the newest version of each service; each is newer than the last."""
    async for document in watch:
        assert document.version > seen.get(document.service, 0)
        seen[document.service] = document.version


@contextlib.asynccontextmanager
async def clients(client_of: ClientOf, daemon: Daemon, tmp_path: Path) -> AsyncIterator[list[Client]]:
    """Open so many clients, each with a cache of its own."""
    async with contextlib.AsyncExitStack() as stack:
        made = [client_of(daemon, cache_dir=tmp_path / f"cache-{n}", timeout=60.0) for n in range(CLIENTS)]
        yield [await stack.enter_async_context(client) for client in made]


async def write_all(writer: Client, own_broker: Broker) -> dict[str, int]:
    """Write so many versions, and restart the broker in the middle; the last version of each service."""
    numbers = iter(range(WRITES))
    versions: dict[str, int] = {}

    async def write() -> None:
        for n in numbers:
            if n == WRITES // 2:
                await asyncio.to_thread(own_broker.stop)
                await asyncio.to_thread(own_broker.start)
            written = await writer.set(SERVICES[n % len(SERVICES)], {"n": n})
            versions[written.service] = max(written.version, versions.get(written.service, 0))

    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(write())
    return versions


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_all_of_them_see_the_last_version_of_everything(
    own_broker: Broker, new_daemon: NewDaemon, client_of: ClientOf, tmp_path: Path
) -> None:
    """500 watchers see the last of 100 versions of each of 50 services, over a broker's restart; by names too."""
    daemon = new_daemon(broker=own_broker, prefix="", rate_limit_per_s=100_000)
    seen: list[dict[str, int]] = []
    by_name: list[dict[str, int]] = []
    async with asyncio.TaskGroup() as group, clients(client_of, daemon, tmp_path) as opened:

        def watch(client: Client, pattern: str, its: list[dict[str, int]]) -> None:
            its.append({})
            group.create_task(follow(client.watch(pattern), its[-1]))

        for client in opened:
            for m in range(WATCHES_EACH):
                watch(client, PATTERNS[m % len(PATTERNS)], seen)
        for service in SERVICES:
            watch(opened[-1], service, by_name)
        versions = await write_all(opened[0], own_broker)
        assert versions == dict.fromkeys(SERVICES, WRITES // len(SERVICES))
        assert len(seen) == 500

        def all_have_seen_the_last() -> bool:
            return seen == [versions] * len(seen) and by_name == [{name: versions[name]} for name in SERVICES]

        await eventually(all_have_seen_the_last, "everybody has seen the last version of everything", 120)
