"""What others publish in the daemon's place, to clients that bind and watch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from setpoint import Client, asking
from setpoint_contracts import strictjson
from setpoint_contracts.keys import to_jwk
from setpoint_contracts.numbers import MAX_INTEGER
from setpoint_contracts.signing import VerifyingKey
from tests.brokers import Broker
from tests.caller import calling, publish_properties
from tests.client.conftest import ClientOf
from tests.daemon import Daemon, NewDaemon, make_data_dir
from tests.impostor import key_of, say, strange_key
from tests.waiting import eventually, soon


class Stt(BaseModel):
    """A service's model."""

    threads: int = 0


async def test_forged_and_replayed_documents_are_ignored(
    shared_daemon: Daemon, client: Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Signed by another key, not at all, or older: neither value nor watcher moves, and the log says why."""
    topic = shared_daemon.topics.updated(service)
    kid, _ = key_of(shared_daemon.data_dir)
    _, stranger = strange_key()
    async with calling(shared_daemon, None, topic) as admin:
        await client.set(service, {"threads": 1})
        first = await admin.message(topic)
        live, watch = await client.bind(service, Stt), client.watch(service)
        changes = live.changes()
        assert (await soon(anext(watch))).version == 1
        await client.set(service, {"threads": 2})
        assert (await soon(anext(changes))).new.threads == 2
        assert (await soon(anext(watch))).version == 2

        assert live.document is not None
        forged = {**live.document.model_dump(exclude_none=True), "epoch": MAX_INTEGER, "config": {"threads": 666}}
        await say(admin.mqtt, topic, forged, (kid, stranger))
        await say(admin.mqtt, topic, forged)
        await say(admin.mqtt, topic, b"")
        properties = publish_properties(UserProperty=vars(first.properties)["UserProperty"])
        await admin.mqtt.publish(topic, bytes(first.payload), qos=1, retain=True, properties=properties)
        for reason in ("no key that is pinned here signed it", "it is not signed", "it is older than"):
            await eventually(lambda reason=reason: reason in caplog.text, reason)  # type: ignore[misc]
        assert (live.value.threads, live.version, live.error) == (2, 2, None)
        await eventually(lambda: not live.stale, "the daemon has said again what counts")

        await client.set(service, {"threads": 3})
        change = await soon(anext(changes))
        assert (change.old.threads, change.new.threads) == (2, 3)
        assert (await soon(anext(watch))).version == 3


async def test_a_replay_after_a_restart_is_ignored(
    shared_daemon: Daemon, client: Client, client_of: ClientOf, service: str
) -> None:
    """What a process took, the next one with its cache knows: it never takes an older document, bound or watched."""
    topic = shared_daemon.topics.updated(service)
    async with calling(shared_daemon, None, topic) as admin:
        await client.set(service, {"threads": 1})
        first = await admin.message(topic)
        await client.set(service, {"threads": 2})
        await admin.message(topic)
        async with client_of(shared_daemon) as before:
            assert (await soon(anext(before.watch(f"{service[:-1]}?")))).version == 2
        properties = publish_properties(UserProperty=vars(first.properties)["UserProperty"])
        await admin.mqtt.publish(topic, bytes(first.payload), qos=1, retain=True, properties=properties)
        async with client_of(shared_daemon, token=shared_daemon.new_token("v", "viewer")) as after:
            live = await after.bind(service, Stt, timeout=5)
            assert live.value.threads == 2  # asked for, since what is retained counts for nothing
            assert (await soon(anext(after.watch(service)))).version == 2


async def test_the_pinned_key_stays(
    shared_daemon: Daemon, client: Client, client_of: ClientOf, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another key set, and what is signed with its key, change nothing, in this process and in the next one."""
    topics = shared_daemon.topics
    await client.set(service, {"threads": 1})
    live = await client.bind(service, Stt)
    kid, stranger = strange_key()
    try:
        async with calling(shared_daemon) as admin:
            public = {name: value for name, value in to_jwk(stranger.key).items() if name != "d"}
            await say(admin.mqtt, topics.keys, {"keys": [{**public, "kid": kid, "alg": "Ed25519"}]}, (kid, stranger))
            await eventually(lambda: "another key signed it" in caplog.text, "the other key is reported")
            async with client_of(shared_daemon) as other:
                await _forge(admin.mqtt, topics.updated(service), service, (kid, stranger))
                await eventually(lambda: "no key that is pinned" in caplog.text, "the forgery is reported")
                changes = live.changes()
                await client.set(service, {"threads": 2})
                assert (await soon(anext(changes))).new.threads == 2
                assert (await other.bind(service, Stt)).value.threads == 2
    finally:
        async with calling(shared_daemon) as admin:
            await _restore_keys(shared_daemon, admin.mqtt)


async def test_of_a_replaced_store_nothing_is_current_and_the_daemon_is_asked(
    daemon: Daemon,
    new_daemon: NewDaemon,
    own_broker: Broker,
    client_of: ClientOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While another key signs than is pinned, a value is stale, goes on by replies, and the log says what to do."""
    monkeypatch.setattr(asking, "_SILENCE_S", 0.2)
    topics = daemon.topics
    async with client_of(daemon) as client:
        await client.set("stt", {"threads": 1})
        await client.bind("stt", Stt)
    daemon.stop()
    async with calling(daemon) as admin:
        for topic in (topics.keys, topics.updated("stt")):
            await admin.mqtt.publish(topic, b"", qos=1, retain=True)
    make_data_dir(tmp_path / "replaced")
    replaced = new_daemon(broker=own_broker, prefix="", data_dir=tmp_path / "replaced")
    async with client_of(replaced) as client:
        for threads in (2, 3, 4):
            await client.set("stt", {"threads": threads})
        live = await client.bind("stt", Stt)
        for threads in (5, 6):
            await client.set("stt", {"threads": threads})
            await eventually(lambda threads=threads: live.value.threads == threads, "it was asked for")  # type: ignore[misc]
            assert live.stale
    assert "and `setpoint doctor` says how" in caplog.text


@pytest.mark.parametrize("new_key", [None, strange_key], ids=["unsigned", "strange"])
async def test_a_forgery_in_a_documents_place_makes_it_stale(
    new_key: Callable[[], tuple[str, VerifyingKey]] | None, daemon: Daemon, client_of: ClientOf, tmp_path: Path
) -> None:
    """What somebody put in its place on the broker makes a value stale, until the daemon has put it right."""
    topic = daemon.topics.updated("stt")
    async with client_of(daemon) as client:
        await client.set("stt", {"threads": 1})
    async with Client(f"mqtt://{daemon.host}:{daemon.port}", cache_dir=tmp_path / "other") as follower:
        live = await follower.bind("stt", Stt)
        assert not live.stale
        async with calling(daemon) as admin:
            daemon.stop()
            document = {"service": "stt", "version": 9, "revision": 9, "epoch": MAX_INTEGER, "config": {"threads": 666}}
            await say(admin.mqtt, topic, document, new_key and new_key())
        await eventually(lambda: live.stale, "it is stale")
        daemon.start()
        await eventually(lambda: not live.stale, "it is put right")
        assert live.value.threads == 1


async def _forge(mqtt: Any, topic: str, service: str, key: tuple[str, VerifyingKey]) -> None:
    head = {"service": service, "version": 9, "revision": 9, "epoch": MAX_INTEGER}
    await say(mqtt, topic, {**head, "config": {"threads": 666}}, key)


async def _restore_keys(daemon: Daemon, mqtt: Any) -> None:
    kid, key = key_of(daemon.data_dir)
    public = {name: value for name, value in to_jwk(key.key).items() if name != "d"}
    key_set = {"keys": [{**public, "kid": kid, "alg": "Ed25519", "use": "sig"}]}
    await say(mqtt, daemon.topics.keys, strictjson.dumps(key_set).encode(), (kid, key))
