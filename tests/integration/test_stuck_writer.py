"""Another process keeps the store's writer lock: that shows, is answered, and does not outlast it."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from setpointd import locks
from tests.caller import Caller, calling, connecting, publish_properties
from tests.daemon import Daemon, NewDaemon
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(120)

STOP_BOUND_S = 14.0
"""Below the 15 s that setpointd.service and compose.yaml give the daemon."""


@contextmanager
def stuck(daemon: Daemon) -> Iterator[None]:
    """Write to the daemon's store, and do not come to an end."""
    daemon.may_log.add("store_failed")
    with locks.holding(daemon.data_dir / "writer.lock", wait_s=5):
        yield


async def send(caller: Caller, service: str, jti: str) -> str:
    """Publish a `set`, wait until the daemon has it at work, and return its bytes."""
    command = caller.sign("set", {"service": service, "config": {"n": 1}}, jti=jti, lifetime_s=600)
    await caller.mqtt.publish(caller.topics.command("set"), command, qos=1)
    return command


async def outcome(caller: Caller, jti: str) -> str:
    """Wait for the reply to a command: ok, or its error's code."""
    reply = await caller.reply(caller.topics.reply("admin", jti))
    return "ok" if reply.error is None else reply.error.code.value


async def test_a_stuck_writer_shows(new_daemon: NewDaemon) -> None:
    """After 5 s the probes, the metric and `status` tell; later the command is answered `unavailable`; reads go on.

    When the other one lets go, the same bytes run, and all is well by itself.
    """
    daemon = new_daemon()
    async with calling(daemon) as admin:
        before = await admin.ok("set", {"service": "other", "config": {}})
        with stuck(daemon):
            command = await send(admin, "stt", "waits")
            reads = 0
            while (daemon.probe("/readyz")[0]) == 200:
                assert (await admin.ok("get", {"service": "other"}))["version"] == before["version"]
                reads += 1
                await asyncio.sleep(0.05)  # unacknowledged behind the write, so many wait as Receive Maximum allows
            assert reads > 0
            assert daemon.metric("setpoint_oldest_job_seconds") > 5
            assert (await admin.ok("status"))["oldest_job_s"] > 5
            status, body = daemon.probe("/health")
            check = json.loads(body)["checks"]["writer"]
            assert (status, check["status"]) == (503, "fail")
            assert "writer" in daemon.probe("/readyz?verbose")[1]
            assert daemon.probe("/livez")[0] == 200
            reply = await admin.reply(admin.topics.reply("admin", "waits"))
            assert reply.error is not None
            assert (reply.error.code, reply.error.retryable) == ("unavailable", True)
            assert (await admin.error("get", {"service": "stt"}))["code"] == "not_found"
        reply = await admin.exchange(admin.topics.command("set"), command)
        assert reply.result is not None
        assert reply.result["version"] == 1
        assert await admin.exchange(admin.topics.command("set"), command) == reply
        await eventually(daemon.ready, "all is well")
        assert daemon.metric("setpoint_oldest_job_seconds") < 5
        assert daemon.metric("setpoint_broker_connections_total") == 1


async def test_a_command_that_expires_while_it_waits(new_daemon: NewDaemon) -> None:
    """Behind a stuck writer `exp` and the MQTT message expiry, at QoS 0 and 1, run out as anywhere; nothing is done."""
    daemon = new_daemon()
    lifetimes = {"by-exp": 2, "by-expiry": 600, "lasts": 600}
    async with calling(daemon) as admin, connecting(daemon) as sender:
        await admin.ok("set", {"service": "stt", "config": {}})
        with stuck(daemon):
            began = time.monotonic()
            for qos in (0, 1):
                for name, lifetime_s in lifetimes.items():
                    jti = f"{name}-{qos}"
                    params = {"service": "stt", "patch": {jti.replace("-", "_"): 1}}
                    command = admin.sign("patch", params, jti=jti, lifetime_s=lifetime_s)
                    expiry = publish_properties(MessageExpiryInterval=2) if name == "by-expiry" else None
                    await sender.publish(admin.topics.command("patch"), command, qos=qos, properties=expiry)
            await eventually(lambda: time.monotonic() > began + 3.5, "the time of four of them is over")
        for qos in (0, 1):
            codes = {name: await outcome(admin, f"{name}-{qos}") for name in lifetimes}
            assert codes == {"by-exp": "expired", "by-expiry": "expired", "lasts": "ok"}
        assert (await admin.ok("get", {"service": "stt"}))["config"] == {"lasts_0": 1, "lasts_1": 1}


async def test_the_daemon_ends_although_its_writer_is_stuck(new_daemon: NewDaemon) -> None:
    """SIGTERM ends it with 0 in bounded time; what was answered is there, what was not comes again."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        answered = [await admin.ok("set", {"service": f"s{n}", "config": {"n": n}}) for n in range(20)]
        with stuck(daemon):
            daemon.may_log.add("writer_stuck")
            await send(admin, "late", "late")
            await eventually(lambda: daemon.metric("setpoint_oldest_job_seconds") > 0, "it is at work")
            began = time.monotonic()
            assert await asyncio.to_thread(daemon.stop) == 0
            assert time.monotonic() - began < STOP_BOUND_S
        daemon.start()
        reply = await admin.reply(admin.topics.reply("admin", "late"))
        assert reply.ok
        for result in answered:
            document = await admin.ok("get", {"service": result["service"]})
            assert (document["version"], document["config"]) == (1, result["config"])
