"""Secret values of configs: shown to nobody, kept when written back, revealed to who may write (wire section 6)."""

import asyncio
import base64
import json
import re
from typing import Any

import pytest

from setpoint_contracts import Token, open_sealed
from setpoint_contracts.sealing import SECRETS_INFO
from tests.caller import Caller, calling, connecting, retained
from tests.daemon import Daemon, NewDaemon
from tests.integration.test_secrets import listen
from tests.waiting import eventually

SECRET = {"writeOnly": True}
SCHEMA = {
    "properties": {
        "password": {"type": "string", "minLength": 4, **SECRET},
        "db": {"properties": {"login": {"type": "object", **SECRET}}},
        "peers": {"items": {"properties": {"key": SECRET}}},
    },
}
CONFIG = {
    "user": "pi",
    "password": "correct horse",
    "db": {"host": "h", "login": {"name": "root", "pin": 90210}},
    "peers": [{"name": "a", "key": "battery"}, {"name": "b", "key": "staple"}],
}
VALUES = {
    "/password": "correct horse",
    "/db/login": {"name": "root", "pin": 90210},
    "/peers/0/key": "battery",
    "/peers/1/key": "staple",
}


async def revealed(caller: Caller, service: str, **params: Any) -> dict[str, Any]:
    """Have the secrets of a service opened."""
    result = await caller.ok("get", {"service": service, "reveal": True, **params})
    key = caller.token.signing_key()
    values: dict[str, Any] = json.loads(open_sealed(key, SECRETS_INFO, result["secrets_jwe"]))
    return values


async def with_secrets(caller: Caller, service: str) -> dict[str, Any]:
    """Set a schema that marks secrets, and a config that has some; return the document."""
    await caller.ok("schema/set", {"service": service, "schema": SCHEMA})
    return await caller.ok("set", {"service": service, "config": CONFIG})


