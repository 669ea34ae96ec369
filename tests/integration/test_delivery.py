"""Commands in, replies and updates out: what arrives, how often, in which order, and how it is signed."""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import aiomqtt
import pytest

from setpoint_contracts import Token, verify_detached
from setpoint_contracts.system import EpochClaim, Health
from setpoint_contracts.timestamps import rfc3339
from setpointd.store.files import DATABASE
from tests.brokers import Broker
from tests.caller import Caller, calling, connecting, publish_properties, retained
from tests.daemon import Daemon, NewDaemon
from tests.impostor import key_of, say
from tests.waiting import eventually


def signed_by_daemon(caller: Caller, message: aiomqtt.Message) -> bool:
    """Say whether a message carries the daemon's own signature over its topic and payload."""
    ((_, jws),) = vars(message.properties)["UserProperty"]
    return any(
        verify_detached(bytes(message.payload), str(message.topic), jws, kid, key)
        for kid, key in caller.daemon_keys.items()
    )


async def messages(caller: Caller, topic: str, count: int) -> list[aiomqtt.Message]:
    """Wait for so many messages on a topic."""
    return [await caller.message(topic) for _ in range(count)]


# Commands


async def test_commands_sent_while_the_daemon_is_down_run_when_it_returns(new_daemon: NewDaemon) -> None:
    """They wait in the daemon's session at the broker, and are answered in their order."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        assert daemon.stop() == 0
        jtis = [f"waiting-{n}" for n in range(30)]
        for n, jti in enumerate(jtis):
            jws = admin.sign("set", {"service": "stt", "config": {"n": n}, "expected_version": n}, jti=jti)
            await admin.mqtt.publish(admin.topics.command("set"), jws, qos=1)
        daemon.start()
        replies = [await admin.reply(admin.topics.reply("admin", jti)) for jti in jtis]
    assert [reply.result and reply.result["version"] for reply in replies] == list(range(1, 31))


async def test_a_command_sent_twice_has_one_effect_and_one_reply(admin: Caller, service: str) -> None:
    """Sent many times without waiting, in one batch or in several: one version, and the same bytes every time."""
    jws = admin.sign("patch", {"service": service, "patch": {"n": 1}}, jti=service)
    await admin.ok("set", {"service": service, "config": {}})
    for _ in range(20):
        await admin.mqtt.publish(admin.topics.command("patch"), jws, qos=1)
    replies = await messages(admin, admin.topics.reply("admin", service), 20)
    assert len({bytes(reply.payload) for reply in replies}) == 1
    assert admin.read(replies[0]).ok
    assert (await admin.ok("get", {"service": service}))["version"] == 2


async def test_a_stored_reply_outlives_the_daemon(new_daemon: NewDaemon) -> None:
    """After a restart, and after a kill, the same command gets the same bytes."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        topic, reply_topic = admin.topics.command("set"), admin.topics.reply("admin", "once")
        jws = admin.sign("set", {"service": "stt", "config": {"a": 1}}, jti="once", lifetime_s=600)
        replies = set()
        for end in (daemon.stop, daemon.kill, None):
            await admin.mqtt.publish(topic, jws, qos=1)
            message = await admin.message(reply_topic)
            assert admin.read(message).ok
            replies.add(bytes(message.payload))
            if end is not None:
                end()
                daemon.start()
        assert len(replies) == 1
        assert (await admin.ok("status"))["revision"] == 1


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_any_quality_of_service_will_do(qos: int, admin: Caller, service: str) -> None:
    """A command is carried out once at QoS 0, 1 and 2."""
    jws = admin.sign("set", {"service": service, "config": {}}, jti=service)
    await admin.mqtt.publish(admin.topics.command("set"), jws, qos=qos)
    reply = await admin.reply(admin.topics.reply("admin", service))
    assert reply.result is not None
    assert reply.result["version"] == 1


