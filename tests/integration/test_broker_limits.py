"""A broker that takes less than the daemon would send: packets too large, QoS 1 or retained messages not at all."""

import asyncio
import json
import sqlite3
import time
from functools import partial
from typing import Any

import pytest

from tests.brokers import Broker
from tests.caller import Caller, calling, publish_properties, retained
from tests.daemon import Daemon, NewDaemon
from tests.proxy import proxied
from tests.waiting import eventually

LIMIT, LOW_LIMIT = 150_000, 60_000
LARGE = {"text": "x" * 100_000}
"""A document of it fits LIMIT and not LOW_LIMIT; the reply to a `set` of it, which has it twice, fits neither."""


def start_with(broker: Broker, lines: str = "", per_listener: str = "") -> None:
    """Start a broker again, with other lines in its configuration."""
    broker.stop()
    broker.configure(lines, per_listener)
    broker.start()


def connections(daemon: Daemon) -> float:
    """Count the connections that a daemon has made."""
    return daemon.metric("setpoint_broker_connections_total")


async def answered(caller: Caller, stop: asyncio.Event) -> int:
    """Have somebody else's reads answered until told to stop; how many were."""
    count = 0
    while not stop.is_set():
        assert (await caller.ok("get", {"service": "other"}))["version"] == 1
        count += 1
    return count


def let_in(daemon: Daemon, times: int) -> bool:
    """Say whether a daemon has been let in so many times."""
    return len(daemon.events("connected")) >= times