def without(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with each secret replaced by its tag's length, which is 8."""
    shown: dict[str, Any] = json.loads(json.dumps(config), object_hook=_length)
    return shown


def _length(value: dict[str, Any]) -> Any:
    return len(value["$secret"]) if value.keys() == {"$secret"} else value


SHOWN = {
    "user": "pi",
    "password": 8,
    "db": {"host": "h", "login": 8},
    "peers": [{"name": "a", "key": 8}, {"name": "b", "key": 8}],
}


async def test_a_secret_is_shown_to_nobody(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Reply, update, history, versions, profile, search and diff have its tag; two values have two tags."""
    document = await with_secrets(admin, service)
    config = document["config"]
    assert without(config) == SHOWN
    tags = [config["password"], config["db"]["login"], *(peer["key"] for peer in config["peers"])]
    assert len({tag["$secret"] for tag in tags}) == 4
    topic = admin.topics.updated(service)
    update = json.loads((await retained(shared_daemon, topic))[topic])
    assert update["config"] == (await admin.ok("get", {"service": service}))["config"] == config
    entries = (await admin.ok("history/query", {"service": service, "key": "password"}))["entries"]
    assert [entry["new"] for entry in entries] == [config["password"]]
    await admin.ok("profile/save", {"name": service, "services": [service]})
    assert (await admin.ok("profile/get", {"name": service}))["snapshot"] == {service: config}
    tag = config["password"]["$secret"]
    assert (await admin.ok("search", {"query": "correct horse", "service": service}))["matches"] == []
    assert [match["key"] for match in (await admin.ok("search", {"query": tag, "service": service}))["matches"]] == [
        "password"
    ]
    changed = await admin.ok("patch", {"service": service, "patch": {"password": "another one"}})
    [difference] = changed["diff"]
    assert (difference["path"], difference["old"]) == ("/password", config["password"])
    assert without(difference)["new"] == 8
    assert difference["new"] != config["password"]
    back = await admin.ok("patch", {"service": service, "patch": {"password": "correct horse"}})
    assert back["config"] == config  # the tag changes exactly when the value does


async def test_who_may_write_may_see(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """By JSON Pointers, sealed for the caller, of old versions too; not a viewer, nor an operator of other services."""
    await with_secrets(admin, service)
    await admin.ok("patch", {"service": service, "patch": {"password": "another one"}})
    assert await revealed(admin, service) == {**VALUES, "/password": "another one"}
    assert await revealed(admin, service, version=1) == VALUES
    operator = shared_daemon.new_token("o", "operator", "--services", service)
    async with calling(shared_daemon, operator) as caller:
        assert await revealed(caller, service, version=1) == VALUES
        sealed = (await admin.ok("get", {"service": service, "reveal": True}))["secrets_jwe"]
        with pytest.raises(ValueError, match="not sealed with this secret"):
            open_sealed(base64.urlsafe_b64decode(f"{operator.k}="), SECRETS_INFO, sealed)
    for role, services in (("viewer", service), ("operator", f"{service}-other")):
        token = shared_daemon.new_token("v", role, "--services", services)
        async with calling(shared_daemon, token) as caller:
            assert (await caller.error("get", {"service": service, "reveal": True}))["code"] == "forbidden"
    pair = shared_daemon.new_token("pair", "admin", "--alg", "Ed25519")
    async with calling(shared_daemon, pair) as caller:
        error = await caller.error("get", {"service": service, "reveal": True})
        assert error["details"]["errors"][0]["type"] == "needs_hs256_caller"


async def test_what_was_read_can_be_written_back(admin: Caller, service: str) -> None:
    """Then the values stay, moved within an array too; what names no secret of the newest version is refused."""
    config = (await with_secrets(admin, service))["config"]
    assert (await admin.ok("set", {"service": service, "config": config}))["changed"] is False
    turned = {**config, "user": "root", "peers": list(reversed(config["peers"]))}
    assert (await admin.ok("set", {"service": service, "config": turned}))["config"] == turned
    values = {**VALUES, "/peers/0/key": "staple", "/peers/1/key": "battery"}
    assert await revealed(admin, service) == values
    await admin.ok("patch", {"service": service, "patch": {"password": "another one"}})
    for command, member in (("set", {"config": turned}), ("patch", {"patch": {"password": config["password"]}})):
        error = await admin.error(command, {"service": service, **member})
        assert error["code"] == "bad_request"
        [misfit] = error["details"]["errors"]
        assert (misfit["field"].partition(".")[2], misfit["type"]) == ("password", "unknown_secret")
    other = await admin.error("set", {"service": f"{service}-other", "config": {"a": config["password"]}})
    assert other["details"]["errors"][0]["field"] == "config.a"


async def test_a_patch_reaches_into_a_secret(admin: Caller, service: str) -> None:
    """A secret that is an object is merged with (RFC 7396), and is still one secret."""
    await with_secrets(admin, service)
    patched = await admin.ok("patch", {"service": service, "patch": {"db": {"login": {"pin": None, "age": 1}}}})
    assert without(patched["config"]) == SHOWN
    assert await revealed(admin, service) == {**VALUES, "/db/login": {"name": "root", "age": 1}}
    login = patched["config"]["db"]["login"]
    kept = await admin.ok("patch", {"service": service, "patch": {"db": {"login": login, "host": "i"}}})
    assert kept["config"]["db"] == {"host": "i", "login": login}


async def test_a_secret_is_held_against_the_schema(admin: Caller, service: str) -> None:
    """With its value, also when another part changes or a profile brings it back; no error repeats it."""
    await with_secrets(admin, service)
    error = await admin.error("patch", {"service": service, "patch": {"password": "abc"}})
    assert error["details"]["errors"] == [
        {"pointer": "/password", "message": "the secret does not fit", "keyword": "minLength"}
    ]
    stricter = {"properties": {"password": {"type": "string", "minLength": 100, **SECRET}}}
    refused = await admin.error("schema/set", {"service": service, "schema": stricter})
    assert [failure["pointer"] for failure in refused["details"]["errors"]] == ["/password"]
    await admin.ok("profile/save", {"name": service, "services": [service]})
    await admin.ok("schema/set", {"service": service, "schema": stricter, "force": True})
    long = "x" * 100
    await admin.ok("patch", {"service": service, "patch": {"password": long}})
    for command, params in (
        ("patch", {"service": service, "patch": {"password": "abcde"}}),
        ("profile/load", {"name": service}),
        ("history/restore", {"services": [service], "version": 1}),
    ):
        assert (await admin.error(command, params))["code"] == "schema_invalid"


async def test_secrets_come_back_with_what_is_restored(admin: Caller, service: str) -> None:
    """By restore and by profile, with the values and the tags that they had."""
    config = (await with_secrets(admin, service))["config"]
    await admin.ok("profile/save", {"name": service, "services": [service]})
    await admin.ok("set", {"service": service, "config": {"password": "another one"}})
    await admin.ok("history/restore", {"services": [service], "version": 1})
    assert await revealed(admin, service) == VALUES
    await admin.ok("delete", {"service": service})
    await admin.ok("profile/load", {"name": service})
    assert (await admin.ok("get", {"service": service}))["config"] == config
    assert await revealed(admin, service) == VALUES
    compared = await admin.ok("diff", {"service": service, "from": {"version": 1}, "to": {"profile": service}})
    assert compared["diff"] == []


async def test_what_is_marked_later_is_concealed(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Versions, history, profiles and stored replies; and the newest version is made anew, so that all hear of it."""
    command = {"service": service, "config": CONFIG, "reason": "before"}
    again = admin.sign("set", command)
    first = await admin.exchange(admin.topics.command("set"), again)
    assert "correct horse" in str(first.result)
    await admin.ok("profile/save", {"name": service, "services": [service]})
    await admin.ok("patch", {"service": service, "patch": {"db": {"login": {"pin": 1}}, "password": "another one"}})
    marked = await admin.call("schema/set", {"service": service, "schema": SCHEMA})
    assert marked.result is not None
    assert marked.result["concealed"] is True
    topic = admin.topics.updated(service)

    async def is_retained() -> bool:
        return bool(json.loads((await retained(shared_daemon, topic))[topic])["version"] == 3)

    async with asyncio.timeout(20):
        while not await is_retained():
            pass
    newest = await admin.ok("get", {"service": service})
    assert (newest["version"], newest["revision"]) == (3, marked.revision)
    assert without(newest["config"]) == SHOWN
    old = await admin.ok("get", {"service": service, "version": 1})
    assert without(old["config"]) == SHOWN
    assert (await admin.ok("profile/get", {"name": service}))["snapshot"][service] == old["config"]
    history = await admin.ok("history/query", {"service": service})
    assert not any(value in json.dumps(history) for value in ("correct horse", "90210", "battery", "another one"))
    repeated = await admin.exchange(admin.topics.command("set"), again)
    assert repeated.result is not None
    assert (repeated.result["version"], without(repeated.result["config"])) == (1, SHOWN)
    assert "correct horse" not in str(repeated)
    assert await revealed(admin, service, version=1) == VALUES
    assert (await revealed(admin, service))["/db/login"] == {"name": "root", "pin": 1}


async def test_taking_a_mark_away_shows_nothing(admin: Caller, service: str) -> None:
    """What was concealed stays so, over writes, restores and patches, until a new value is written there."""
    config = (await with_secrets(admin, service))["config"]
    await admin.ok("schema/delete", {"service": service})
    assert (await admin.ok("get", {"service": service}))["config"] == config
    written = await admin.ok("patch", {"service": service, "patch": {"user": "root"}})
    assert without(written["config"]) == {**SHOWN, "user": "root"}
    error = await admin.error("patch", {"service": service, "patch": {"db": {"login": {"pin": 1}}}})
    assert error["details"]["errors"][0]["type"] == "unmarked_secret"
    await admin.ok("history/restore", {"services": [service], "version": 1})
    assert (await admin.ok("get", {"service": service}))["config"] == config
    assert await revealed(admin, service) == VALUES
    open_now = await admin.ok("patch", {"service": service, "patch": {"password": "now in clear"}})
    assert open_now["config"]["password"] == "now in clear"


async def test_a_config_has_so_many_secrets_at_most(admin: Caller, service: str) -> None:
    """One more is `too_large`, with both numbers."""
    limit = (await admin.ok("info"))["limits"]["max_secrets"]
    await admin.ok("schema/set", {"service": service, "schema": {"additionalProperties": SECRET}})
    config = {f"k{number}": number for number in range(limit + 1)}
    error = await admin.error("set", {"service": service, "config": config})
    assert (error["code"], error["details"]) == ("too_large", {"secrets": limit + 1, "max_secrets": limit})
    del config["k0"]
    await admin.ok("set", {"service": service, "config": config})
    assert len(await revealed(admin, service)) == limit


async def test_an_object_is_marked_around_a_secret(admin: Caller, service: str) -> None:
    """It is one secret from then on, with what was one inside; old versions too, and after the others are pruned."""
    await admin.ok("schema/set", {"service": service, "schema": SCHEMA})
    for host in ("g", "h"):
        await admin.ok("set", {"service": service, "config": {"db": {"host": host, "login": {"pin": 1}}}})
    outer = {"properties": {"db": {**SECRET, "properties": {"login": {"type": "object", **SECRET}}}}}
    assert (await admin.ok("schema/set", {"service": service, "schema": outer}))["concealed"] is True
    assert await revealed(admin, service, version=1) == {"/db": {"host": "g", "login": {"pin": 1}}}
    await admin.ok("patch", {"service": service, "patch": {"db": {"port": 1}}})
    await admin.ok("history/prune", {"keep_versions": 1})
    assert await revealed(admin, service) == {"/db": {"host": "h", "login": {"pin": 1}, "port": 1}}


async def test_no_part_of_a_secret_is_named(admin: Caller, service: str) -> None:
    """Not its keys: neither in what does not fit, nor in the differences and refusals that were stored before."""
    config = {"db": {"login": {"hidden-key": 1}}}
    params = {"service": service, "config": config}
    first = admin.sign("set", params)
    await admin.exchange(admin.topics.command("set"), first)
    second = admin.sign("patch", {"service": service, "patch": {"db": {"login": {"hidden-key": 2}}}})
    await admin.exchange(admin.topics.command("patch"), second)
    narrow = {"properties": {"db": {"properties": {"login": {"maxProperties": 1, "propertyNames": {"maxLength": 10}}}}}}
    await admin.ok("schema/set", {"service": service, "schema": narrow})
    refused = admin.sign("patch", {"service": service, "patch": {"db": {"login": {"hidden-key-2": 3}}}})
    reply = await admin.exchange(admin.topics.command("patch"), refused)
    assert "hidden-key-2" in str(reply.error)
    login = {**SECRET, "additionalProperties": {"type": "integer"}, "propertyNames": {"maxLength": 10}}
    await admin.ok(
        "schema/set", {"service": service, "schema": {"properties": {"db": {"properties": {"login": login}}}}}
    )
    error = await admin.error("set", {"service": service, "config": {"db": {"login": {"hidden-key-3": "x"}}}})
    assert {failure["pointer"] for failure in error["details"]["errors"]} == {"/db/login"}
    assert "hidden" not in str(error)
    for command, payload in (("set", first), ("patch", second), ("patch", refused)):
        assert "hidden" not in str(await admin.exchange(admin.topics.command(command), payload))


async def test_marking_later_keeps_to_the_limit_as_well(admin: Caller, service: str) -> None:
    """A schema that would make too many secrets of the newest config is refused, also by force."""
    await admin.ok("set", {"service": service, "config": {"many": list(range(257))}})
    schema = {"properties": {"many": {"items": SECRET}}}
    error = await admin.error("schema/set", {"service": service, "schema": schema, "force": True})
    assert (error["code"], error["details"]) == ("too_large", {"secrets": 257, "max_secrets": 256})
    await admin.ok("set", {"service": service, "config": {"many": [1, 2]}})
    await admin.ok("schema/set", {"service": service, "schema": schema})
    assert await revealed(admin, service, version=1) == {"/many": list(range(257))}


async def test_secrets_do_not_nest_beyond_what_a_command_may_hold(admin: Caller, service: str) -> None:
    """A value that is put into itself again and again is refused in the end, as `bad_request`, and still readable."""
    await admin.ok("schema/set", {"service": service, "schema": {"properties": {"s": SECRET}}})
    config = (await admin.ok("set", {"service": service, "config": {"s": 1}}))["config"]
    value: Any = config["s"]
    for _ in range(20):
        value = [value]
    deeper = await admin.ok("set", {"service": service, "config": {"s": value}})
    for _ in range(20):
        config["s"] = [deeper["config"]["s"]]
        deeper["config"]["s"] = config["s"]
    error = await admin.error("set", {"service": service, "config": config})
    assert error["details"]["errors"][0]["type"] == "too_deep"
    assert "/s" in await revealed(admin, service)


# Nowhere


HIDDEN = ["correct-horse-7141", "battery-staple-5923", "open-sesame-8846", "never-accepted-3357", "formerly-open-6602"]


async def use(admin: Caller) -> None:
    """Do all that can be done with secrets, refused and successful; one value is open at first, and marked later."""
    first, second, third, refused, marked_later = HIDDEN
    schema = {"properties": {"password": {"type": "string", "maxLength": 20, **SECRET}}}
    await admin.ok("schema/set", {"service": "stt", "schema": schema})
    await admin.ok("set", {"service": "stt", "config": {"password": first, "n": 1}})
    await admin.ok("profile/save", {"name": "p"})
    await admin.ok("patch", {"service": "stt", "patch": {"password": second}})
    await admin.ok("apply", {"changes": [{"op": "patch", "service": "stt", "patch": {"password": third}}]})
    await admin.ok("patch", {"service": "stt", "patch": {"password": first}, "dry_run": True})
    await admin.error("set", {"service": "stt", "config": {"password": [refused]}})
    await admin.error("set", {"service": "stt", "config": {"password": refused}, "expected_version": 77})
    await admin.error("set", {"service": "stt", "config": {"password": refused, "": 1}})
    await admin.ok("history/restore", {"services": ["stt"], "version": 1})
    await admin.ok("profile/load", {"name": "p"})
    await admin.ok("get", {"service": "stt", "reveal": True})
    for number in range(40):  # so much that pages split, and older ones become free
        padding = "x" * (37 * number)
        await admin.ok("set", {"service": "tts", "config": {"pin": marked_later, "n": number, "padding": padding}})
        await admin.ok("set", {"service": "vision", "config": {"padding": padding}})
    await admin.ok("schema/set", {"service": "tts", "schema": {"properties": {"pin": SECRET}}})
    await admin.ok("history/query", {})
    await admin.ok("audit/query", {})


def readings(content: bytes) -> bytes:
    """Add to some bytes what stands in them as base64url, as the claims of a command do."""
    words = re.findall(rb"[A-Za-z0-9_-]{4,}", content)
    return content + b" ".join(base64.urlsafe_b64decode(word[: len(word) // 4 * 4]) for word in words)


def test_the_search_reads_commands(shared_daemon: Daemon) -> None:
    """What is sent in a command would be found in it."""
    token: Token = shared_daemon.token
    assert token.k is not None
    signed = base64.urlsafe_b64encode(json.dumps({"password": HIDDEN[0]}).encode())
    assert HIDDEN[0].encode() in readings(b"a." + signed + b".b c")


async def test_no_secret_is_found_anywhere(new_daemon: NewDaemon) -> None:
    """Not in the bytes of the data directory, nor in the log, nor in what the broker carries beside the commands."""
    daemon = new_daemon()
    heard = bytearray()
    async with connecting(daemon) as witness, calling(daemon) as admin:
        topics = ("config/reply/#", "config/updated/#", "config/schema/#", "config/epoch", "audit/#", "system/#")
        for topic in topics:
            await witness.subscribe(f"{daemon.prefix}{topic}", qos=1)
        listener = asyncio.create_task(listen(witness, heard))
        await use(admin)
        heard_before = len(heard)
        await admin.ok("set", {"service": "last", "config": {}})
        await eventually(lambda: listener.done() or b'"last"' in heard[heard_before:], "the witness has heard it all")
        assert not listener.done(), listener.exception()
        listener.cancel()
    places = {path.name: path.read_bytes() for path in daemon.data_dir.iterdir()}
    assert {"setpoint.db", "setpoint.db-wal"} <= places.keys()
    assert b'"$secret"' in places["setpoint.db"] + places["setpoint.db-wal"]
    places["log"] = "\n".join(daemon.log).encode()
    # The value that was open at first was published then.
    assert HIDDEN[4].encode() in heard
    found = {(name, value) for name, content in places.items() for value in HIDDEN if value.encode() in content}
    found |= {("broker", value) for value in HIDDEN[:4] if value.encode() in readings(bytes(heard))}
    assert found == set()
