"""Commands through the client library, over a real broker: answers, errors, repetition, absence."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiomqtt import Client as Mqtt
from aiomqtt import ProtocolVersion
from pydantic import BaseModel, Field, SecretStr

import setpoint
from setpoint import (
    BadRequest,
    Client,
    ConfigurationError,
    Forbidden,
    IdempotencyConflict,
    NotApplied,
    NotFound,
    ReadOnly,
    SchemaInvalid,
    SetpointError,
    TooLarge,
    UnknownCommand,
    Unreachable,
    VersionConflict,
)
from setpoint.errors import error_of
from setpoint_contracts import Code, sign_command, sign_detached
from setpoint_contracts.signing import VerifyingKey
from tests.brokers import Broker
from tests.caller import publish_properties
from tests.client.conftest import ClientOf
from tests.daemon import Daemon, NewDaemon
from tests.impostor import say
from tests.proxy import proxied_to
from tests.waiting import eventually


async def test_a_conflict_carries_what_is_there_now(client: Client, service: str) -> None:
    """Who writes at an old version learns the present document from the exception."""
    first = await client.set(service, {"model": "base"})
    second = await client.patch(service, {"threads": 2}, expected_version=first.version, reason="why")

    with pytest.raises(VersionConflict) as conflict:
        await client.set(service, {"model": "other"}, expected_version=first.version)

    assert conflict.value.current is not None
    assert conflict.value.current.config == second.config == {"model": "base", "threads": 2}
    assert (conflict.value.code, conflict.value.retryable) == ("version_conflict", False)


async def test_each_refusal_is_an_exception_of_its_own(
    shared_daemon: Daemon, client_of: ClientOf, service: str
) -> None:
    """What a caller needs to go on stands in the exception: permission, places, tombstone, names."""
    viewer = shared_daemon.new_token("looker", "viewer")
    async with client_of(shared_daemon) as admin, client_of(shared_daemon, viewer) as looker:
        with pytest.raises(NotFound) as absent:
            await looker.get(service)
        with pytest.raises(Forbidden) as denied:
            await looker.set(service, {})
        with pytest.raises(BadRequest) as misfit:
            await admin.set(service, {"no key": 1})
        with pytest.raises(UnknownCommand) as unknown:
            await admin.call("nonsense")
        await admin.schema_set(service, {"properties": {"n": {"type": "integer"}}})
        with pytest.raises(SchemaInvalid) as invalid:
            await admin.set(service, {"n": "x"})
        await admin.set(service, {"n": 1})
        await admin.delete(service)
        with pytest.raises(NotFound) as deleted:
            await admin.get(service)

    assert absent.value.current is None
    assert (denied.value.needs, denied.value.code) == ("config.write", "forbidden")
    assert misfit.value.errors[0]["field"].startswith("config")
    assert "set" in unknown.value.known
    assert invalid.value.errors[0]["pointer"] == "/n"
    assert deleted.value.current is not None
    assert deleted.value.current.deleted


async def test_every_command_has_a_method(client: Client, service: str) -> None:
    """The whole surface, once through: past, profiles, schemas, tokens, audit, and what the daemon says of itself."""
    first = await client.set(service, {"a": 1})
    await client.apply([{"op": "patch", "service": service, "patch": {"a": 2}}], reason="both")
    assert [change.path for change in (await client.diff(service, first.version, {"version": 2})).diff] == ["/a"]
    assert [entry.new for entry in (await client.history(service, key="a")).entries] == [2, 1]
    assert [info.version for info in (await client.versions(service)).versions] == [2, 1]
    assert (await client.restore([service], version=1)).results[0].version == 3
    assert [match.key for match in (await client.search("a", service=service)).matches] == ["a"]
    assert service in [listed.service async for listed in client.services(service[:6])]
    assert (await client.get(service, version=2, key="a")).value == 2

    await client.profile_save(service, services=[service], description="d")
    assert (await client.profile_get(service)).snapshot == {service: {"a": 1}}
    await client.set(service, {"a": 9})
    assert (await client.profile_load(service)).results[0].service == service
    assert service in [profile.name for profile in (await client.profile_list()).profiles]
    await client.profile_delete(service)

    await client.schema_set(service, {"type": "object"})
    assert (await client.schema_get(service)).content == {"type": "object"}
    assert service in [schema.service for schema in (await client.schema_list(limit=1000)).schemas]
    await client.schema_delete(service)

    made = await client.token_create("someone", "viewer", services=[service], ttl_s=600)
    assert client.open_token(made).kid == made.kid
    successor = await client.token_rotate(made.kid, grace_s=0)
    assert successor.replaced.kid == made.kid
    await client.token_revoke(successor.kid)
    assert made.kid in [token.kid for token in (await client.token_list()).tokens]
    assert (await client.audit(service=service)).events[-1].action == "update_config"
    assert (await client.info()).principal == client.principal == "admin"
    assert (await client.status()).mode == "active"
    assert (await client.applied(service)).instances == []
    assert (await client.prune(keep_versions=1_000_000)).versions == 0
    assert (await client.set(service, {"a": 10}, dry_run=True)).dry_run


async def test_many_tasks_share_a_client(client: Client, service: str) -> None:
    """Hundreds of commands at once are each answered with their own result."""
    await client.set(service, {"n": 0})

    async def write(n: int) -> object:
        return (await client.patch(service, {f"k{n}": n})).config

    configs = await asyncio.gather(*(write(n) for n in range(300)))

    assert all(config is not None and config[f"k{n}"] == n for n, config in enumerate(configs))  # type: ignore[index]
    assert len((await client.get(service)).config or {}) == 301


async def test_a_store_is_made_the_truth(new_daemon: NewDaemon, client_of: ClientOf) -> None:
    """`epoch_advance` begins a new epoch, once, where the epoch that is expected is still the store's."""
    async with client_of(new_daemon()) as client:
        epoch = (await client.status()).epoch
        assert (await client.epoch_advance(expected_epoch=epoch)).epoch > epoch
        with pytest.raises(BadRequest):
            await client.epoch_advance(expected_epoch=epoch)