async def test_a_caller_may_speak_mqtt_3(shared_daemon: Daemon, service: str) -> None:
    """All that a command needs is in its payload: the reply comes to a client of MQTT 3.1.1, too."""
    async with (
        calling(shared_daemon) as signer,
        aiomqtt.Client(shared_daemon.host, shared_daemon.port, protocol=aiomqtt.ProtocolVersion.V311) as old,
    ):
        await old.subscribe(signer.topics.reply("admin", service), qos=1)
        jws = signer.sign("set", {"service": service, "config": {"a": 1}}, jti=service)
        await old.publish(signer.topics.command("set"), jws, qos=1)
        reply = json.loads(bytes((await anext(old.messages)).payload))
    assert (reply["id"], reply["ok"], reply["result"]["config"]) == (service, True, {"a": 1})


async def test_mqtt_5_request_and_response(admin: Caller) -> None:
    """The Response Topic is answered, and Correlation Data comes back, whatever bytes it holds."""
    topic = admin.topics.reply("admin", "rr/1")
    for data in (b"\x00\xff\xfe binary", b"", b"x" * 10_000):
        properties = publish_properties(ResponseTopic=topic, CorrelationData=data)
        await admin.mqtt.publish(admin.topics.command("info"), admin.sign("info"), qos=1, properties=properties)
        message = await admin.message(topic)
        assert admin.read(message).ok
        assert vars(message.properties).get("CorrelationData", b"") == data


async def test_no_reply_where_none_is_wanted(admin: Caller, service: str, shared_daemon: Daemon) -> None:
    """`reply_to` null: the command runs, and nothing is said."""
    async with connecting(shared_daemon) as witness:
        await witness.subscribe(admin.topics.reply("admin", "#"), qos=1)
        jws = admin.sign("set", {"service": service, "config": {}}, reply_to=None)
        await admin.mqtt.publish(admin.topics.command("set"), jws, qos=1)
        document = await admin.ok("set", {"service": service, "config": {"a": 1}}, jti=service)  # behind the first
        assert document["version"] == 2
        assert str((await anext(witness.messages)).topic) == admin.topics.reply("admin", service)


async def test_replies_to_ed25519_tokens_carry_the_daemons_signature(shared_daemon: Daemon, service: str) -> None:
    """Who shares no secret with the daemon checks its replies with its public key, found on the broker."""
    token = shared_daemon.new_token("ops", "admin", "--alg", "Ed25519")
    async with calling(shared_daemon, token) as ops:
        await ops.ok("set", {"service": service, "config": {}})
        await ops.mqtt.publish(ops.topics.command("info"), ops.sign("info", jti=service), qos=1)
        message = await ops.message(ops.topics.reply("ops", service))
        assert signed_by_daemon(ops, message)


# Updates


async def test_an_update_is_the_retained_config_document(shared_daemon: Daemon, service: str) -> None:
    """After a write the newest document is retained on the service's topic, signed by the daemon for that topic."""
    topic = shared_daemon.topics.updated(service)
    async with calling(shared_daemon, None, topic) as admin:
        await admin.ok("set", {"service": service, "config": {"a": {"b": [1, True, 1.0, "é"]}}})
        live = await admin.message(topic)
        document = await admin.ok("get", {"service": service})
        assert json.loads(bytes(live.payload)) == document
        assert (live.qos, live.retain) == (1, False)
        assert vars(live.properties)["ContentType"] == "application/json"
        assert vars(live.properties)["PayloadFormatIndicator"] == 1
    async with calling(shared_daemon, None, topic) as late:
        kept = await late.message(topic)
        await eventually(lambda: late.daemon_keys, "the daemon's keys have arrived")
        assert kept.retain
        assert kept.payload == live.payload
        assert signed_by_daemon(late, kept)
        assert signed_by_daemon(late, live)


