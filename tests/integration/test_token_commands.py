"""`token/create`, `token/revoke` and `token/rotate` over the wire: who may, what it gives, and when it counts."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from setpoint_contracts import Role, Token, open_sealed
from setpoint_contracts.sealing import TOKEN_INFO
from tests.caller import Caller, calling, connecting
from tests.daemon import Daemon, NewDaemon
from tests.integration.test_secrets import listen, spellings
from tests.waiting import DEADLINE_S, eventually


def opened(caller: Caller, result: dict[str, Any]) -> Token:
    """Read the new token that a caller was sent."""
    key = caller.token.signing_key()
    return Token.parse(open_sealed(key, TOKEN_INFO, result["token_jwe"]))


async def create(caller: Caller, name: str, role: str = "operator", **more: Any) -> Token:
    """Have a token made and read it."""
    return opened(caller, await caller.ok("token/create", {"name": name, "role": role, **more}))


def pair(name: str = "pi", role: Role = Role.OPERATOR) -> tuple[Token, dict[str, Any]]:
    """Make an Ed25519 token and its public key."""
    token = Token.new("Ed25519", f"kid-{time.monotonic_ns()}", name, role)
    return token, {"kty": "OKP", "crv": "Ed25519", "x": token.x, "kid": token.kid}


async def listed(admin: Caller, kid: str) -> dict[str, Any]:
    """Find a token in the list."""
    tokens = (await admin.ok("token/list"))["tokens"]
    [token] = [token for token in tokens if token["kid"] == kid]
    return dict(token)


async def test_a_new_token_works_at_once(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Its file comes sealed for its maker; as soon as it is there its holder is served, within its role and scope."""
    for number in range(10):
        token = await create(admin, service, services=[f"{service}*"], ttl_s=600)
        assert (token.name, token.role, token.services) == (service, "operator", (f"{service}*",))
        async with calling(shared_daemon, token) as holder:
            made = await holder.ok("set", {"service": service, "config": {"n": number}})
            assert (made["version"], made["updated_by"]) == (number + 1, service)
            assert (await holder.error("set", {"service": "other", "config": {}}))["code"] == "forbidden"
        entry = await listed(admin, token.kid)
        assert (entry["created_by"], entry["expires_at"]) == ("admin", token.expires_at)


async def test_a_new_pair_works_at_once(shared_daemon: Daemon, admin: Caller) -> None:
    """The daemon gets the public half only, and no secret comes back; the holder is served."""
    token, public = pair()
    params = {"name": "pi", "role": "operator", "alg": "Ed25519", "public_jwk": public}
    made = await admin.ok("token/create", params)
    assert (made["kid"], made["alg"], "token_jwe" in made) == (token.kid, "Ed25519", False)
    async with calling(shared_daemon, token) as holder:
        assert (await holder.ok("info"))["principal"] == "pi"
    again = await admin.error("token/create", {**params, "public_jwk": {**public, "kid": "another"}})
    assert (again["code"], again["retryable"]) == ("already_exists", False)
    assert (await admin.error("token/create", params))["code"] == "already_exists"


async def test_a_private_key_is_refused_and_not_repeated(admin: Caller, shared_daemon: Daemon) -> None:
    """Neither the reply nor the log has it."""
    token, public = pair()
    params = {"name": "pi", "role": "viewer", "alg": "Ed25519", "public_jwk": {**public, "d": token.d}}
    error = await admin.error("token/create", params)
    [misfit] = error["details"]["errors"]
    assert (error["code"], misfit["field"], misfit["type"]) == ("bad_request", "public_jwk", "private_key")
    assert str(token.d) not in str(error) + "".join(shared_daemon.log)


async def test_an_ed25519_admin(shared_daemon: Daemon, admin: Caller) -> None:
    """It makes tokens for public keys, and is told what to do about secrets, which could not be sent to it."""
    token, public = pair("ed", Role.ADMIN)
    await admin.ok("token/create", {"name": "ed", "role": "admin", "alg": "Ed25519", "public_jwk": public})
    _, other = pair()
    async with calling(shared_daemon, token) as caller:
        error = await caller.error("token/create", {"name": "pi", "role": "viewer"})
        [misfit] = error["details"]["errors"]
        assert (error["code"], misfit["field"], misfit["type"]) == ("bad_request", "alg", "needs_hs256_caller")
        made = {"name": "pi", "role": "viewer", "alg": "Ed25519", "public_jwk": other}
        assert (await caller.ok("token/create", made))["created_by"] == "ed"


