"""A steady load of writes, and an outbox that is full: neither updates nor events keep the other waiting."""

import asyncio
import json
import time

import aiomqtt
import pytest

from setpoint_contracts.audit import Action
from setpointd.records import Stamp
from setpointd.store import Tx
from setpointd.store.files import writing
from tests.caller import calling, connecting
from tests.daemon import Daemon, NewDaemon
from tests.waiting import DEADLINE_S, eventually

LOAD_PER_S, LOAD_S = 150, 4
"""A fraction of what the daemon does on a small machine (about 1,000/s)."""


async def test_an_event_is_not_far_behind_its_update(new_daemon: NewDaemon) -> None:
    """Under a steady load of `set` every event arrives within a second of the update that its write belongs to."""
    daemon = new_daemon()
    count = LOAD_PER_S * LOAD_S
    # A service for each write: no update is skipped for a newer one.
    async with calling(daemon) as admin, connecting(daemon) as subscriber:
        commands = [
            admin.sign("set", {"service": f"s{n}", "config": {"n": n}}, reply_to=None, lifetime_s=600)
            for n in range(count)
        ]
        for topic in (daemon.topics.all_updated, daemon.topics.audit("update_config")):
            await subscriber.subscribe(topic, qos=1)
        arrivals = asyncio.create_task(arrived(subscriber, daemon, count))
        began = time.monotonic()
        for n, command in enumerate(commands):
            await asyncio.sleep(max(0.0, began + n / LOAD_PER_S - time.monotonic()))  # the load is to be steady
            await admin.mqtt.publish(admin.topics.command("set"), command, qos=1)
        updates, events = await arrivals
    assert updates.keys() == events.keys()
    delays = [events[service] - updates[service] for service in updates]
    assert max(delays) < 1, sorted(delays)[-5:]


async def arrived(subscriber: aiomqtt.Client, daemon: Daemon, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """Note when the update and the event of each of so many services arrive."""
    updates: dict[str, float] = {}
    events: dict[str, float] = {}
    async with asyncio.timeout(LOAD_S + DEADLINE_S):
        while len(updates) < count or len(events) < count:
            message = await anext(subscriber.messages)
            service = daemon.topics.updated_service(str(message.topic))
            if service is None:
                events.setdefault(json.loads(bytes(message.payload))["service"], time.monotonic())
            else:
                updates.setdefault(service, time.monotonic())
    return updates, events


@pytest.mark.crash
@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_full_outbox_is_worked_off_and_holds_up_nobody(new_daemon: NewDaemon) -> None:
    """With 100,000 events waiting, the update of a new write goes out promptly, and in the end nothing waits."""
    rows, portion = 100_000, 10_000
    daemon = new_daemon(start=False)
    for start in range(0, rows, portion):
        with writing(daemon.data_dir, Stamp("2026-01-02T00:00:00.000Z", None)) as tx:
            record(tx, start, portion)
    updated = daemon.topics.updated("stt")
    daemon.start()
    daemon.wait_ready()
    async with calling(daemon, None, updated) as admin:
        slowest = 0.0
        for version in range(1, 21):
            began = time.monotonic()
            await admin.ok("set", {"service": "stt", "config": {"n": version}})
            while json.loads(bytes((await admin.message(updated)).payload))["version"] < version:
                pass
            slowest = max(slowest, time.monotonic() - began)
        assert daemon.metric("setpoint_outbox_pending") > 0, "all was worked off before anything was tried"
        assert slowest < 2
    await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "all is published", 240)
    assert daemon.metric('setpoint_published_total{kind="audit"}') >= rows + 20
    assert not daemon.events("outbox_stuck")


def record(tx: Tx, start: int, count: int) -> None:
    """Write events, which are to be published."""
    for n in range(start, start + count):
        tx.audit.record(Action.AUTH_FAILURE, reason="unknown_kid", suppressed=n)
