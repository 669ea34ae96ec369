"""Starts without the broker, from the cache or the defaults, and going on when broker and daemon come and go."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel

from setpoint import Client, NoConfig
from setpoint_contracts import sign_detached
from setpoint_contracts.keys import to_jwk
from setpoint_contracts.signing import VerifyingKey
from tests.brokers import Broker
from tests.caller import calling
from tests.client.conftest import ClientOf
from tests.daemon import Daemon
from tests.waiting import eventually, soon


class Stt(BaseModel):
    """A service's model, with a default for everything."""

    model: str = "base"
    threads: int = 1


class Strict(BaseModel):
    """One without."""

    model: str


async def bound_once(client_of: ClientOf, daemon: Daemon, config: dict[str, Any] | None = None) -> None:
    """Let a service run and end, with its config in the cache."""
    async with client_of(daemon) as client:
        await client.set("stt", config or {"model": "small"})
        await client.bind("stt", Stt)


def files(tmp_path: Path) -> Path:
    """Return the directory of the one daemon whose documents are in the cache."""
    (directory,) = (tmp_path / "cache").iterdir()
    return directory


async def test_starts_from_the_cache(daemon: Daemon, own_broker: Broker, client_of: ClientOf) -> None:
    """With the broker down a start has the last known good config within moments, and goes on live when it is back."""
    await bound_once(client_of, daemon)
    own_broker.stop()
    began = time.monotonic()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert time.monotonic() - began < 5
        assert (live.value, live.source, live.version) == (Stt(model="small"), "cache", 1)
        assert (live.stale, live.refused, live.error) == (True, None, None)
        changes = live.changes()
        own_broker.start()
        await eventually(lambda: not live.stale, "the document is heard")
        assert (live.value, live.source) == (Stt(model="small"), "live")
        await client.set("stt", {"model": "large"})
        change = await soon(anext(changes))  # to hear the same again was none
        assert (change.old.model, change.new.model) == ("small", "large")


async def test_starts_from_the_defaults(daemon: Daemon, own_broker: Broker, client_of: ClientOf) -> None:
    """With nothing in the cache the defaults are in force until the broker is there."""
    own_broker.stop()
    began = time.monotonic()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert time.monotonic() - began < 5
        assert (live.value, live.source, live.version, live.stale) == (Stt(), "defaults", 0, True)
        own_broker.start()
        await client.set("stt", {"threads": 4}, timeout=20)
        await eventually(lambda: live.value.threads == 4, "the config is live")


async def test_without_all_of_them_there_is_no_config(daemon: Daemon, own_broker: Broker, client_of: ClientOf) -> None:
    """No broker, nothing cached, no defaults: `NoConfig` after the timeout says why, and the client goes on."""
    own_broker.stop()
    async with client_of(daemon) as client:
        with pytest.raises(NoConfig, match=r"no connection to the broker \(Connection refused\); and the model has no"):
            await client.bind("stt", Strict, timeout=0.5)
        own_broker.start()
        await client.set("stt", {"model": "small"}, timeout=20)
        assert (await client.bind("stt", Strict)).value.model == "small"