async def test_secrets_are_revealed_to_who_may_see_them(client: Client, service: str) -> None:
    """`reveal` opens what is sealed for the token; a document never shows it."""
    await client.schema_set(service, {"properties": {"key": {"writeOnly": True}}})
    await client.set(service, {"key": "hunter2", "plain": 1})

    assert "hunter2" not in repr(await client.get(service))
    assert await client.reveal(service) == {"/key": "hunter2"}


async def test_a_client_does_not_fail_without_a_broker(tmp_path: Path, daemon: Daemon) -> None:
    """It opens; a command raises `Unreachable` in time, says why, and has sent nothing."""
    async with Client("mqtt://127.0.0.1:9", daemon.token_path, cache_dir=tmp_path) as client:
        with pytest.raises(Unreachable, match=r"was not sent.*Connection refused") as unreachable:
            await client.get("stt", timeout=0.3)

    assert unreachable.value.command is None
    assert unreachable.value.retryable


async def test_a_command_needs_a_token_and_an_open_client(daemon: Daemon, client_of: ClientOf) -> None:
    """A client without a token, or outside its `async with`, says what is missing."""
    client = client_of(daemon)
    with pytest.raises(ConfigurationError, match="async with"):
        await client.info()
    async with Client(f"mqtt://127.0.0.1:{daemon.port}") as follower:
        with pytest.raises(ConfigurationError, match="SETPOINT_TOKEN"):
            await follower.info()
    async with client:
        assert (await client.info()).product == "setpoint"
        with pytest.raises(ConfigurationError, match="open already"):
            await client.__aenter__()
    async with client:  # again
        with pytest.raises(ConfigurationError, match="cannot be written as JSON"):
            await client.set("stt", {"when": object()})


async def test_a_command_waits_for_a_daemon_that_is_away(daemon: Daemon, client_of: ClientOf) -> None:
    """What is sent while the daemon is down is answered when it is back, and took effect once."""
    async with client_of(daemon) as client:
        await client.set("stt", {"n": 1})
        daemon.kill()
        writing = asyncio.create_task(client.patch("stt", {"n": 2}, timeout=30))
        with pytest.raises(Unreachable, match="not known") as unreachable:
            await client.patch("stt", {"m": 1}, timeout=0.5)
        daemon.start()
        daemon.wait_ready()

        assert unreachable.value.command is not None
        answers = [await client.resend(unreachable.value.command) for _ in range(2)]
        assert answers[0] == answers[1]
        assert {(await writing).version, answers[0]["version"]} == {2, 3}
        assert (await client.get("stt")).config == {"n": 2, "m": 1}