def rows(daemon: Daemon, table: str) -> int:
    """Count the rows of a table in the daemon's store."""
    connection = sqlite3.connect(f"file:{daemon.data_dir}/setpoint.db?mode=ro", uri=True)
    (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - the test's own words
    connection.close()
    return int(count)


async def test_a_reply_that_the_broker_would_not_take(own_broker: Broker, new_daemon: NewDaemon) -> None:
    """The write stays, its caller is told so, now and whenever it asks again, and everybody else is answered."""
    start_with(own_broker, f"max_packet_size {LIMIT}")
    daemon = new_daemon(broker=own_broker)
    watcher = daemon.new_token("watcher", "viewer")
    async with calling(daemon) as admin, calling(daemon, watcher) as other:
        assert (await admin.ok("info"))["limits"]["max_packet_bytes"] == LIMIT
        await admin.ok("set", {"service": "other", "config": {}})
        stop = asyncio.Event()
        reads = asyncio.create_task(answered(other, stop))
        topic, reply_topic = admin.topics.command("set"), admin.topics.reply("admin", "large")
        command = admin.sign("set", {"service": "stt", "config": LARGE}, jti="large")
        said = []
        for _ in range(5):
            await admin.mqtt.publish(topic, command, qos=1)
            said.append(await admin.message(reply_topic))
        stop.set()
        assert await reads > 0
        error = admin.read(said[0]).error
        assert error is not None
        assert error.code == "too_large"
        assert error.details == {"bytes": error.details["bytes"], "max_bytes": LIMIT, "applied": True}
        assert error.details["bytes"] > 200_000
        assert len({bytes(message.payload) for message in said}) == 1
        document = await admin.ok("get", {"service": "stt"})
        assert (document["version"], document["config"]) == (1, LARGE)
        daemon.stop()
        daemon.start()
        await admin.mqtt.publish(topic, command, qos=1)
        assert (await admin.message(reply_topic)).payload == said[0].payload
    assert connections(daemon) == 1
    assert not daemon.events("publish_refused")


async def test_what_did_not_happen_is_not_called_applied(own_broker: Broker, new_daemon: NewDaemon) -> None:
    """A dry run and a refusal whose reply would not fit say that nothing was done; Correlation Data counts, too."""
    start_with(own_broker, f"max_packet_size {LIMIT}")
    daemon = new_daemon(broker=own_broker)
    async with calling(daemon) as admin:
        error = await admin.error("set", {"service": "stt", "config": LARGE, "dry_run": True})
        assert (error["code"], error["details"]["applied"]) == ("too_large", False)
        await admin.error("set", {"service": "stt", "config": LARGE})
        params = {"service": "stt", "config": {}, "expected_version": 5}
        assert (await admin.error("set", params))["details"]["current"]["config"] == LARGE
        correlation = publish_properties(CorrelationData=b"c" * 60_000)
        error = await admin.error("set", params, properties=correlation)
        assert (error["code"], error["details"]["applied"]) == ("too_large", False)
        error = await admin.error("get", {"service": "stt"}, properties=correlation)
        assert error["details"] == {"bytes": error["details"]["bytes"], "max_bytes": LIMIT}
        assert (await admin.ok("get", {"service": "stt"}))["version"] == 1
    assert connections(daemon) == 1


async def test_a_config_that_could_not_be_announced_is_not_written(own_broker: Broker, new_daemon: NewDaemon) -> None:
    """A write whose update document the broker would not take is refused, and leaves no trace of itself."""
    start_with(own_broker, f"max_packet_size {LOW_LIMIT}")
    daemon = new_daemon(broker=own_broker)
    topic = daemon.topics.updated("stt")
    async with calling(daemon, None, topic) as admin:
        await admin.ok("set", {"service": "stt", "config": {"a": "x" * 20_000}})
        assert json.loads(bytes((await admin.message(topic)).payload))["version"] == 1
        before = {table: rows(daemon, table) for table in ("config_versions", "config_history", "audit_log")}
        revision = (await admin.ok("status"))["revision"]
        error = await admin.error("patch", {"service": "stt", "patch": {"b": "y" * 40_500}})
        assert error["code"] == "too_large"
        assert error["details"] == {"bytes": error["details"]["bytes"], "max_bytes": LOW_LIMIT}
        assert before == {table: rows(daemon, table) for table in before}
        assert (await admin.ok("status"))["revision"] == revision
        assert (await admin.ok("get", {"service": "stt"}))["version"] == 1
        error = await admin.error("patch", {"service": "stt", "patch": {"b": "y" * 30_000}})
        assert error["details"]["applied"] is True  # for in its reply that part stands twice
        assert json.loads(bytes((await admin.message(topic)).payload))["version"] == 2
    assert connections(daemon) == 1
    assert daemon.ready()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_document_that_no_longer_fits(end: str, own_broker: Broker, new_daemon: NewDaemon) -> None:
    """A broker that comes back with a lower limit: it is said once and shown, and nothing else suffers from it.

    Also when the broker still has the document. With the old limit again it is announced by itself.
    """
    start_with(own_broker, f"max_packet_size {LIMIT}")
    daemon = new_daemon(broker=own_broker)
    large, small = daemon.topics.updated("large"), daemon.topics.updated("small")
    async with calling(daemon) as admin:
        await admin.error("set", {"service": "large", "config": LARGE})
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "it is announced")
    {"stop": own_broker.stop, "kill": own_broker.kill}[end]()
    own_broker.configure(f"max_packet_size {LOW_LIMIT}")
    own_broker.start()
    await eventually(lambda: daemon.metric("setpoint_oversized_documents") == 1, "the metric tells")
    assert not daemon.ready()
    assert "documents" in next(line for line in daemon.probe("/readyz?verbose")[1].splitlines() if "larger" in line)
    assert json.loads(daemon.probe("/health")[1])["checks"]["documents"]["status"] == "fail"
    async with calling(daemon, None, small) as admin:
        for n in range(20):
            await admin.ok("set", {"service": "small", "config": {"n": n}})
            while json.loads(bytes((await admin.message(small)).payload))["version"] <= n:
                pass
        assert (await admin.ok("status"))["oversized_documents"] == 1
        assert (await admin.error("get", {"service": "large"}))["code"] == "too_large"
    (warning,) = daemon.events("document_too_large")
    assert (warning["service"], warning["max_bytes"]) == ("large", LOW_LIMIT)
    assert not daemon.events("publish_refused")
    assert connections(daemon) == 2
    start_with(own_broker, f"max_packet_size {LIMIT}")
    await eventually(daemon.ready, "all is well again")
    await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "it is announced again")
    assert json.loads((await retained(daemon, large))[large])["config"] == LARGE
    assert daemon.metric("setpoint_oversized_documents") == 0
    assert connections(daemon) == 3


