"""`setpointd epoch advance`: a store whose daemon is stopped becomes the truth (wire section 7)."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from setpointd.keys import Keys
from tests.brokers import Broker, LocalBroker, free_port
from tests.caller import calling, connecting, publish_properties, retained
from tests.daemon import SETPOINTD, Daemon, NewDaemon, make_data_dir
from tests.waiting import DEADLINE_S, eventually


class Follower:
    """Follows all services as contracts/following.md tells: it believes one key, and the greatest (epoch, revision)."""

    def __init__(self, daemon: Daemon) -> None:
        self._topics = daemon.topics
        self._keys = Keys.load(daemon.data_dir)
        self.holds: dict[str, dict[str, Any]] = {}
        self.said: dict[tuple[str, int, int], bytes] = {}
        """Every content that was ever said, by service, epoch and revision."""

    def hear(self, topic: str, payload: bytes, jws: str | None) -> None:
        """Take a message in."""
        service = self._topics.updated_service(topic)
        if service is None or jws is None or not self._keys.made(topic, payload, jws):
            return
        document = json.loads(payload)
        at = (document["epoch"], document["revision"])
        assert self.said.setdefault((service, *at), payload) == payload, "two contents have one epoch and revision"
        before = self.holds.get(service)
        if before is None or at > (before["epoch"], before["revision"]):
            assert before is None or document["version"] > before["version"]
            self.holds[service] = document

    def configs(self) -> dict[str, Any]:
        """Return the configs as the follower has them; None: deleted."""
        return {service: document.get("config") for service, document in sorted(self.holds.items())}


@asynccontextmanager
async def following(daemon: Daemon) -> AsyncIterator[Follower]:
    """Follow a daemon's services, over its restarts and those of its copies."""
    follower = Follower(daemon)

    async def listen() -> None:
        async for message in broker.messages:
            pairs = dict(getattr(message.properties, "UserProperty", ()))
            follower.hear(str(message.topic), bytes(message.payload), pairs.get("jws"))

    async with connecting(daemon) as broker:
        await broker.subscribe(daemon.topics.all_updated, qos=1)
        listener = asyncio.create_task(listen(), name="follower")
        try:
            yield follower
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)