async def test_deleting_says_so_and_keeps_saying_so(shared_daemon: Daemon, service: str) -> None:
    """The tombstone is retained and signed, nothing clears it; what is set again stands in its place."""
    topic = shared_daemon.topics.updated(service)
    async with calling(shared_daemon, None, topic) as admin:
        await admin.ok("set", {"service": service, "config": {}})
        await admin.message(topic)
        tombstone = await admin.ok("delete", {"service": service})
        assert json.loads(bytes((await admin.message(topic)).payload)) == tombstone
        assert json.loads((await retained(shared_daemon, topic))[topic]) == tombstone
        again = await admin.ok("set", {"service": service, "config": {}})
        assert json.loads(bytes((await admin.message(topic)).payload))["version"] == again["version"] == 3
    assert json.loads((await retained(shared_daemon, topic))[topic])["version"] == 3


async def test_a_tombstone_is_cleared_in_the_end(new_daemon: NewDaemon) -> None:
    """After the days that it is kept for, its topic is cleared; a younger one stays, and so does the version."""
    daemon = new_daemon(tombstone_keep_days=2)
    old, young = (daemon.topics.updated(service) for service in ("old", "young"))
    async with calling(daemon) as admin:
        for service in ("old", "young"):
            await admin.ok("set", {"service": service, "config": {}})
            await admin.ok("delete", {"service": service})
        daemon.stop()
        with contextlib.closing(sqlite3.connect(daemon.data_dir / DATABASE)) as db, db:
            for service, days in (("old", 3), ("young", 1)):
                at = rfc3339(time.time() - days * 86_400)
                db.execute("UPDATE config_state SET updated_at = ? WHERE service = ?", (at, service))
        for _ in range(2):  # what has run out is found at the latest when a daemon stops
            daemon.start()
            daemon.wait_ready()
            assert daemon.stop() == 0
        assert set(await retained(daemon, daemon.topics.all_updated)) == {young}
        daemon.start()
        daemon.wait_ready()
        assert (await admin.ok("set", {"service": "old", "config": {}}))["version"] == 3
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
        assert set(await retained(daemon, daemon.topics.all_updated)) == {old, young}


async def test_updates_may_be_skipped_and_are_never_reordered(shared_daemon: Daemon, service: str) -> None:
    """Of many quick writes, those that are announced come in their order, and the last one always comes."""
    topic = shared_daemon.topics.updated(service)
    async with calling(shared_daemon, None, topic) as admin:
        for n in range(300):
            jws = admin.sign("set", {"service": service, "config": {"n": n}}, reply_to=None)
            await admin.mqtt.publish(admin.topics.command("set"), jws, qos=1)
        versions = []
        while 300 not in versions:
            versions.append(json.loads(bytes((await admin.message(topic)).payload))["version"])
        document = await admin.ok("get", {"service": service})
    assert versions == sorted(set(versions))
    kept = await retained(shared_daemon, topic)
    assert json.loads(kept[topic]) == document


async def test_every_change_is_announced_as_an_event(shared_daemon: Daemon, service: str) -> None:
    """Who changed what, in which request, at which revision, and why; never to what."""
    updates, deletes = (shared_daemon.topics.audit(f"{action}_config") for action in ("update", "delete"))
    async with calling(shared_daemon, None, updates, deletes) as admin:
        params = {"service": service, "config": {"password": "hunter2"}, "reason": "new"}
        document = await admin.ok("set", params, jti=f"set-{service}")
        while (event := await admin.event(updates))["service"] != service:
            pass  # of an earlier test's service
        assert event == {
            "action": "update_config",
            "user": "admin",
            "service": service,
            "timestamp": document["updated_at"],
            "request_id": f"set-{service}",
            "revision": document["revision"],
            "details": {"version": 1, "op": "set", "keys": ["password"], "reason": "new"},
        }
        await admin.ok("delete", {"service": service})
        assert (await admin.event(deletes))["details"] == {"version": 2, "op": "delete", "keys": ["password"]}


# What the daemon says of itself