async def test_an_event_that_is_too_large_comes_without_its_details(own_broker: Broker, new_daemon: NewDaemon) -> None:
    """Who did what arrives in any case; what cannot be told says how large it would have been."""
    daemon = new_daemon(broker=own_broker, max_config_bytes=262_144)
    deleted = daemon.topics.audit("delete_config")
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "stt", "config": {f"k{n:0127}": 0 for n in range(1000)}})
    start_with(own_broker, f"max_packet_size {LOW_LIMIT}")
    await eventually(lambda: connections(daemon) == 2, "the daemon is back")
    async with calling(daemon, None, deleted) as admin:
        await admin.ok("delete", {"service": "stt"}, jti="gone")
        event = await admin.event(deleted)
        assert (event["service"], event["request_id"], event["user"]) == ("stt", "gone", "admin")
        omitted: dict[str, Any] = event["details"].pop("omitted")
        assert event["details"] == {}
        assert omitted == {"bytes": omitted["bytes"], "max_bytes": LOW_LIMIT}
        assert omitted["bytes"] > 128_000
    await eventually(daemon.ready, "the tombstone fits")


@pytest.mark.parametrize(
    ("lines", "per_listener", "reason"),
    [("", "max_qos 0", "QoS 1"), ("retain_available false", "", "retained")],
    ids=["no QoS 1", "nothing retained"],
)
async def test_a_broker_that_cannot_do_what_is_needed(
    lines: str, per_listener: str, reason: str, own_broker: Broker, new_daemon: NewDaemon
) -> None:
    """It is said once, in one line that names what to change, on the probe too; once that is mended, all is well."""
    start_with(own_broker, lines, per_listener)
    daemon = new_daemon(broker=own_broker, start=False)
    daemon.start()
    await eventually(lambda: own_broker.log().count(f" as {daemon.client_id}-look") >= 3, "it has tried several times")
    (lost,) = daemon.events("broker_unreachable")
    assert reason in lost["reason"]
    assert "mosquitto.conf" in lost["reason"]
    assert lost["reason"] in daemon.probe("/readyz?verbose")[1]
    assert daemon.probe("/livez")[0] == 200
    start_with(own_broker)
    await eventually(daemon.ready, "it works")


async def test_a_broker_that_closes_every_connection_is_not_hammered(own_broker: Broker, new_daemon: NewDaemon) -> None:
    """One that refuses what is sent first, and one that lets the daemon in and then closes: the pauses grow."""
    daemon = new_daemon(broker=own_broker, start=False)
    began = time.monotonic()
    start_with(own_broker, "max_packet_size 300")  # smaller than the daemon's CONNECT, which has its Last Will in it
    daemon.start()
    attempts = 5
    await eventually(lambda: own_broker.log().count(f" as {daemon.client_id}-look") >= attempts, "it has tried again")
    assert time.monotonic() - began > least_pauses(attempts)
    assert len(daemon.events("broker_unreachable")) == 1
    daemon.stop()
    start_with(own_broker)
    async with proxied(own_broker, daemon) as proxy:
        daemon.start()
        for attempt in range(attempts):
            began = began if attempt else time.monotonic()
            await eventually(partial(let_in, daemon, attempt + 1), "it is let in")
            proxy.cut()
        assert time.monotonic() - began > least_pauses(attempts - 1)
        await eventually(lambda: len(daemon.events("connected")) == attempts + 1, "it is back")
        await eventually(daemon.ready, "it is ready")


def least_pauses(attempts: int) -> float:
    """Add up the shortest pauses between so many attempts: from 0.2 s on each is twice as long, at least half of it."""
    return 0.1 * float(2 ** (attempts - 1) - 1)