async def test_waits_for_a_broker_when_there_is_nothing_else(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    """A model without defaults and cache waits for the whole of its timeout: the broker may start a moment later."""
    async with client_of(daemon) as client:
        await client.set("stt", {"model": "small"})
    own_broker.stop()
    async with client_of(daemon) as client:
        waiting = asyncio.create_task(client.bind("stt", Strict, timeout=20))
        await eventually(lambda: "no connection" in caplog.text, "a connection was tried")
        own_broker.start()
        assert (await waiting).source == "live"


async def test_goes_on_over_a_restart_of_the_broker(daemon: Daemon, own_broker: Broker, client_of: ClientOf) -> None:
    """While the broker is away the value stays, and is stale; then it goes on, with what changed meanwhile."""
    async with client_of(daemon) as client:
        await client.set("stt", {"threads": 1})
        live = await client.bind("stt", Stt)
        changes = live.changes()
        own_broker.stop()
        await eventually(lambda: live.stale, "the loss is noticed")
        assert (live.value.threads, live.source) == (1, "live")
        own_broker.start()
        await eventually(lambda: not live.stale, "it is live again")
        await client.set("stt", {"threads": 2}, timeout=20)
        assert (await soon(anext(changes))).new.threads == 2


async def test_a_restart_of_the_daemon_is_no_change(daemon: Daemon, client_of: ClientOf) -> None:
    """What the daemon says again after a restart is the same; what is set then counts, in its new epoch."""
    async with client_of(daemon) as client:
        await client.set("stt", {"threads": 1})
        live = await client.bind("stt", Stt)
        changes = live.changes()
        daemon.stop()
        daemon.start()
        daemon.wait_ready()
        written = await client.set("stt", {"threads": 2}, timeout=20)
        change = await soon(anext(changes))
        assert (change.old.threads, change.new.threads) == (1, 2)
        assert change.document.epoch == written.epoch


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _tampered(path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["newest"]["payload"] = content["newest"]["payload"].replace("small", "other")

    _edit(path, change)


def _foreign(path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        newest, key = content["newest"], VerifyingKey("Ed25519", Ed25519PrivateKey.generate())
        newest["jws"] = sign_detached(newest["payload"].encode(), newest["topic"], "key", key)

    _edit(path, change)


def _of_another_service(path: Path) -> None:
    _edit(path, lambda content: content["newest"].update(topic="config/updated/tts"))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "tampered": (_tampered, "no key that is pinned here signed it"),
    "foreign": (_foreign, "no key that is pinned here signed it"),
    "of-another-service": (_of_another_service, "it is another service's"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is not whole"),
    "writable": (lambda path: path.chmod(0o666), "can be written by others"),
    "without-its-key": (lambda path: path.with_name("_keys.json").unlink(), "there is no key to check it with"),
    "other-key": (
        lambda path: _edit(
            path.with_name("_keys.json"),
            lambda content: content["keys"][0].update(to_jwk(Ed25519PrivateKey.generate().public_key())),
        ),
        "no key that is pinned here signed it",
    ),
}


@pytest.mark.parametrize("harm", REFUSED)
async def test_a_cache_that_is_not_believed_says_why(
    harm: str,
    daemon: Daemon,
    own_broker: Broker,
    client_of: ClientOf,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever was done to the cache, the start goes on without it, and `refused` and the log have the reason."""
    caplog.set_level(logging.DEBUG)
    await bound_once(client_of, daemon)
    do, reason = REFUSED[harm]
    do(files(tmp_path) / "stt.json")
    own_broker.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value, live.source) == (Stt(), "defaults")
        assert reason in str(live.refused)
        assert reason in caplog.text
        assert "small" not in caplog.text


def _good_of_another_service(path: Path) -> None:
    other = json.loads(path.with_name("tts.json").read_text())["newest"]
    _edit(path, lambda content: content.update(good=other))


def _good_tampered(path: Path) -> None:
    _edit(path, lambda content: content["good"].update(payload=content["good"]["payload"].replace("small", "other")))


REFUSED_GOOD: dict[str, tuple[Callable[[Path], object], str]] = {
    "of-another-service": (_good_of_another_service, "last good document of stt: it is another service's"),
    "tampered": (_good_tampered, "last good document of stt: no key that is pinned here signed it"),
    "malformed": (lambda path: _edit(path, lambda content: content.update(good=[])), "holds no last good document"),
}


@pytest.mark.parametrize("harm", REFUSED_GOOD)
async def test_a_last_good_document_that_is_not_believed_says_why(
    harm: str,
    daemon: Daemon,
    own_broker: Broker,
    client_of: ClientOf,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The last good document is judged as the newest is, and is not put into force for one that does not fit."""
    await bound_once(client_of, daemon)
    async with client_of(daemon) as client:
        await client.set("tts", {"model": "of-tts"})
        await client.bind("tts", Stt)
        live = await client.bind("stt", Stt)
        changes = live.changes()
        await client.set("stt", {"threads": "x"})
        await soon(anext(changes))
    do, reason = REFUSED_GOOD[harm]
    do(files(tmp_path) / "stt.json")
    own_broker.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value, live.source) == (Stt(), "defaults")
        assert str(live.error).startswith("threads: ")  # the newest was believed, and does not fit
        assert reason in str(live.refused)
        assert reason in caplog.text


async def test_a_last_good_document_is_not_newer_than_the_newest(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf, tmp_path: Path
) -> None:
    """Two true documents that changed places are told: the one that is to be older is not believed."""
    async with client_of(daemon) as client:
        await client.set("stt", {"model": 7})
        await client.bind("stt", Stt)
    early = json.loads((files(tmp_path) / "stt.json").read_text())["newest"]
    await bound_once(client_of, daemon)
    path = files(tmp_path) / "stt.json"
    _edit(path, lambda content: content.update(newest=early, good=content["newest"]))
    path.with_name("_seen.json").unlink()  # with it the older one is refused for that
    own_broker.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value, live.source) == (Stt(), "defaults")
        assert "it is newer than the newest" in str(live.refused)


async def test_an_older_document_in_the_cache_is_refused(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf, tmp_path: Path
) -> None:
    """A true document of earlier, put back in its file, is a replay: a newer one was seen."""
    await bound_once(client_of, daemon)
    older = (files(tmp_path) / "stt.json").read_bytes()
    await bound_once(client_of, daemon, {"model": "large"})
    (files(tmp_path) / "stt.json").write_bytes(older)
    own_broker.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.source, live.value) == ("defaults", Stt())
        assert "older than one that was seen" in str(live.refused)


async def test_a_cache_is_of_one_broker_and_believed_with_its_key(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf, tmp_path: Path
) -> None:
    """With the daemon's key, given or pinned, a cached document is believed; at another port none of it is used."""
    await bound_once(client_of, daemon)
    keys = json.loads((files(tmp_path) / "_keys.json").read_text())
    own_broker.stop()
    (files(tmp_path) / "_keys.json").unlink()
    async with client_of(daemon, keys=keys) as client:
        assert (await client.bind("stt", Stt)).source == "cache"
    async with client_of(daemon, keys=keys, port=daemon.port + 1) as client:
        assert (await client.bind("stt", Stt)).source == "defaults"


async def test_goes_on_when_the_cache_cannot_be_written(
    daemon: Daemon, client_of: ClientOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A service whose disk is full or gone has its config all the same, and the log says so once."""
    (tmp_path / "file").touch()
    async with client_of(daemon, cache_dir=tmp_path / "file") as client:
        await client.set("stt", {"threads": 1})
        live = await client.bind("stt", Stt)
        assert live.source == "live"
        await client.set("stt", {"threads": 2})
        await eventually(lambda: live.value.threads == 2, "the change is applied")
    assert caplog.text.count("cannot be written") == 1


async def test_starts_live_without_the_daemon(daemon: Daemon, client_of: ClientOf) -> None:
    """The broker alone is enough to follow: documents and the daemon's key are retained there."""
    async with client_of(daemon) as client:
        await client.set("stt", {"threads": 2})
    daemon.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value.threads, live.source, live.stale) == (2, "live", False)


async def test_what_is_told_of_is_on_disk_already(daemon: Daemon, client_of: ClientOf, tmp_path: Path) -> None:
    """Whenever a binding or a watcher sees a document, its order is kept; of a bound service all of it is."""
    async with client_of(daemon) as client:
        await client.set("stt", {"threads": 0})
        live, watch = await client.bind("stt", Stt), client.watch("*")
        changes = live.changes()
        for n in range(20):
            seen = (await soon(anext(watch))).revision
            assert json.loads((files(tmp_path) / "_seen.json").read_text())["stt"][1] >= seen
            await client.set("stt", {"threads": n + 1})
            change = await soon(anext(changes))
            kept = json.loads((files(tmp_path) / "stt.json").read_text())
            assert json.loads(kept["newest"]["payload"])["version"] >= change.document.version


async def test_a_deletion_is_kept_too(daemon: Daemon, own_broker: Broker, client_of: ClientOf) -> None:
    """Who knows that a service was deleted starts with the defaults, and not with what was there before."""
    async with client_of(daemon) as client:
        await client.set("stt", {"threads": 2})
        live = await client.bind("stt", Stt)
        await client.delete("stt")
        await eventually(lambda: live.source == "defaults", "the tombstone is applied")
    own_broker.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value, live.source, live.version) == (Stt(), "defaults", 2)
        strict = await client.bind("stt", Strict, defaults=Strict(model="mine"))
        assert (strict.value.model, strict.source) == ("mine", "defaults")