async def test_health_claim_and_keys_are_retained(new_daemon: NewDaemon) -> None:
    """Who runs, whose store it is and how far, and the public keys; the claim follows the revision."""
    daemon = new_daemon()
    topics = daemon.topics
    async with calling(daemon, None, topics.epoch) as admin:
        status = await admin.ok("status")
        claims = [EpochClaim.model_validate_json(bytes((await admin.message(topics.epoch)).payload))]
        await admin.ok("set", {"service": "stt", "config": {}})
        while claims[-1].revision < 1:
            message = await admin.message(topics.epoch)
            claims.append(EpochClaim.model_validate_json(bytes(message.payload)))
        assert signed_by_daemon(admin, message)
    assert {str(claim.store_id) for claim in claims} == {status["store_id"]}
    assert {(claim.epoch, str(claim.instance)) for claim in claims} == {(status["epoch"], status["instance"])}
    kept = await retained(daemon, topics.health, topics.keys)
    health = Health.model_validate_json(kept[topics.health])
    assert (health.ok, health.event, health.mode, health.epoch) == (True, "online", "active", status["epoch"])
    (key,) = json.loads(kept[topics.keys])["keys"]
    assert key.keys() == {"kty", "crv", "x", "kid", "alg", "use"}  # and no private half


async def test_each_command_is_logged_and_counted_once(new_daemon: NewDaemon) -> None:
    """One event each, with request, principal, command, outcome and duration, and no value of a config."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "stt", "config": {"password": "hunter2"}, "reason": "hunter3"}, jti="one")
        await admin.error("get", {"service": "nowhere"}, jti="two")
        await admin.error("explode/now", {"hunter4": 1}, jti="three")
    logged = [{**event, "duration_ms": event["duration_ms"] > 0} for event in daemon.events("command")]
    assert [(event["request_id"], event["command"], event["code"]) for event in logged] == [
        ("one", "set", "ok"),
        ("two", "get", "not_found"),
        ("three", "unknown", "unknown_command"),
    ]
    assert {(event["principal"], event["duration_ms"]) for event in logged} == {("admin", True)}
    for event in logged:
        assert daemon.metric(f'setpoint_commands_total{{code="{event["code"]}",command="{event["command"]}"}}') == 1
    assert "hunter" not in "".join(daemon.log) + daemon.probe("/metrics")[1]


async def test_a_clean_stop_says_goodbye(new_daemon: NewDaemon) -> None:
    """SIGTERM: what was taken is answered, what was committed is announced, offline is retained, the exit code is 0."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        jtis = [f"last-{n}" for n in range(100)]
        for n, jti in enumerate(jtis):
            jws = admin.sign("set", {"service": f"s{n}", "config": {}}, jti=jti, lifetime_s=600)
            await admin.mqtt.publish(admin.topics.command("set"), jws, qos=1)
        assert daemon.stop() == 0
        kept = await retained(daemon, daemon.topics.health, daemon.topics.all_updated)
        assert json.loads(kept.pop(daemon.topics.health))["ok"] is False
        done = {document["service"] for document in map(json.loads, kept.values())}
        (token,) = json.loads(daemon.command("token", "list", "--json"))["tokens"]
        assert token["last_used_at"] is not None
        answered = {event["request_id"] for event in daemon.events("command")}
        assert done == {jti.replace("last-", "s") for jti in answered}
        daemon.start()  # what it had not taken comes now
        for jti in jtis:
            assert (await admin.reply(admin.topics.reply("admin", jti))).ok


async def test_a_killed_daemon_is_told_dead(new_daemon: NewDaemon) -> None:
    """Its Last Will is retained: offline, and which instance it was."""
    daemon = new_daemon()
    topic = daemon.topics.health
    async with calling(daemon, None, topic) as admin:
        status = await admin.ok("status")
        assert json.loads(bytes((await admin.message(topic)).payload))["ok"] is True
        daemon.kill()
        health = Health.model_validate_json(bytes((await admin.message(topic)).payload))
    assert (health.ok, health.event, str(health.instance)) == (False, "offline", status["instance"])
    assert Health.model_validate_json((await retained(daemon, topic))[topic]) == health


