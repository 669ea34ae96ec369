"""The rows of wire section 3 over the broker, and their order: of two things that are wrong, the earlier is told."""

import time
from typing import Any

import pytest

from setpoint_contracts import COMMANDS, Token, sign_command
from tests.caller import Caller, calling, publish_properties
from tests.daemon import Daemon, NewDaemon
from tests.waiting import eventually

NOWHERE = "elsewhere/reply"


def late() -> dict[str, Any]:
    """Make times of a command that has expired."""
    return {"issued_at": time.time() - 100, "lifetime_s": 10}


def ahead() -> dict[str, Any]:
    """Make times of a command that comes from the future."""
    return {"issued_at": time.time() + 1000}


@pytest.fixture(scope="module")
def viewer_token(shared_daemon: Daemon) -> Token:
    """Make a token that may only read, and only some services."""
    return shared_daemon.new_token("viewer", "viewer", "--services", "svc-*")


def dropped(daemon: Daemon, reason: str) -> float:
    """Read how many messages were dropped for a reason."""
    return daemon.metric(f'setpoint_messages_dropped_total{{reason="{reason}"}}')


def outcome(reply: Any) -> str:
    """Give the code of a reply."""
    return "ok" if reply.error is None else str(reply.error.code)


async def test_row_1_a_retained_command_is_dropped(admin: Caller, shared_daemon: Daemon, service: str) -> None:
    """Retained comes first: it is dropped as such, whether its signature holds or not, and nobody is answered."""
    before = dropped(shared_daemon, "retained")
    topic = admin.topics.command("set")
    good = admin.sign("set", {"service": "never", "config": {}}, jti="retained")
    for payload in (good, good[:-4] + "AAAA", ""):
        await admin.mqtt.publish(topic, payload, qos=1, retain=True)
    await admin.ok("set", {"service": service, "config": {}})  # behind them all
    assert (await admin.error("get", {"service": "never"}))["code"] == "not_found"
    assert dropped(shared_daemon, "retained") == before + 3


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda jws: jws[:-4] + "AAAA", "bad_signature"),
        (lambda jws: jws.rpartition(".")[0], "not_jws"),
        (lambda jws: jws + "A" * 262_144, "too_large"),
    ],
    ids=["bad signature", "no jws", "too large"],
)
async def test_row_2_what_is_not_signed_is_dropped(
    spoil: Any,
    reason: str,
    admin: Caller,
    shared_daemon: Daemon,
) -> None:
    """Without a signature that holds there is no answer, whatever else is wrong; it is counted by its reason."""
    before = dropped(shared_daemon, reason)
    jws = admin.sign("set", {"service": "never"}, jti="unsigned", reply_to=NOWHERE, **late())
    await admin.mqtt.publish(admin.topics.command("get"), spoil(jws), qos=1)
    await admin.ok("info")
    assert dropped(shared_daemon, reason) == before + 1


async def test_row_2_a_token_that_is_not_known_is_dropped(admin: Caller, shared_daemon: Daemon) -> None:
    """A token that was signed elsewhere is nobody's; one under a known kid with another key is a forgery."""
    known = admin.token
    stranger = Token.new("HS256", "tok_stranger", known.name, known.role)
    forger = Token.new("HS256", known.kid, known.name, known.role)
    for token, reason in ((stranger, "unknown_kid"), (forger, "bad_signature")):
        before = dropped(shared_daemon, reason)
        jws = sign_command(token, "info", topics=admin.topics)
        await admin.mqtt.publish(admin.topics.command("info"), jws, qos=1)
        await admin.ok("info")
        assert dropped(shared_daemon, reason) == before + 1