async def test_another_client_may_send_a_command_again(daemon: Daemon, client_of: ClientOf) -> None:
    """The same bytes from another process give the same answer; the same jti with other bytes is refused."""
    async with client_of(daemon) as first, client_of(daemon) as second:
        await first.set("stt", {"n": 1})
        daemon.kill()
        with pytest.raises(Unreachable) as unreachable:
            await first.patch("stt", {"n": 2}, timeout=0.3)
        daemon.start()
        daemon.wait_ready()
        command = unreachable.value.command
        assert command is not None
        assert "payload" not in repr(command)
        assert (await second.resend(command))["version"] == 2

        other = sign_command(daemon.token, "delete", {"service": "stt"}, jti=command.jti, topics=daemon.topics)
        topic, reply_topic = daemon.topics.command("delete"), daemon.topics.reply("admin", command.jti)
        with pytest.raises(IdempotencyConflict):
            await second.resend(replace(command, topic=topic, payload=other.encode(), reply_topic=reply_topic))


async def test_commands_go_on_when_the_broker_is_back(
    own_broker: Broker, new_daemon: NewDaemon, client_of: ClientOf
) -> None:
    """A command that is under way while the broker restarts is answered afterwards, and others go on."""
    daemon = new_daemon(broker=own_broker)
    async with client_of(daemon) as client:
        await client.set("stt", {"n": 1})
        own_broker.stop()
        await eventually(lambda: not client.is_connected, "the client has noticed")
        writing = asyncio.create_task(client.patch("stt", {"n": 2}, timeout=30))
        own_broker.start()

        assert (await writing).version == 2
        assert (await client.get("stt")).config == {"n": 2}


async def test_a_lost_connection_sends_a_command_again(daemon: Daemon, client_of: ClientOf) -> None:
    """A connection that is cut between a command and its answer costs nothing but time: it takes effect once."""
    async with proxied_to(daemon.host, daemon.port) as proxy, client_of(daemon, port=proxy.port) as client:
        await client.set("stt", {"n": 0})
        proxy.hang()
        writing = asyncio.create_task(client.patch("stt", {"n": 1}, timeout=30))
        await eventually(lambda: proxy.held, "the command is on its way")
        proxy.mend()
        proxy.cut()

        assert (await writing).version == 2
        assert [info.version for info in (await client.versions("stt")).versions] == [2, 1]


async def test_offline_commands_wait_where_that_is_chosen(
    own_broker: Broker, new_daemon: NewDaemon, client_of: ClientOf
) -> None:
    """With `queue_offline` a command waits for the connection for longer than its timeout; without it does not."""
    daemon = new_daemon(broker=own_broker)
    own_broker.stop()
    async with client_of(daemon, queue_offline=True) as client, client_of(daemon) as other:
        writing = asyncio.create_task(client.set("stt", {"n": 1}, timeout=5))
        with pytest.raises(Unreachable, match="was not sent"):
            await other.set("stt", {"n": 2}, timeout=5.5)
        assert not writing.done()
        own_broker.start()
        assert (await writing).version == 1


async def test_what_may_still_work_is_tried_again(
    own_broker: Broker, new_daemon: NewDaemon, client_of: ClientOf
) -> None:
    """`unavailable` is asked again until the deadline; `read_only` is for a person, and raised at once."""
    daemon = new_daemon(broker=own_broker)
    async with client_of(daemon) as client:
        await client.set("stt", {"n": 1})
        requests = client._requests  # noqa: SLF001 - what the daemon would say is said for it
        assert requests is not None
        daemon.kill()
        async with calling_as_daemon(daemon) as say:
            trying = asyncio.create_task(client.patch("stt", {"n": 2}, timeout=20))
            for code in ("unavailable", "internal"):
                jti = await eventually(lambda: next(iter(requests._under_way), ""), "it is sent")  # noqa: SLF001
                await say(requests.reply_topic, refusal(jti, code))
                await eventually(lambda: not requests._under_way, "it is answered")  # noqa: SLF001
            jti = await eventually(lambda: next(iter(requests._under_way), ""), "it is sent again")  # noqa: SLF001
            assert not trying.done()
            await say(requests.reply_topic, refusal(jti, "read_only"))
            with pytest.raises(ReadOnly):
                await trying


def refusal(jti: str, code: str) -> dict[str, Any]:
    """Write the reply of a daemon that cannot."""
    error = {"code": code, "message": "not now", "retryable": True, "details": {"reason": "stale_store"}}
    return {"id": jti, "command": "patch", "ok": False, "error": error, "revision": 1, "epoch": 1}


@asynccontextmanager
async def calling_as_daemon(daemon: Daemon) -> AsyncIterator[Callable[[str, dict[str, Any]], Awaitable[None]]]:
    """Publish replies with the token's own secret, as its daemon does."""
    key = daemon.token.kid, VerifyingKey("HS256", daemon.token.signing_key())
    async with Mqtt(daemon.host, daemon.port, protocol=ProtocolVersion.V5) as mqtt:
        yield lambda topic, reply: say(mqtt, topic, reply, key, retain=False)


