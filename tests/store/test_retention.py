"""Pruning in the background, on a real store: who may, and what was left."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from setpointd.records import Keep, Stamp
from setpointd.retention import Retention
from setpointd.store import Snapshot, Store
from tests.store.jobs import FIRST_MOMENT, put
from tests.waiting import DEADLINE_S

DAY_S = 86_400
ASKED = Stamp("2026-01-01T00:00:00.000Z", "root", "r-9")


def newest(snapshot: Snapshot) -> list[int]:
    """List the versions of a service that are there."""
    return [row[0] for row in snapshot.config._all("SELECT version FROM config_versions ORDER BY version")]  # noqa: SLF001


def events(snapshot: Snapshot) -> list[tuple[str | None, str | None]]:
    """List who pruned, and in which request."""
    sql = "SELECT user, request_id FROM audit_log WHERE action = 'prune_history' ORDER BY id"
    return [(row[0], row[1]) for row in snapshot.audit._all(sql)]  # noqa: SLF001


@pytest.fixture
async def filled(store: Store) -> Store:
    """Make a store whose service has four versions of the first moment of 2026."""
    for n in range(4):
        await store.write(ASKED, put("stt", {"n": n}))
    return store


@pytest.fixture
async def active(filled: Store) -> AsyncIterator[asyncio.Event]:
    """Run the background, ten days later, with one version to keep of those that are older than a week."""
    active = asyncio.Event()
    retention = Retention(
        store=filled, active=active, keep_days=7, keep_versions=1, clock=lambda: FIRST_MOMENT + 10 * DAY_S
    )
    task = asyncio.create_task(retention.run(), name="retention")
    yield active
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_only_the_writer_prunes(filled: Store, active: asyncio.Event) -> None:
    """While the daemon is not active nothing is removed; once it is, what is old goes."""
    for _ in range(100):
        await asyncio.sleep(0)
    assert await filled.read(newest) == [1, 2, 3, 4]
    active.set()
    await _until(filled, newest, [4])


async def test_what_a_command_left_is_done_in_its_name(filled: Store, active: asyncio.Event) -> None:
    """By its own rule, once, and the event names who asked for it and in which request."""
    await filled.write(ASKED, lambda tx: tx.pruning.leave(Keep(versions=2)))
    active.set()
    await _until(filled, events, [("root", "r-9"), (None, None)])
    assert await filled.read(newest) == [4]
    assert await filled.read(lambda snapshot: snapshot.pruning.unfinished()) == []


async def _until(store: Store, read: Callable[[Snapshot], object], expected: object) -> None:
    end = time.monotonic() + DEADLINE_S
    while (found := await store.read(read)) != expected:
        assert time.monotonic() < end, found
        await asyncio.sleep(0.01)