async def test_row_3_a_revoked_token_hears_nothing_else(admin: Caller, shared_daemon: Daemon) -> None:
    """Revoked is told before anything about the claims, and instead of a stored reply; in the token's own topics."""
    token = shared_daemon.new_token("leaver", "admin")
    async with calling(shared_daemon, token) as leaver:
        params = {"service": "svc-leaver", "config": {}}
        ran = leaver.sign("set", params, jti="ran")
        assert outcome(await leaver.exchange(leaver.topics.command("set"), ran)) == "ok"
        shared_daemon.revoke(token)
        assert outcome(await leaver.exchange(leaver.topics.command("set"), ran)) == "token_revoked"
        malformed = leaver.sign("set", params, lifetime_s=10_000_000)
        assert outcome(await leaver.exchange(leaver.topics.command("get"), malformed)) == "token_revoked"
    assert (await admin.ok("get", {"service": "svc-leaver"}))["version"] == 1


async def test_row_3_an_expired_token_is_told_so(shared_daemon: Daemon) -> None:
    """A token with a time to live works until then, and not after."""
    token = shared_daemon.new_token("guest", "viewer", "--ttl", "3s")
    async with calling(shared_daemon, token) as guest:
        assert outcome(await guest.call("info")) == "ok"
        await eventually(lambda: _has_passed(token.expires_at), "the token has expired")
        assert outcome(await guest.call("info", lifetime_s=10_000_000)) == "token_expired"


def _has_passed(timestamp: str | None) -> bool:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) > str(timestamp)


async def test_row_4_malformed_claims_come_before_a_wrong_topic(admin: Caller) -> None:
    """A lifetime that is too long is told although the topic is another one, too."""
    jws = admin.sign("set", {}, lifetime_s=100_000, reply_to=None)
    await admin.mqtt.publish(admin.topics.command("get"), jws, qos=1)  # no reply, as it asks
    jws = admin.sign("set", {}, lifetime_s=100_000)
    assert outcome(await admin.exchange(admin.topics.command("get"), jws)) == "bad_request"


async def test_row_5_a_wrong_topic_comes_before_a_stored_reply(admin: Caller, service: str) -> None:
    """A command that ran is not answered again on another topic; nor does it run there."""
    jws = admin.sign("set", {"service": service, "config": {}})
    assert outcome(await admin.exchange(admin.topics.command("set"), jws)) == "ok"
    assert outcome(await admin.exchange(admin.topics.command("patch"), jws)) == "wrong_topic"
    expired = admin.sign("set", {"service": service, "config": {}}, **late())
    assert outcome(await admin.exchange(admin.topics.command("get"), expired)) == "wrong_topic"


async def test_row_6_a_stored_reply_outlives_its_command(admin: Caller, service: str) -> None:
    """The same bytes get the same reply, byte for byte, though the command has expired since; white space aside."""
    topic = admin.topics.command("set")
    reply_topic = admin.topics.reply("admin", service)
    jws = admin.sign("set", {"service": service, "config": {"a": 1}}, jti=service, lifetime_s=1.5)
    expires = time.time() + 1.5
    await admin.mqtt.publish(topic, jws, qos=1)
    first = await admin.message(reply_topic)
    assert admin.read(first).ok
    await admin.ok("set", {"service": service, "config": {"a": 2}})
    await eventually(lambda: time.time() > expires, "the command has expired")
    for payload in (jws, f"\n{jws}\n"):
        await admin.mqtt.publish(topic, payload, qos=1)
        again = await admin.message(reply_topic)
        assert admin.read(again).ok
        assert again.payload == first.payload
    assert (await admin.ok("get", {"service": service}))["config"] == {"a": 2}


async def test_row_6_an_error_is_final_too(admin: Caller, service: str) -> None:
    """A refusal of a mutation that ran is stored: the same command does not succeed later."""
    topic = admin.topics.command("patch")
    jws = admin.sign("patch", {"service": service, "patch": {"a": 1}})
    first = await admin.exchange(topic, jws)
    assert outcome(first) == "not_found"
    await admin.ok("set", {"service": service, "config": {}})
    assert await admin.exchange(topic, jws) == first