async def test_a_model_is_written_as_it_is(client: Client, service: str) -> None:
    """A secret of a model is written and not its mask; a member goes by its alias; what `bind` gave can be written."""

    class Inner(BaseModel):
        keys: list[SecretStr]

    class Mail(BaseModel):
        speed: int = Field(default=1, alias="max-speed")
        password: SecretStr = SecretStr("")
        inner: dict[str, Inner] = {}

    await client.schema_set(service, {"properties": {"password": {"writeOnly": True}, "inner": {"writeOnly": True}}})
    mail = Mail.model_validate({"max-speed": 7, "password": "hunter2", "inner": {"a": {"keys": ["hunter3"]}}})
    await client.set(service, mail)

    assert await client.reveal(service) == {"/password": "hunter2", "/inner": {"a": {"keys": ["hunter3"]}}}
    live = await client.bind(service, Mail, timeout=20, report=False)
    assert live.value == mail
    assert not (await client.set(service, live.value)).changed


async def test_closing_a_client_ends_all_that_waits(
    own_broker: Broker, new_daemon: NewDaemon, client_of: ClientOf
) -> None:
    """Who waits for an answer, or for a connection, is told that the client was closed."""
    daemon = new_daemon(broker=own_broker)
    async with client_of(daemon, queue_offline=True) as client:
        await client.set("stt", {"n": 1})
        daemon.kill()
        answered = asyncio.create_task(client.get("stt", timeout=60))
        await eventually(lambda: client._requests and client._requests._under_way, "it is under way")  # noqa: SLF001
        own_broker.stop()
        await eventually(lambda: not client.is_connected, "the client has noticed")
        connected = asyncio.create_task(client.get("stt", timeout=60))
        await asyncio.sleep(0)
    for waiting in (answered, connected):
        with pytest.raises(Unreachable, match="closed"):
            await waiting


async def test_the_deadline_is_that_of_the_whole_call(daemon: Daemon, client_of: ClientOf) -> None:
    """Also where a command asks something before: it is over in time, and the error is of that command."""
    async with client_of(daemon) as client:
        await client.set("stt", {"n": 1})
        daemon.kill()
        began = asyncio.get_running_loop().time()
        with pytest.raises(Unreachable, match="set was not sent") as unreachable:
            await client.set("stt", {"text": "x" * 300_000}, timeout=0.4)
        with pytest.raises(NotApplied):
            await client.wait_applied("stt", 1, timeout=0.4)
        assert asyncio.get_running_loop().time() - began < client.timeout
        assert unreachable.value.command is None


async def test_what_is_sealed_for_another_is_refused(
    client: Client, shared_daemon: Daemon, client_of: ClientOf
) -> None:
    """A token that was made by somebody else's command cannot be opened, and the error says why."""
    other = shared_daemon.new_token("second", "admin")
    async with client_of(shared_daemon, other) as second:
        made = await second.token_create("x", "viewer")
    with pytest.raises(ConfigurationError, match="another token"):
        client.open_token(made)


async def test_a_forged_reply_is_not_believed(daemon: Daemon, client_of: ClientOf) -> None:
    """Who may publish on the reply topic, but lacks the token's secret, cannot answer for the daemon."""
    async with client_of(daemon) as client, Mqtt(daemon.host, daemon.port, protocol=ProtocolVersion.V5) as stranger:
        await client.set("stt", {"n": 1})
        daemon.kill()
        await stranger.subscribe(daemon.topics.commands, qos=1)
        reading = asyncio.create_task(client.get("stt", timeout=20))
        command = await anext(aiter(stranger.messages))
        requests = client._requests  # noqa: SLF001 - its topic is random
        assert requests is not None
        (jti,) = requests._under_way  # noqa: SLF001 - so is this
        reply = f'{{"id":"{jti}","command":"get","ok":true,"result":{{}},"revision":1,"epoch":1}}'.encode()
        key = VerifyingKey("HS256", daemon.token.new("HS256", "tok_x", "x", daemon.token.role).signing_key())
        signature = sign_detached(reply, requests.reply_topic, daemon.token.kid, key)
        for properties in (None, publish_properties(UserProperty=[("jws", signature)])):
            await stranger.publish(requests.reply_topic, reply, qos=1, properties=properties)
        assert command.payload
        daemon.start()
        daemon.wait_ready()

        assert (await reading).config == {"n": 1}


async def test_what_the_daemon_would_drop_is_refused_before_it_is_sent(client: Client, service: str) -> None:
    """A command beyond the daemon's limit gets an error that says so, instead of silence."""
    with pytest.raises(TooLarge) as large:
        await client.set(service, {"text": "x" * 300_000})

    assert large.value.details["max_bytes"] == 262_144
    assert not large.value.applied