# The connection


async def test_tokens_from_outside_are_noticed(new_daemon: NewDaemon) -> None:
    """A token made or revoked with `setpointd token` while the daemon runs counts within a moment; events tell."""
    daemon = new_daemon()
    made, revoked = (daemon.topics.audit(action) for action in ("create_token", "revoke_token"))
    async with calling(daemon, None, made, revoked) as admin:
        file = daemon.data_dir.with_name("late.jwk")
        kid = daemon.command("token", "create", "late", "--role", "viewer", "--out", file)
        assert (await admin.event(made))["details"]["kid"] == kid
        async with calling(daemon, Token.load(file)) as late:
            assert (await late.ok("info"))["principal"] == "late"
            daemon.command("token", "revoke", kid)
            assert (await admin.event(revoked))["details"] == {"kid": kid}
            assert (await late.error("info"))["code"] == "token_revoked"
        listed = {token["kid"]: token for token in (await admin.ok("token/list"))["tokens"]}
    assert listed[kid]["revoked_at"] is not None
    assert not {"k", "key", "d", "x"} & listed[kid].keys()


async def test_a_session_that_is_taken_over_ends_the_daemon(new_daemon: NewDaemon) -> None:
    """Another living daemon of its store under its client id: it ends with its own exit code and one line, for good."""
    daemon = new_daemon()
    health, key = daemon.topics.health, key_of(daemon.data_dir)
    own = json.loads((await retained(daemon, health))[health])
    other = {**own, "instance": "another one", "epoch": own["epoch"] + 1, "timestamp": "one"}
    async with connecting(daemon, daemon.client_id) as taker:
        # Mosquitto before 2.0.15 does not tell a client that its session was taken; then the health topic does, and the
        # one that it names answers when it is asked whether it lives.
        await taker.subscribe(daemon.topics.look_ask, qos=1)
        await say(taker, health, other, key)
        async with asyncio.TaskGroup() as tasks:
            ended = tasks.create_task(asyncio.to_thread(daemon.wait))
            answering = tasks.create_task(answer(taker, daemon, {**other, "timestamp": "two"}))
            assert await ended == 78
            answering.cancel()
        await say(taker, health, b"")  # the connection is still the taker's
    assert "setpointd: " in daemon.log[-1]
    assert "session" in daemon.log[-1]
    assert len([line for line in daemon.log if line.startswith("setpointd: ")]) == 1


async def answer(taker: aiomqtt.Client, daemon: Daemon, document: dict[str, Any]) -> None:
    """Prove to live whenever somebody asks."""
    async for message in taker.messages:
        if str(message.topic) == daemon.topics.look_ask:
            await say(taker, daemon.topics.health, document, key_of(daemon.data_dir))


async def test_it_starts_before_its_broker(new_broker: Callable[[], Broker], new_daemon: NewDaemon) -> None:
    """Without a broker it is alive and not ready; when the broker comes, it becomes ready by itself."""
    broker = new_broker()
    broker.stop()
    daemon = new_daemon(broker=broker, start=False)
    daemon.start()
    await eventually(lambda: daemon.probe("/readyz")[0] == 503, "it says that it is not ready")
    assert daemon.probe("/livez")[0] == 200
    assert "broker" in daemon.probe("/readyz?verbose")[1]
    await eventually(lambda: daemon.events("broker_unreachable"), "it has tried to connect")
    broker.start()
    daemon.wait_ready()
    async with calling(daemon) as admin:
        assert (await admin.ok("status"))["mode"] == "active"
    broker.stop()


async def test_the_daemon_can_be_stopped_without_its_broker(
    new_broker: Callable[[], Broker], new_daemon: NewDaemon
) -> None:
    """SIGTERM ends it with 0 while it waits for a broker."""
    broker = new_broker()
    daemon = new_daemon(broker=broker)
    broker.stop()
    await eventually(lambda: not daemon.ready(), "it has noticed")
    assert daemon.stop() == 0