async def test_a_read_is_answered_anew(admin: Caller, service: str) -> None:
    """What changes nothing is not stored: the same `get` sees what has changed since."""
    topic = admin.topics.command("get")
    jws = admin.sign("get", {"service": service})
    assert outcome(await admin.exchange(topic, jws)) == "not_found"
    await admin.ok("set", {"service": service, "config": {}})
    assert outcome(await admin.exchange(topic, jws)) == "ok"


async def test_row_7_a_jti_stands_for_one_command(admin: Caller, service: str) -> None:
    """Other bytes under the jti of a command that ran are a conflict, even when they have expired."""
    params = {"service": service, "config": {"a": 1}}
    await admin.ok("set", params, jti=service)
    for signing in ({}, late(), {"reply_to": admin.topics.reply("admin", "x")}):
        assert (await admin.error("set", params, jti=service, **signing))["code"] == "idempotency_conflict"
    other = {"service": service, "patch": {"a": 2}}
    assert (await admin.error("patch", other, jti=service))["code"] == "idempotency_conflict"
    assert (await admin.ok("get", {"service": service}, jti=service))["version"] == 1  # a read looks no jti up


async def test_row_7_of_many_commands_with_one_jti_one_runs(admin: Caller, service: str) -> None:
    """Sent at once, in one batch: the first runs, and each of the others is told that the jti is taken."""
    for n in range(20):
        jws = admin.sign("set", {"service": service, "config": {"n": n}}, jti=service)
        await admin.mqtt.publish(admin.topics.command("set"), jws, qos=1)
    outcomes = [outcome(await admin.reply(admin.topics.reply("admin", service))) for _ in range(20)]
    assert sorted(outcomes) == ["idempotency_conflict"] * 19 + ["ok"]
    assert (await admin.ok("get", {"service": service}))["version"] == 1


async def test_row_7_a_jti_belongs_to_its_token(admin: Caller, service: str, shared_daemon: Daemon) -> None:
    """Another token of the same principal may use the same jti."""
    await admin.ok("set", {"service": service, "config": {}}, jti=service)
    async with calling(shared_daemon, shared_daemon.new_token("admin", "admin")) as other:
        assert (await other.ok("set", {"service": service, "config": {"a": 1}}, jti=service))["version"] == 2


async def test_row_8_expired_comes_before_the_reply_topic(admin: Caller) -> None:
    """An expired command is told the time on the default topic, when its own reply topic is refused as well."""
    for signing, code in ((late(), "expired"), (ahead(), "clock_skew")):
        jti = f"row8-{code}"
        jws = admin.sign("explode", jti=jti, reply_to=NOWHERE, **signing)
        await admin.mqtt.publish(admin.topics.command("explode"), jws, qos=1)
        reply = await admin.reply(admin.topics.reply("admin", jti))
        assert outcome(reply) == code
        assert reply.error is not None
        assert reply.error.details["server_time"][:16] == reply.ts[:16]


async def test_row_8_a_message_that_expired_on_the_way_has_expired(new_daemon: NewDaemon) -> None:
    """The broker does not even deliver a command whose MQTT message expiry ran out while the daemon was down."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        daemon.stop()
        params = {"service": "stt", "config": {}}
        for jti, expiry in (("short", 1), ("long", 100)):
            await admin.mqtt.publish(
                admin.topics.command("set"),
                admin.sign("set", params, jti=jti),
                qos=1,
                properties=publish_properties(MessageExpiryInterval=expiry),
            )
        sent = time.monotonic()
        await eventually(lambda: time.monotonic() > sent + 2.5, "the first command has expired")
        daemon.start()
        assert outcome(await admin.reply(admin.topics.reply("admin", "long"))) == "ok"
        assert (await admin.ok("get", {"service": "stt"}))["version"] == 1
    assert next(event["request_id"] for event in daemon.events("command")) == "long"


async def test_row_9_the_reply_topic_comes_before_the_command(admin: Caller) -> None:
    """A reply topic outside the caller's own is told on the default one, though the command is unknown, too."""
    for number, wish in enumerate((NOWHERE, admin.topics.reply("other", "x"), admin.topics.reply("admin", "#"))):
        jws = admin.sign("explode", jti=f"row9-{number}", reply_to=wish)
        await admin.mqtt.publish(admin.topics.command("explode"), jws, qos=1)
        assert outcome(await admin.reply(admin.topics.reply("admin", f"row9-{number}"))) == "bad_reply_topic"


