"""Retained documents are repaired on every connect: whatever happened to them, afterwards they are the store's."""

import asyncio
import json
import time

import pytest

from setpoint_contracts import strictjson
from tests.brokers import Broker
from tests.caller import calling, connecting, retained
from tests.daemon import Daemon, NewDaemon
from tests.waiting import DEADLINE_S, until

SERVICES = ("changed", "cleared", "garbage", "left-alone", "older")


@pytest.fixture
async def stopped(new_daemon: NewDaemon) -> Daemon:
    """Stop a daemon whose store has some services, each at version 2, and one deleted."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        for service in (*SERVICES, "deleted"):
            for n in (1, 2):
                await admin.ok("set", {"service": service, "config": {"n": n}})
        await admin.ok("delete", {"service": "deleted"})
    assert daemon.stop() == 0
    return daemon


async def documents(daemon: Daemon) -> dict[str, str]:
    """Read every service's document from the running daemon, as canonical JSON."""
    async with calling(daemon) as admin:
        services = [listed["service"] for listed in (await admin.ok("list", {"limit": 1000}))["services"]]
        return {service: strictjson.canonical(await admin.ok("get", {"service": service})) for service in services}


def living(documents: dict[str, str]) -> dict[str, str]:
    """Leave the tombstones out."""
    return {service: text for service, text in documents.items() if '"deleted":true' not in text}


async def retained_documents(daemon: Daemon) -> dict[str, str]:
    """Read what is retained under the services' topics, as canonical JSON."""
    found = await retained(daemon, daemon.topics.all_updated)
    return {
        str(daemon.topics.updated_service(topic)): strictjson.canonical(strictjson.loads(payload))
        for topic, payload in found.items()
    }


async def settled(daemon: Daemon) -> dict[str, str]:
    """Wait until the outbox is empty, and read what is retained then."""
    until(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty", DEADLINE_S)
    return await retained_documents(daemon)


async def test_whatever_was_done_to_them_is_repaired(stopped: Daemon) -> None:
    """Missing, changed, older, garbage and orphaned documents: at the next start each is what the store has."""
    before = await retained_documents(stopped)
    assert sorted(before) == sorted((*SERVICES, "deleted"))
    older = {**json.loads(before["older"]), "version": 1, "revision": 1, "config": {"n": 1}}
    orphan = {**older, "service": "orphan"}
    tampered = {
        "changed": {**json.loads(before["changed"]), "config": {"n": 2.0}},
        "cleared": b"",
        "garbage": b"\xff\x00",
        "older": older,
        "orphan": orphan,
        "orphaned-garbage": b"garbage",
        "deleted": {**orphan, "service": "deleted"},
        "Not A Service!": b"null",
    }
    async with connecting(stopped) as vandal:
        for service, document in tampered.items():
            payload = document if isinstance(document, bytes) else json.dumps(document)
            await vandal.publish(stopped.topics.updated(service), payload, qos=1, retain=True)
    stopped.start()
    stopped.wait_ready()
    assert await settled(stopped) == before
    assert living(before) == await documents(stopped)
    (repaired,) = stopped.events("repairing")
    assert repaired["services"] == len(tampered)


async def test_what_is_right_is_left_alone(stopped: Daemon) -> None:
    """Nothing is published again for documents that are what they should be."""
    async with calling(stopped, None, stopped.topics.all_updated) as witness:
        for service in SERVICES:
            assert (await witness.message(stopped.topics.updated(service))).retain
        stopped.start()
        stopped.wait_ready()
        await witness.ok("set", {"service": "left-alone", "config": {"n": 3}})
        message = await witness.message(stopped.topics.updated("left-alone"))
        assert json.loads(bytes(message.payload))["version"] == 3
    assert stopped.events("repairing") == []


async def test_a_broker_that_lost_everything_gets_everything_again(own_broker: Broker, new_daemon: NewDaemon) -> None:
    """A power cut at the broker takes documents, claim, keys and health; on the reconnect all of them are back."""
    daemon = new_daemon(broker=own_broker)
    async with calling(daemon) as admin:
        await asyncio.gather(*(admin.ok("set", {"service": f"s{n}", "config": {"n": n}}) for n in range(300)))
    topics = daemon.topics
    until(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
    before = set(await retained(daemon, "#"))
    own_broker.kill()
    until(lambda: not daemon.ready(), "the daemon has noticed")
    own_broker.start()
    daemon.wait_ready()
    assert await settled(daemon) == await documents(daemon)
    end = time.monotonic() + DEADLINE_S
    while set(await retained(daemon, "#")) != before:
        assert time.monotonic() < end
    assert {topics.epoch, topics.keys, topics.health} < before


async def test_a_change_that_was_not_announced_is_announced_at_the_next_start(new_daemon: NewDaemon) -> None:
    """Killed right after the reply: the update leaves the outbox only once the broker has it."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        for round_ in range(5):
            for n in range(10):
                await admin.ok("set", {"service": f"s{n}", "config": {"round": round_}})
            daemon.kill()
            daemon.start()
            daemon.wait_ready()
    assert await settled(daemon) == await documents(daemon)
