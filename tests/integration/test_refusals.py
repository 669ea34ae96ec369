"""What goes wrong for one alone: a topic that the broker refuses, a row that cannot be read. The others go on."""

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from setpointd import locks
from tests.brokers import LocalBroker
from tests.caller import calling, retained
from tests.daemon import Daemon, NewDaemon
from tests.waiting import DEADLINE_S, eventually


class StrictBroker(LocalBroker):
    """A broker that forbids some topics to everybody; `forbid` counts at once."""

    def __init__(self, directory: Path, certificate: Path) -> None:
        self._acl = directory / "acl"
        self.forbid()
        super().__init__(directory, certificate, f"allow_anonymous true\nacl_file {self._acl}")

    def forbid(self, *topics: str) -> None:
        """Refuse what is published on these topics from now on, and on no others."""
        self._acl.write_text("".join(f"topic deny {topic}\n" for topic in topics) + "topic readwrite #\n")
        if getattr(self, "_process", None) is not None:
            os.kill(self.pid, signal.SIGHUP)


@pytest.fixture
def strict_broker(certificate: Path, tmp_path: Path) -> Iterator[StrictBroker]:
    """Start a broker of the test's own with topic rules."""
    (tmp_path / "strict").mkdir()
    broker = StrictBroker(tmp_path / "strict", certificate)
    broker.start()
    yield broker
    broker.remove()


def refused(daemon: Daemon, topic: str) -> int:
    """Count how often the daemon has logged that a topic is refused."""
    return len([event for event in daemon.events("publish_refused") if event["topic"] == topic])


async def test_an_update_that_the_broker_refuses(strict_broker: StrictBroker, new_daemon: NewDaemon) -> None:
    """It is told once a try, every other update goes out meanwhile, and when it is allowed it is delivered."""
    daemon = new_daemon(broker=strict_broker)
    secret, open_ = daemon.topics.updated("secret"), daemon.topics.updated("open")
    strict_broker.forbid(secret)
    async with calling(daemon, None, open_) as admin:
        await admin.ok("set", {"service": "secret", "config": {"n": 1}})
        await eventually(lambda: refused(daemon, secret) == 1, "it is refused")
        for n in range(20):
            await admin.ok("set", {"service": "open", "config": {"n": n}})
            while json.loads(bytes((await admin.message(open_)).payload))["version"] <= n:
                pass
        assert refused(daemon, secret) == 1
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 1, "all but this one is out")
        assert [event["refused"] for event in daemon.events("outbox_stuck")] == [1]
        await eventually(lambda: refused(daemon, secret) == 2, "it is tried again")
        strict_broker.forbid()
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "it is delivered")
        kept = await retained(daemon, secret)
        assert json.loads(kept[secret]) == await admin.ok("get", {"service": "secret"})
    assert refused(daemon, secret) == 2
    assert daemon.metric("setpoint_broker_connections_total") == 1


async def test_a_reply_that_the_broker_refuses(strict_broker: StrictBroker, new_daemon: NewDaemon) -> None:
    """The write stays, nobody else notices, and its message does not come again and again."""
    daemon = new_daemon(broker=strict_broker)
    forbidden = daemon.topics.reply("admin", "forbidden")
    strict_broker.forbid(forbidden)
    async with calling(daemon) as admin:
        command = admin.sign("set", {"service": "stt", "config": {}}, jti="unheard", reply_to=forbidden)
        await admin.mqtt.publish(admin.topics.command("set"), command, qos=1)
        await eventually(lambda: refused(daemon, forbidden) == 1, "it is refused")
        assert (await admin.ok("get", {"service": "stt"}))["version"] == 1
        daemon.stop()
        daemon.start()
        await admin.ok("info")
        strict_broker.forbid()
        await admin.mqtt.publish(admin.topics.command("set"), command, qos=1)
        reply = await admin.reply(forbidden)
        assert reply.result is not None
        assert reply.result["version"] == 1
    asked = [event["code"] for event in daemon.events("command") if event["request_id"] == "unheard"]
    assert asked == ["ok", "repeated"]


async def test_a_row_that_cannot_be_read(new_daemon: NewDaemon) -> None:
    """Its service is `internal`, which may be sent again; the log quotes nothing; the others go on, over restarts."""
    daemon = new_daemon()
    daemon.may_log.add("internal_error")
    broken, whole = daemon.topics.updated("broken"), daemon.topics.updated("whole")
    async with calling(daemon, None, whole) as admin:
        for service in ("broken", "whole"):
            await admin.ok("set", {"service": service, "config": {"password": "hunter2"}})
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "both are announced")
        before = await retained(daemon, broken)
        damage(daemon)
        members: dict[str, dict[str, Any]] = {"get": {}, "set": {"config": {}}, "patch": {"patch": {}}, "delete": {}}
        for command, more in members.items():
            error = await admin.error(command, {"service": "broken", **more})
            assert (error["code"], error["retryable"]) == ("internal", True)
        for end in (daemon.stop, daemon.kill):
            end()
            daemon.start()
            daemon.wait_ready()
            assert (await admin.error("get", {"service": "broken"}))["code"] == "internal"
            version = (await admin.ok("get", {"service": "whole"}))["version"]
            await admin.ok("set", {"service": "whole", "config": {"version": version + 1}})
            while json.loads(bytes((await admin.message(whole)).payload))["version"] <= version:
                pass
        assert {document["service"] for document in (await admin.ok("list"))["services"]} == {"broken", "whole"}
    assert await retained(daemon, broken) == before
    failures = daemon.events("internal_error")
    assert {failure["error"] for failure in failures} == {"UnreadableError"}
    assert all(failure["where"] for failure in failures)
    assert daemon.events("store_unreadable")[0]["ref"] == "broken"
    assert "hunter" not in "".join(daemon.log)


def damage(daemon: Daemon) -> None:
    """Write into the store of a running daemon what is no JSON."""
    connection = sqlite3.connect(daemon.data_dir / "setpoint.db")
    with locks.holding(daemon.data_dir / "writer.lock", wait_s=DEADLINE_S), connection:
        connection.execute("UPDATE config_versions SET config_json = '{\"hunter3' WHERE service = 'broken'")
    connection.close()