@pytest.mark.parametrize("command", ["explode", "profile/explode", "a/b/c/d", "set/"])
async def test_row_10_an_unknown_command_is_told_the_known_ones(command: str, admin: Caller) -> None:
    """On topics of one level and of more."""
    error = await admin.error(command, {"nonsense": True})
    assert (error["code"], error["details"]) == ("unknown_command", {"known": sorted(COMMANDS)})


async def test_row_12_parameters_come_before_permissions(shared_daemon: Daemon, viewer_token: Token) -> None:
    """What a viewer asks for wrongly is a bad request, not forbidden; the fields are named, their values are not."""
    async with calling(shared_daemon, viewer_token) as viewer:
        error = await viewer.error("set", {"service": "other", "config": {"1": "hunter2"}, "colour": "hunter2"})
    assert error["code"] == "bad_request"
    assert {found["field"].split(".")[0] for found in error["details"]["errors"]} == {"config", "colour"}
    assert "hunter2" not in str(error)


async def test_row_13_role_and_scope(admin: Caller, service: str, shared_daemon: Daemon, viewer_token: Token) -> None:
    """A viewer reads what is in its scope, sees nothing else in lists, and changes nothing; each refusal is audited."""
    await admin.ok("set", {"service": service, "config": {}})
    await admin.ok("set", {"service": "other", "config": {}})
    topic = shared_daemon.topics.audit("permission_denied")
    async with calling(shared_daemon, viewer_token, topic) as viewer:
        assert (await viewer.ok("get", {"service": service}))["version"] == 1
        error = await viewer.error("get", {"service": "other"})
        assert (error["code"], error["details"]) == ("forbidden", {"needs": "config.read", "service": "other"})
        listed = (await viewer.ok("list", {"limit": 1000}))["services"]
        assert {entry["service"][:4] for entry in listed} == {"svc-"}
        error = await viewer.error("set", {"service": service, "config": {}})
        assert (error["code"], error["details"]) == ("forbidden", {"needs": "config.write", "service": service})
        assert (await viewer.error("token/list"))["details"] == {"needs": "admin.manage"}
        events = [await viewer.event(topic) for _ in range(3)]
    assert [event["user"] for event in events] == ["viewer"] * 3
    assert [event["details"]["command"] for event in events] == ["get", "set", "token/list"]
    assert (events[0]["service"], events[0]["details"]["needs"]) == ("other", "config.read")


async def test_row_13_an_operator_writes_and_does_not_delete(shared_daemon: Daemon, service: str) -> None:
    """Deleting is the admin's; what an operator may, it does in its scope only."""
    token = shared_daemon.new_token("operator", "operator", "--services", service, "--services", "x*")
    async with calling(shared_daemon, token) as operator:
        for name in (service, "xyz"):
            assert (await operator.ok("set", {"service": name, "config": {}}))["version"] == 1
        assert (await operator.error("set", {"service": "other", "config": {}}))["code"] == "forbidden"
        error = await operator.error("delete", {"service": service})
        assert error["details"] == {"needs": "config.delete", "service": service}


async def test_row_13_forbidden_is_not_final(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """A command that was refused before it ran leaves no stored reply behind: its jti is still free."""
    token = shared_daemon.new_token("trainee", "viewer")
    async with calling(shared_daemon, token) as trainee:
        params = {"service": service, "config": {}}
        for _ in range(2):
            assert (await trainee.error("set", params, jti=service))["code"] == "forbidden"
    assert (await admin.ok("set", params, jti=service))["version"] == 1