async def test_what_the_broker_takes_is_kept_to(own_broker: Broker, new_daemon: NewDaemon, client_of: ClientOf) -> None:
    """A command that is larger than a packet may be is refused before it is sent, and the connection stays."""
    own_broker.stop()
    own_broker.configure("max_packet_size 20000")
    own_broker.start()
    async with client_of(new_daemon(broker=own_broker)) as client:
        lost: list[bool] = []
        client._link.on_lost(lambda: lost.append(True))  # noqa: SLF001 - which nobody else sees
        with pytest.raises(TooLarge) as large:
            await client.set("stt", {"text": "x" * 30_000})
        assert large.value.details["max_bytes"] == 20_000
        assert (await client.set("stt", {"text": "x" * 8_000})).version == 1
        assert lost == []


async def test_what_cannot_be_is_refused_at_once(client: Client, service: str) -> None:
    """Names that no command has, configs that are none, a change that would have to be waited for."""
    for name in ("a\0b", "#", "config/cmd/set/x/y", ""):
        with pytest.raises(ConfigurationError, match="no command"):
            await client.call(name)
    for config in (None, [1], "text"):
        with pytest.raises(ConfigurationError, match="a mapping or a pydantic model"):
            await client.set(service, config)  # type: ignore[arg-type] # what a caller may get wrong

    async def change(config: dict[str, Any]) -> None:
        pass

    with pytest.raises(ConfigurationError, match="plain function"):
        await client.update(service, change)  # type: ignore[arg-type] # the same
    with pytest.raises(ConfigurationError, match="pydantic model"):
        await client.bind(service, dict)  # type: ignore[type-var] # the same


async def test_a_pause_ends_with_the_client(daemon: Daemon, client_of: ClientOf) -> None:
    """Who waits until a command may be sent again is told at once that the client was closed."""
    async with client_of(daemon) as client:
        await client.set("stt", {"n": 1})
        requests = client._requests  # noqa: SLF001 - what the daemon would say is said for it
        assert requests is not None
        daemon.kill()
        async with calling_as_daemon(daemon) as answer:
            waiting = asyncio.create_task(client.patch("stt", {"n": 2}, timeout=300))
            jti = await eventually(lambda: next(iter(requests._under_way), ""), "it is sent")  # noqa: SLF001
            reply = refusal(jti, "rate_limited")
            reply["error"]["details"] = {"retry_after_s": 200}
            await answer(requests.reply_topic, reply)
            await eventually(lambda: not requests._under_way, "it is answered")  # noqa: SLF001
    with pytest.raises(Unreachable, match="closed"):
        await asyncio.wait_for(waiting, 20)


async def test_a_limited_rate_is_waited_for(new_daemon: NewDaemon, client_of: ClientOf) -> None:
    """Commands beyond the rate are sent again when there is room, within their deadline."""
    daemon = new_daemon(rate_limit_per_s=10)
    async with client_of(daemon) as client:
        results = await asyncio.gather(*(client.status(timeout=20) for _ in range(40)))

    assert len(results) == 40


def test_every_code_of_the_wire_has_a_class() -> None:
    """Each is exported by its name in CamelCase, and is what a reply with that code raises."""
    for code in Code:
        name = "".join(word.capitalize() for word in code.split("_"))
        kind = getattr(setpoint, name)
        assert type(error_of({"code": code, "message": "m"})) is kind
        assert kind.wire is code
        assert name in setpoint.__all__


async def test_a_code_of_a_later_daemon_is_an_error_all_the_same() -> None:
    """A code that this client does not know is raised as `SetpointError` with what was said."""
    error = error_of({"code": "new_code", "message": "text", "retryable": True, "details": {"a": 1}})

    assert type(error) is SetpointError
    assert (error.code, error.retryable, dict(error.details)) == ("new_code", True, {"a": 1})
    assert str(error) == "new_code: text"


async def test_nothing_secret_is_logged(daemon: Daemon, client_of: ClientOf, caplog: pytest.LogCaptureFixture) -> None:
    """At the most talkative level a lost broker and a refused command show no secret."""
    caplog.set_level(logging.DEBUG)
    async with client_of(daemon) as client:
        await client.set("stt", {"text": "hunter2"})
        with pytest.raises(VersionConflict):
            await client.set("stt", {"text": "hunter3"}, expected_version=9)

    assert "hunter" not in caplog.text
    assert str(daemon.token.k) not in caplog.text