def advance(daemon: Daemon, *more: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `setpointd epoch advance` with the settings that the daemon runs with, but for those in ``more``."""
    names = {"data_dir", "broker", "broker_ca", "topic_prefix"} & daemon.settings.keys()
    if "--broker" in more:
        names -= {"broker", "broker_ca"}
    if "--data-dir" in more:
        names -= {"data_dir"}
    options = [text for name in names for text in (f"--{name.replace('_', '-')}", str(daemon.settings[name]))]
    return subprocess.run(
        [SETPOINTD, "epoch", "advance", *options, *more],
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def advanced(daemon: Daemon, *more: str | Path, **env: str) -> str:
    """Advance a store, which must succeed; returns what it prints."""
    done = advance(daemon, *more, **env)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(daemon: Daemon, *more: str | Path) -> str:
    """Advance a store, which must fail with one line, and change nothing in it."""
    before = (daemon.data_dir / "setpoint.db").read_bytes()
    done = advance(daemon, *more)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert (daemon.data_dir / "setpoint.db").read_bytes() == before
    return done.stderr.removeprefix("setpointd: ").strip()


async def published(daemon: Daemon) -> None:
    """Wait until everything that was committed is with the broker."""
    await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")


def mode_of(daemon: Daemon) -> str:
    """Read the mode that `/health` names."""
    return str(json.loads(daemon.probe("/health")[1] or "{}").get("mode"))


async def restored_copy(daemon: Daemon, new_daemon: NewDaemon, path: Path) -> Daemon:
    """Let a daemon go on after its directory was copied, then end it; the copy is what a backup brings back."""
    async with calling(daemon) as admin:
        for service in ("kept", "deleted"):
            await admin.ok("set", {"service": service, "config": {"from": "backup"}})
        await published(daemon)
        daemon.stop()
        shutil.copytree(daemon.data_dir, path)
        daemon.start()
        daemon.wait_ready()
        for number in range(3):
            await admin.ok("set", {"service": "kept", "config": {"from": "later", "number": number}})
        await admin.ok("set", {"service": "new", "config": {"from": "later"}})
        await admin.ok("delete", {"service": "deleted"})
        await published(daemon)
    daemon.stop()
    return new_daemon(data_dir=path, prefix=daemon.prefix, start=False)


async def test_a_restored_copy_becomes_the_truth(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """It read only before; then every follower has what it has, in versions that nobody had seen, and it writes."""
    daemon = new_daemon()
    async with following(daemon) as follower:
        copy = await restored_copy(daemon, new_daemon, tmp_path / "copy")
        copy.start()
        copy.wait_ready()
        assert mode_of(copy) == "read_only"
        copy.stop()
        seen = {service: document["version"] for service, document in follower.holds.items()}
        assert seen == {"kept": 4, "deleted": 2, "new": 1}

        said = advanced(copy)
        assert said.endswith("services with a new version: 2, deleted because only the broker knew them: 1\n")
        assert follower.configs()["kept"] == {"from": "later", "number": 2}  # nothing is said before the start
        copy.start()
        copy.wait_ready()
        assert mode_of(copy) == "active"
        await published(copy)
        expected = {"deleted": {"from": "backup"}, "kept": {"from": "backup"}, "new": None}
        await eventually(lambda: follower.configs() == expected, "the follower has what the copy has")
        assert {service: document["version"] for service, document in follower.holds.items()} == {
            "kept": 5,
            "deleted": 3,
            "new": 2,
        }
        async with calling(copy) as admin:
            made = await admin.ok("set", {"service": "new", "config": {"from": "now"}, "expected_version": 2})
            assert made["version"] == 3
            status = await admin.ok("status")
            document = follower.holds["kept"]
            assert f"epoch {document['epoch']}, revision {document['revision']};" in said
            assert status["epoch"] > document["epoch"]
            assert status["revision"] == document["revision"] + 1
        await eventually(lambda: follower.configs()["new"] == {"from": "now"}, "the follower has the newest")

    topics = copy.topics
    documents = await retained(copy, topics.all_updated)
    assert {topics.updated_service(topic): json.loads(payload)["version"] for topic, payload in documents.items()} == {
        "kept": 5,
        "deleted": 3,
        "new": 3,
    }
    copy.stop()
    daemon.start()  # the other one is behind now, and says nothing more
    daemon.wait_ready()
    assert mode_of(daemon) == "read_only"


async def test_what_nobody_signed_moves_no_number(new_daemon: NewDaemon) -> None:
    """Versions, epoch and revision go above what the store's own key has signed, whatever else is retained."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "stt", "config": {}})
        await published(daemon)
        status = await admin.ok("status")
    daemon.stop()
    forged = {"service": "stt", "version": 900, "revision": 900, "epoch": 2**52, "config": {}}
    async with connecting(daemon) as broker:
        for service in ("stt", "unheard-of"):
            payload = json.dumps({**forged, "service": service})
            await broker.publish(daemon.topics.updated(service), payload, qos=1, retain=True)
    said = advanced(daemon)
    assert f"revision {status['revision'] + 1}; services with a new version: 1, deleted" in said
    assert said.endswith("only the broker knew them: 0\n")
    assert str(2**52) not in said
    daemon.start()
    daemon.wait_ready()
    async with calling(daemon) as admin:
        assert (await admin.ok("get", {"service": "stt"}))["version"] == 2


async def test_another_stores_claim_gives_way(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """A store that never wrote on this broker becomes the truth there, and what the other one retained is gone."""
    first = new_daemon()
    async with calling(first) as admin:
        await admin.ok("set", {"service": "stt", "config": {"of": "first"}})
        await published(first)
    first.stop()
    make_data_dir(tmp_path / "foreign")
    second = new_daemon(data_dir=tmp_path / "foreign", prefix=first.prefix)
    assert mode_of(second) == "read_only"
    second.stop()
    advanced(second)
    second.start()
    second.wait_ready()
    assert mode_of(second) == "active"
    async with calling(second) as admin:
        await admin.ok("set", {"service": "tts", "config": {"of": "second"}})
        await published(second)
        await _only_retained(second, "tts")


async def _only_retained(daemon: Daemon, service: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while list(await retained(daemon, daemon.topics.all_updated)) != [daemon.topics.updated(service)]:
            pass


async def test_refused_while_a_daemon_lives(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """Neither under a daemon that runs on the directory, nor beside one that lives on the broker with a copy of it."""
    daemon = new_daemon()
    line = refused(daemon)
    assert line == f"a daemon runs on {daemon.data_dir}: stop it, or send it the command epoch/advance"
    daemon.stop()
    copy = new_daemon(data_dir=shutil.copytree(daemon.data_dir, tmp_path / "copy"), prefix=daemon.prefix, start=False)
    daemon.start()
    daemon.wait_ready()
    async with calling(daemon) as admin:
        instance = (await admin.ok("status"))["instance"]
    assert refused(copy) == f"the store was not changed: instance {instance} is alive on the broker: stop it first"
    assert mode_of(daemon) == "active"


async def test_who_is_only_said_to_live_holds_nothing_up(new_daemon: NewDaemon) -> None:
    """After a power cut the broker may say that the daemon lives; it is asked, and does not answer."""
    daemon = new_daemon()
    async with connecting(daemon) as broker:
        await broker.subscribe(daemon.topics.health, qos=1)
        async with asyncio.timeout(DEADLINE_S):
            alive = await anext(aiter(broker.messages))
        assert json.loads(bytes(alive.payload))["ok"] is True
        daemon.kill()
        [(name, jws)] = vars(alive.properties)["UserProperty"]
        properties = publish_properties(UserProperty=(name, jws))
        await broker.publish(daemon.topics.health, bytes(alive.payload), qos=1, retain=True, properties=properties)
    assert "services with a new version: 0" in advanced(daemon)
    daemon.start()
    daemon.wait_ready()
    assert mode_of(daemon) == "active"


async def test_broker_that_cannot_be_asked(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """Without knowing what was seen nothing is changed; it is one line, whatever the reason."""
    daemon = new_daemon(start=False)
    port = free_port()
    line = refused(daemon, "--broker", f"mqtt://127.0.0.1:{port}")
    assert line.startswith(f"the store was not changed: the broker at 127.0.0.1:{port} cannot be asked: ")
    assert "refused" in line
    line = refused(daemon, "--broker", "mqtts://127.0.0.1:1", "--broker-ca", tmp_path / "none.pem")
    assert line.startswith(f"the CA file {tmp_path}/none.pem cannot be used")
    assert refused(daemon, "--data-dir", tmp_path / "none").startswith(f"no store in {tmp_path}/none: ")


@pytest.fixture
def guarded(certificate: Path, tmp_path: Path) -> Iterator[Broker]:
    """Start a broker that asks for a password."""
    directory = tmp_path / "guarded"
    directory.mkdir()
    passwords = directory / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "setpointd", "s3cret"], check=True)
    broker = LocalBroker(directory, certificate, f"allow_anonymous false\npassword_file {passwords}")
    broker.start()
    yield broker
    broker.remove()


async def test_broker_with_password_and_tls(guarded: Broker, new_daemon: NewDaemon, tmp_path: Path) -> None:
    """The broker's settings are those of `setpointd run`, and are given in the same ways."""
    daemon = new_daemon(broker=guarded, start=False)
    url = f"mqtts://setpointd@{guarded.host}:{guarded.tls_port}"
    options = ("--broker", url, "--broker-ca", guarded.ca)
    assert "ot authori" in refused(daemon, *options)
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    assert "epoch " in advanced(daemon, *options, SETPOINT_BROKER_PASSWORD_FILE=str(password))
    config = tmp_path / "setpoint.toml"
    config.write_text('broker_password = "s3cret"\n')
    assert "epoch " in advanced(daemon, *options, "--config", config)