async def test_a_start_finds_a_deletion_whose_tombstone_was_cleared(daemon: Daemon, client_of: ClientOf) -> None:
    """The service was deleted while nobody ran, and nothing is retained of it any more: the daemon is asked."""
    await bound_once(client_of, daemon)
    topic = daemon.topics.updated("stt")
    async with calling(daemon, None, topic) as admin:
        await admin.ok("delete", {"service": "stt"})
        while b"deleted" not in bytes((await admin.message(topic)).payload):
            pass
        daemon.stop()  # it would repair what is cleared before its time
        await admin.mqtt.publish(topic, b"", qos=1, retain=True)
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt, timeout=0.1)
        assert (live.value.model, live.source, live.stale) == ("small", "cache", True)
        daemon.start()
        await eventually(lambda: live.source == "defaults", "the tombstone is found")
        assert (live.value, live.version, live.stale) == (Stt(), 2, False)


async def test_says_why_there_is_nothing(daemon: Daemon, client_of: ClientOf, tmp_path: Path) -> None:
    """With another key given than the daemon's, what is published counts for nothing, and the error says that."""
    async with client_of(daemon) as client:
        await client.set("stt", {"model": "small"})
    other = {**to_jwk(Ed25519PrivateKey.generate().public_key()), "kid": "other"}
    url = f"mqtt://{daemon.host}:{daemon.port}"
    async with Client(url, keys=other, cache_dir=tmp_path / "other") as client:  # with a token it would ask
        with pytest.raises(NoConfig, match="what came was ignored: no key that is pinned here signed it"):
            await client.bind("stt", Strict, timeout=1)