async def test_sent_twice_it_is_made_once(admin: Caller, service: str) -> None:
    """The same bytes are answered with the same bytes: one token, and the same way to open it."""
    topic = admin.topics.command("token/create")
    command = admin.sign("token/create", {"name": service, "role": "viewer"}, jti=service)
    replies = []
    for _ in range(2):
        await admin.mqtt.publish(topic, command, qos=1)
        replies.append(bytes((await admin.message(admin.topics.reply("admin", service))).payload))
    assert replies[0] == replies[1]
    token = opened(admin, json.loads(replies[1])["result"])
    names = [entry["kid"] for entry in (await admin.ok("token/list"))["tokens"] if entry["name"] == service]
    assert names == [token.kid]


async def test_revoked_counts_before_it_is_said(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Once the reply is there the token is refused, every time; and a repetition of what it had sent is refused too."""
    for number in range(10):
        token = await create(admin, service)
        async with calling(shared_daemon, token) as holder:
            topic = holder.topics.command("set")
            command = holder.sign("set", {"service": service, "config": {"n": number}})
            assert (await holder.exchange(topic, command)).ok
            revoked = await admin.ok("token/revoke", {"kid": token.kid})
            assert revoked["revoked_at"] is not None
            assert (await holder.error("info"))["code"] == "token_revoked"
            again = await holder.exchange(topic, command)
            assert (again.error and again.error.code) == "token_revoked"
    assert await admin.ok("token/revoke", {"kid": token.kid}) == await listed(admin, token.kid)
    assert (await admin.ok("get", {"service": service}))["version"] == 10


async def test_nothing_of_a_token_is_written_after_its_end(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Of commands in flight around a revocation those before it ran and those behind did not: no gap, and none late."""
    token = await create(admin, service)
    async with calling(shared_daemon, token) as holder:
        jtis = [f"{service}-{number}" for number in range(60)]
        for number, jti in enumerate(jtis):
            if number == 30:
                await admin.mqtt.publish(
                    admin.topics.command("token/revoke"),
                    admin.sign("token/revoke", {"kid": token.kid}, jti=f"{service}-end"),
                    qos=1,
                )
            command = holder.sign("set", {"service": service, "config": {"n": number}}, jti=jti)
            await holder.mqtt.publish(holder.topics.command("set"), command, qos=1)
        replies = [await holder.reply(holder.topics.reply(service, jti)) for jti in jtis]
        assert (await admin.reply(admin.topics.reply("admin", f"{service}-end"))).ok
    codes = ["ok" if reply.error is None else str(reply.error.code) for reply in replies]
    ran = codes.count("ok")
    assert codes == ["ok"] * ran + ["token_revoked"] * (60 - ran)
    current = await admin.call("get", {"service": service})
    assert (current.result["version"] if current.result else 0) == ran


async def test_revoking_oneself(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """The reply comes, signed with the secret that has just ended; then the token is refused."""
    token = await create(admin, service, "admin")
    async with calling(shared_daemon, token) as holder:
        assert (await holder.ok("token/revoke", {"kid": token.kid}))["kid"] == token.kid
        assert (await holder.error("info"))["code"] == "token_revoked"


async def test_the_last_admin_token_is_revoked_from_the_command_line_only(new_daemon: NewDaemon) -> None:
    """Over the wire it is refused, by a word for programs; two that revoke each other at once leave one of them."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        error = await admin.error("token/revoke", {"kid": admin.token.kid})
        [misfit] = error["details"]["errors"]
        assert (error["code"], misfit["field"], misfit["type"]) == ("bad_request", "kid", "last_admin")
        second = await create(admin, "second", "admin")
        async with calling(daemon, second) as other:
            replies = await asyncio.gather(
                admin.call("token/revoke", {"kid": second.kid}), other.call("token/revoke", {"kid": admin.token.kid})
            )
            codes = sorted("ok" if reply.error is None else str(reply.error.code) for reply in replies)
            assert codes == ["ok", "token_revoked"]
            [left] = [caller for caller, reply in ((admin, replies[0]), (other, replies[1])) if reply.ok]
        await asyncio.to_thread(daemon.revoke, left.token)
        async with calling(daemon, left.token) as locked_out:
            assert (await locked_out.error("info"))["code"] == "token_revoked"


async def test_rotation_with_grace(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Both tokens work in the grace, under one name; then the old one has expired, and the new one goes on."""
    old = await create(admin, service, services=["svc-*"])
    result = await admin.ok("token/rotate", {"kid": old.kid, "grace_s": 3})
    new = opened(admin, result)
    assert (new.name, new.role, new.services, new.expires_at) == (old.name, old.role, old.services, None)
    assert result["replaced"] == await listed(admin, old.kid)
    async with calling(shared_daemon, old) as before, calling(shared_daemon, new) as after:
        assert (await before.ok("set", {"service": service, "config": {}}))["updated_by"] == service
        assert (await after.ok("set", {"service": service, "config": {"n": 1}}))["updated_by"] == service

        async def refused() -> bool:
            reply = await before.call("info")
            assert reply.error is None or reply.error.code == "token_expired"
            return not reply.ok

        deadline = time.monotonic() + DEADLINE_S
        while not await refused():
            assert time.monotonic() < deadline
        assert (await after.ok("info"))["principal"] == service


async def test_rotating_oneself(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """With grace the reply can be asked for again; without, it comes once, and the old token has ended with it."""
    token = await create(admin, service, "admin")
    async with calling(shared_daemon, token) as holder:
        topic = holder.topics.command("token/rotate")
        command = holder.sign("token/rotate", {"kid": token.kid})
        first = await holder.exchange(topic, command)
        assert await holder.exchange(topic, command) == first
        assert first.result is not None
        successor = opened(holder, first.result)
    async with calling(shared_daemon, successor) as holder:
        topic = holder.topics.command("token/rotate")
        command = holder.sign("token/rotate", {"kid": successor.kid, "grace_s": 0})
        second = await holder.exchange(topic, command)
        assert second.ok
        again = await holder.exchange(topic, command)
        assert (again.error and again.error.code) == "token_expired"


async def test_rotating_a_pair(shared_daemon: Daemon, admin: Caller) -> None:
    """Its owner makes the new one; without a public key it is refused."""
    old, public = pair()
    await admin.ok("token/create", {"name": "pi", "role": "operator", "alg": "Ed25519", "public_jwk": public})
    [misfit] = (await admin.error("token/rotate", {"kid": old.kid}))["details"]["errors"]
    assert (misfit["field"], misfit["type"]) == ("public_jwk", "missing")
    new, public = pair()
    result = await admin.ok("token/rotate", {"kid": old.kid, "grace_s": 0, "public_jwk": public})
    assert (result["kid"], result["replaced"]["kid"], "token_jwe" in result) == (new.kid, old.kid, False)
    async with calling(shared_daemon, old) as before, calling(shared_daemon, new) as after:
        assert (await before.error("info"))["code"] == "token_expired"
        assert (await after.ok("info"))["principal"] == "pi"


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_only_an_admin_may(shared_daemon: Daemon, admin: Caller, role: str) -> None:
    """Every command on tokens is forbidden to the others; an admin's scope narrows none of them."""
    commands: list[tuple[str, dict[str, Any]]] = [
        ("token/create", {"name": "x", "role": "viewer"}),
        ("token/list", {}),
        ("token/revoke", {"kid": "nobody"}),
        ("token/rotate", {"kid": "nobody"}),
    ]
    token = await create(admin, role, role)
    async with calling(shared_daemon, token) as caller:
        for command, params in commands:
            error = await caller.error(command, params)
            assert (error["code"], error["details"]) == ("forbidden", {"needs": "admin.manage"})
    scoped = await create(admin, "scoped", "admin", services=["nothing"])
    async with calling(shared_daemon, scoped) as caller:
        codes = [reply.error and reply.error.code for reply in [await caller.call(*command) for command in commands]]
        assert codes == [None, None, "not_found", "not_found"]


async def test_each_is_audited(new_daemon: NewDaemon) -> None:
    """Who made, rotated and revoked which token is published, and nothing of a key."""
    daemon = new_daemon()
    topics = {action: daemon.topics.audit(action) for action in ("create_token", "rotate_token", "revoke_token")}
    async with calling(daemon, None, *topics.values()) as admin:
        old = await create(admin, "pi", "viewer")
        rotated = await admin.ok("token/rotate", {"kid": old.kid})
        await admin.ok("token/revoke", {"kid": old.kid})
        events = {action: await admin.event(topic) for action, topic in topics.items()}
        while events["create_token"]["user"] == "setpointd":  # the admin's own, made by `init`
            events["create_token"] = await admin.event(topics["create_token"])
    assert {event["user"] for event in events.values()} == {"admin"}
    assert all("revision" not in event for event in events.values())
    assert {action: event["details"] for action, event in events.items()} == {
        "create_token": {"kid": old.kid, "name": "pi", "role": "viewer", "alg": "HS256"},
        "rotate_token": {
            "kid": old.kid,
            "name": "pi",
            "ends_at": rotated["replaced"]["expires_at"],
            "successor": rotated["kid"],
        },
        "revoke_token": {"kid": old.kid},
    }


async def test_a_use_is_seen_after_a_restart(new_daemon: NewDaemon) -> None:
    """When a token was last used is kept without a write for each command, and written down at the end."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        token = await create(admin, "pi", "viewer")
        async with calling(daemon, token) as holder:
            await holder.error("set", {"service": "a", "config": {}})
        assert (await listed(admin, token.kid))["last_used_at"] is None
    daemon.stop()
    daemon.start()
    daemon.wait_ready()
    async with calling(daemon) as admin:
        entry = await listed(admin, token.kid)
        assert entry["created_at"] <= entry["last_used_at"]


async def test_the_command_line_and_the_wire_know_of_each_other(new_daemon: NewDaemon) -> None:
    """What one of them has changed the other goes by, at once, however they alternate."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        for number in range(5):
            made = await create(admin, f"wire{number}", "viewer")
            there = await asyncio.to_thread(daemon.new_token, f"shell{number}", "viewer")
            await asyncio.to_thread(daemon.revoke, made)
            await admin.ok("token/revoke", {"kid": there.kid})
            for token in (made, there):
                async with calling(daemon, token) as holder:
                    assert (await holder.error("info"))["code"] == "token_revoked"


async def test_no_new_secret_is_anywhere(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """Made, used, rotated, repeated, over a crash: the secrets are in no file of the store, log, event or message."""
    daemon = new_daemon()
    heard = bytearray()
    async with connecting(daemon) as witness, calling(daemon) as admin:
        await witness.subscribe(f"{daemon.prefix}#", qos=1)
        listener = asyncio.create_task(listen(witness, heard))
        made = await create(admin, "pi", "admin")
        async with calling(daemon, made) as holder:
            command = holder.sign("token/rotate", {"kid": made.kid})
            topic = holder.topics.command("token/rotate")
            reply = await holder.exchange(topic, command)
            assert await holder.exchange(topic, command) == reply
            assert reply.result is not None
            successor = opened(holder, reply.result)
        async with calling(daemon, successor) as holder:
            await holder.ok("token/list")
        await eventually(lambda: b"audit/config/rotate_token" in heard, "the witness has heard of it")
        listener.cancel()
    daemon.kill()
    daemon.start()
    daemon.wait_ready()
    places = {path.name: path.read_bytes() for path in daemon.data_dir.iterdir() if path.suffix != ".jwk"}
    places |= {"log": "\n".join(daemon.log).encode(), "broker": bytes(heard)}
    places["http"] = "".join(daemon.probe(path)[1] for path in ("/health", "/metrics")).encode()
    assert {"setpoint.db", "setpoint.db-wal"} <= places.keys()
    for token in (made, successor):
        assert token.k is not None
        found = [name for name, content in places.items() if any(form in content for form in spellings(token.k))]
        assert found == []
        assert token.kid.encode() in places["broker"]  # the search would have found what is there
    (tmp_path / "token.jwk").write_bytes(made.dump())
    assert any(form in (tmp_path / "token.jwk").read_bytes() for form in spellings(str(made.k)))
