"""``history/prune``, and pruning in the background (wire section 6)."""

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from setpoint_contracts.timestamps import rfc3339
from setpointd.records import Stamp
from setpointd.store.files import open_writer
from setpointd.store.tx import Tx
from tests.caller import Caller, calling
from tests.daemon import Daemon, NewDaemon
from tests.waiting import DEADLINE_S, eventually

DAY_S = 86_400


def fill(data_dir: Path, services: list[str], ages_days: list[float], text: str = "") -> None:
    """Write a version of each service for each age into the store of a daemon that is stopped."""
    now = time.time()
    with contextlib.closing(open_writer(data_dir)) as db:
        for number, age in enumerate(ages_days):
            stamp = Stamp(rfc3339(now - age * DAY_S), "admin", f"r-{number}")
            with db.atomic():
                for service in services:
                    tx = Tx(db, stamp)
                    config = {"n": number, "text": f"{number}{text}"}
                    tx.config.write_version(service, tx.config.current(service), config, op="set", reason=None)


def look(daemon: Daemon, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Look into the store of a running daemon."""
    with contextlib.closing(sqlite3.connect(f"file:{daemon.data_dir}/setpoint.db?mode=ro", uri=True)) as db:
        return db.execute(sql, values).fetchall()


def versions(daemon: Daemon, service: str) -> list[int]:
    """List the versions of a service that the store has."""
    return [
        row[0]
        for row in look(daemon, "SELECT version FROM config_versions WHERE service = ? ORDER BY version", service)
    ]


@pytest.fixture
def old(new_daemon: NewDaemon) -> Daemon:
    """Make a daemon, not started, whose services `a` and `b` have versions of 40, 20, 10 and 1 days ago."""
    daemon = new_daemon(start=False)
    fill(daemon.data_dir, ["a", "b"], [40, 20, 10, 1])
    return daemon


@pytest.mark.parametrize(
    ("params", "left"),
    [
        ({"keep_days": 15}, [2, 3, 4]),
        ({"keep_days": 0}, [4]),
        ({"keep_versions": 2}, [3, 4]),
        ({"keep_versions": 4}, [1, 2, 3, 4]),
        ({"keep_days": 5, "keep_versions": 3}, [2, 3, 4]),
        ({"keep_days": 30, "keep_versions": 1}, [1, 2, 3, 4]),
    ],
    ids=str,
)
async def test_what_is_old_goes(old: Daemon, params: dict[str, int], left: list[int]) -> None:
    """By days, by number, or by both, of every service; the counts are what went, and the event tells them."""
    old.start()
    old.wait_ready()
    topic = old.topics.audit("prune_history")
    gone = 4 - len(left)
    async with calling(old, None, topic) as admin:
        before = await admin.call("status")
        reply = await admin.call("history/prune", params)
        assert reply.result == {"versions": 2 * gone, "history": 2 * 2 * gone, "complete": True}
        assert reply.revision == before.revision
        event = await admin.event(topic)
        assert (event["user"], event["request_id"]) == ("admin", reply.id)
        assert (
            event["details"].items() >= {**reply.result, **{key: params[key] for key in params if "v" in key}}.items()
        )
    assert versions(old, "a") == versions(old, "b") == left


async def test_what_was_removed_is_told_from_what_never_was(old: Daemon) -> None:
    """By version, revision and time; what is there still reads as before, and a service may go on."""
    old.start()
    old.wait_ready()
    async with calling(old) as admin:
        await admin.ok("history/prune", {"keep_versions": 2})
        day = {ago: rfc3339(time.time() - ago * DAY_S) for ago in (50, 30, 15, 5)}
        for point in ({"version": 2}, {"revision": 1}, {"revision": 4}, {"time": day[30]}, {"time": day[15]}):
            error = await admin.error("get", {"service": "a", **point})
            assert (error["code"], error["details"]) == ("not_found", {"service": "a", "pruned": True}), point
        for never in ({"version": 9}, {"revision": 0}, {"time": day[50]}):
            error = await admin.error("get", {"service": "a", **never})
            assert (error["code"], error["details"]) == ("not_found", {}), never
        for still in ({"version": 3}, {"revision": 5}, {"time": day[5]}):
            assert (await admin.ok("get", {"service": "a", **still}))["version"] == 3, still
        assert (await admin.ok("set", {"service": "a", "config": {}, "expected_version": 4}))["version"] == 5


async def test_what_stays_in_any_case(old: Daemon) -> None:
    """The newest version however old, a tombstone, and what a profile names, which can be loaded still."""
    old.start()
    old.wait_ready()
    async with calling(old) as admin:
        await admin.ok("profile/save", {"name": "p", "services": ["a"]})
        await admin.ok("set", {"service": "a", "config": {"n": 5}})
        await admin.ok("set", {"service": "a", "config": {"n": 6}})
        await admin.ok("delete", {"service": "b"})
        await admin.ok("history/prune", {"keep_days": 0, "keep_versions": 1})
        assert (versions(old, "a"), versions(old, "b")) == ([4, 6], [5])
        assert (await admin.ok("profile/load", {"name": "p"}))["results"][0]["version"] == 7
        assert (await admin.ok("get", {"service": "a"}))["config"] == {"n": 3, "text": "3"}
        await admin.ok("profile/delete", {"name": "p"})
        await admin.ok("history/prune", {"keep_versions": 1})
        assert versions(old, "a") == [7]
        error = await admin.error("get", {"service": "b"})
        assert error["details"]["current"]["deleted"] is True


async def test_a_repetition_is_answered_alike_and_removes_nothing(admin: Caller, service: str) -> None:
    """The same bytes again get the stored reply, though there is more to remove by now."""
    for n in range(3):
        await admin.ok("set", {"service": service, "config": {"n": n}})
    payload = admin.sign("history/prune", {"keep_versions": 2})
    topic = admin.topics.command("history/prune")
    first = await admin.exchange(topic, payload)
    await admin.ok("set", {"service": service, "config": {"n": 3}})
    assert await admin.exchange(topic, payload) == first
    assert (await admin.ok("get", {"service": service, "version": 2}))["config"] == {"n": 1}


async def test_who_may_prune(shared_daemon: Daemon) -> None:
    """An admin, whatever the scope of the token, which does not narrow managing; nobody else."""
    for role in ("viewer", "operator"):
        async with calling(shared_daemon, shared_daemon.new_token(role, role)) as caller:
            error = await caller.error("history/prune", {"keep_days": 1})
        assert (error["code"], error["details"]) == ("forbidden", {"needs": "admin.manage"})
    scoped = shared_daemon.new_token("scoped", "admin", "--services", "x*")
    async with calling(shared_daemon, scoped) as caller:
        await caller.ok("history/prune", {"keep_days": 36_500})


@pytest.mark.parametrize("params", [{}, {"keep_days": -1}, {"keep_versions": 0}, {"keep_days": 1, "reason": "x"}])
async def test_bad_parameters(admin: Caller, params: dict[str, Any]) -> None:
    """Nothing said, or something that does not fit: `bad_request`."""
    assert (await admin.error("history/prune", params))["code"] == "bad_request"


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"history_keep_days": 15}, [2, 3, 4]),
        ({"history_keep_versions": 1}, [4]),
        ({"history_keep_days": 15, "history_keep_versions": 3}, [2, 3, 4]),
    ],
    ids=str,
)
async def test_the_background_prunes_by_the_settings(
    new_daemon: NewDaemon, settings: dict[str, int], left: list[int]
) -> None:
    """Soon after the start; with one event, of nobody; a start with nothing to remove leaves none."""
    daemon = new_daemon(start=False, **settings)
    fill(daemon.data_dir, ["a", "b"], [40, 20, 10, 1])
    for _ in range(2):
        daemon.start()
        daemon.wait_ready()
        await eventually(lambda: versions(daemon, "b") == left, "it has pruned")
        await eventually(lambda: daemon.events("pruned"), "it says so")
        assert daemon.stop() == 0
    assert versions(daemon, "a") == left
    [(user, details)] = look(daemon, "SELECT user, details_json FROM audit_log WHERE action = 'prune_history'")
    assert user is None
    assert f'"versions":{2 * (4 - len(left))}' in details


async def test_nothing_is_removed_unless_told(old: Daemon) -> None:
    """By default all is kept, over starts too."""
    for _ in range(2):
        old.start()
        old.wait_ready()
        assert old.stop() == 0
    assert versions(old, "a") == [1, 2, 3, 4]
    assert old.events("pruned") == []


async def test_a_large_prune_holds_up_nobody(new_daemon: NewDaemon) -> None:
    """Writes are answered in good time while it works; the rest goes by itself; then the file is smaller.

    More commands than the broker sends before the first is acknowledged come meanwhile.
    """
    daemon = new_daemon(start=False)
    fill(daemon.data_dir, [f"s{n:03}" for n in range(150)], list(range(60, 0, -1)), "x" * 600)
    before = (daemon.data_dir / "setpoint.db").stat().st_size
    daemon.start()
    daemon.wait_ready()
    topic = daemon.topics.audit("prune_history")
    async with calling(daemon, None, topic) as admin, calling(daemon) as other:
        pruning = asyncio.create_task(admin.ok("history/prune", {"keep_versions": 2}))
        slowest, asked = 0.0, 0
        while not pruning.done() or asked < 400:
            began = time.monotonic()
            await other.ok("set", {"service": "other", "config": {"n": asked}})
            slowest, asked = max(slowest, time.monotonic() - began), asked + 1
        first = await pruning
        assert first["complete"] is False
        assert (await admin.event(topic))["details"]["complete"] is False
        rest = (await admin.event(topic))["details"]
        assert rest["complete"] is True
    assert slowest < 2.0
    # What the other service got meanwhile is pruned as well, down to its newest two and what came behind.
    assert first["versions"] + rest["versions"] >= 150 * 58
    assert look(daemon, "SELECT count(*) FROM config_versions WHERE service LIKE 's%'") == [(300,)]
    assert look(daemon, "SELECT count(*) FROM config_prunes") == [(0,)]
    assert daemon.stop() == 0
    assert (daemon.data_dir / "setpoint.db").stat().st_size < before / 2


async def test_what_a_kill_interrupts_goes_on_at_the_next_start(new_daemon: NewDaemon) -> None:
    """A prune that was answered `"complete":false` is done in the end, whatever happens to the daemon."""
    daemon = new_daemon(start=False)
    fill(daemon.data_dir, [f"s{n:03}" for n in range(300)], list(range(50, 0, -1)))
    daemon.start()
    daemon.wait_ready()
    async with calling(daemon) as admin:
        assert (await admin.ok("history/prune", {"keep_versions": 1}))["complete"] is False
    daemon.kill()
    assert look(daemon, "SELECT count(*) FROM config_prunes") == [(1,)]
    daemon.start()
    await eventually(
        lambda: look(daemon, "SELECT count(*) FROM config_versions") == [(300,)], "all is done", 3 * DEADLINE_S
    )
    await eventually(lambda: look(daemon, "SELECT count(*) FROM config_prunes") == [(0,)], "nothing is left")
