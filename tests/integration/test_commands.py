"""Every command of the daemon, as a caller sees it over the broker (wire sections 5 and 6)."""

import json
import sqlite3
from typing import Any

import pytest

from setpoint_contracts import COMMANDS, strictjson
from tests.caller import Caller, calling
from tests.daemon import Daemon, NewDaemon

CHANGES: dict[str, dict[str, Any]] = {"set": {"config": {"a": 2}}, "patch": {"patch": {"a": 2}}, "delete": {}}
"""Each command that changes a service, and what it takes beside the service."""


def table(daemon: Daemon, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Look into the store of a running daemon."""
    connection = sqlite3.connect(f"file:{daemon.data_dir}/setpoint.db?mode=ro", uri=True)
    found = connection.execute(sql, values).fetchall()
    connection.close()
    return found


# What the daemon says of itself


async def test_info_says_what_it_is_and_who_you_are(admin: Caller) -> None:
    """Product, protocol, commands and limits; and the caller's own name, role and scope."""
    info = await admin.ok("info")
    assert (info["product"], info["protocol"]) == ("setpoint", 1)
    assert info["commands"] == sorted(COMMANDS)
    assert info["limits"]["max_command_bytes"] == 262_144
    assert (info["principal"], info["role"], info["services"]) == ("admin", "admin", None)


async def test_status_counts(admin: Caller, service: str) -> None:
    """Mode, epoch and revision are those of the reply itself; a new service counts."""
    before = await admin.ok("status")
    await admin.ok("set", {"service": service, "config": {}})
    reply = await admin.call("status")
    assert reply.result is not None
    assert (reply.result["mode"], reply.result["reason"]) == ("active", None)
    assert (reply.result["epoch"], reply.result["revision"]) == (reply.epoch, reply.revision)
    assert reply.result["services"] == before["services"] + 1
    assert reply.revision == before["revision"] + 1
    assert reply.result["uptime_s"] > before["uptime_s"]


# set


async def test_set_makes_the_first_version(admin: Caller, service: str) -> None:
    """A new service is at version 1, by the caller, at the store's new revision, with the difference to nothing."""
    reply = await admin.call("set", {"service": service, "config": {"model": "small", "threads": 2}})
    assert reply.result is not None
    assert reply.result["version"] == 1
    assert reply.result["revision"] == reply.revision
    assert reply.result["updated_by"] == "admin"
    assert reply.result["config"] == {"model": "small", "threads": 2}
    assert reply.result["changed"] is True
    assert reply.result["diff"] == [
        {"op": "add", "path": "/model", "new": "small"},
        {"op": "add", "path": "/threads", "new": 2},
    ]
    document = {name: value for name, value in reply.result.items() if name not in {"changed", "diff"}}
    assert await admin.ok("get", {"service": service}) == document


async def test_set_replaces_the_whole_config(admin: Caller, service: str) -> None:
    """Keys that are not given are gone."""
    await admin.ok("set", {"service": service, "config": {"a": 1, "b": 2}})
    result = await admin.ok("set", {"service": service, "config": {"b": 3}})
    assert (result["version"], result["config"]) == (2, {"b": 3})
    assert [(change["op"], change["path"]) for change in result["diff"]] == [("remove", "/a"), ("replace", "/b")]


async def test_a_set_that_changes_nothing_makes_no_version(admin: Caller, service: str) -> None:
    """The same config again, members in another order: no version, no revision, and the answer says so."""
    first = await admin.call("set", {"service": service, "config": {"a": 1, "b": {"c": 1, "d": 2}}})
    again = await admin.call("set", {"service": service, "config": {"b": {"d": 2, "c": 1}, "a": 1}})
    assert again.result is not None
    assert (again.result["version"], again.result["changed"], again.result["diff"]) == (1, False, [])
    assert again.revision == first.revision


async def test_numbers_are_compared_by_value(admin: Caller, service: str) -> None:
    """1 and 1.0 are one value, whose writing anew changes nothing; true is another."""
    for version, changed, value in ((1, True, "1"), (1, False, "1.0"), (2, True, "true"), (3, True, "[1]")):
        result = await admin.ok("set", {"service": service, "config": {"a": json.loads(value)}})
        assert (result["version"], result["changed"]) == (version, changed)
    assert (await admin.ok("set", {"service": service, "config": {"a": [1.0]}, "expected_version": 3.0}))[
        "version"
    ] == 3
    assert (await admin.error("set", {"service": service, "config": {}, "expected_version": True}))[
        "code"
    ] == "bad_request"


async def test_any_json_comes_back_as_it_was_sent(admin: Caller, service: str) -> None:
    """Order of members, unicode, numbers large and small, and as many levels as are allowed."""
    deep: Any = "bottom"
    for _ in range(27):  # claims, params and config are levels too
        deep = [deep]
    numbers = [2**63 - 1, -(2**63), 0, 1e-300, 1e300, None]
    config = {"z": 'é\u2028\U0001f600\\"\n', "a": numbers, "deep": deep, "empty": {"": {}}}
    await admin.ok("set", {"service": service, "config": config})
    result = await admin.ok("get", {"service": service})
    assert strictjson.dumps(result["config"]) == strictjson.dumps(config)
    beyond = await admin.error("set", {"service": service, "config": {"a": 2**63}})
    assert (beyond["code"], beyond["details"]["errors"][0]["type"]) == ("bad_request", "json_invalid")


# patch


async def test_patch_changes_parts(admin: Caller, service: str) -> None:
    """A merge patch changes what it names, removes what is null, however deep, and leaves the rest."""
    await admin.ok("set", {"service": service, "config": {"a": {"x": 1, "y": 2}, "b": [1, 2], "c": "stays"}})
    result = await admin.ok(
        "patch", {"service": service, "patch": {"a": {"y": None, "z": 3}, "b": [3], "d": {"e": None}}}
    )
    assert result["config"] == {"a": {"x": 1, "z": 3}, "b": [3], "c": "stays", "d": {}}
    assert [change["path"] for change in result["diff"]] == ["/a/y", "/a/z", "/b", "/d"]


async def test_a_patch_that_changes_nothing_makes_no_version(admin: Caller, service: str) -> None:
    """Setting what is set and removing what is not there is no change."""
    await admin.ok("set", {"service": service, "config": {"a": 1}})
    result = await admin.ok("patch", {"service": service, "patch": {"a": 1, "b": None}})
    assert (result["version"], result["changed"], result["diff"]) == (1, False, [])


# delete


async def test_versions_go_on_after_a_delete(admin: Caller, service: str) -> None:
    """Deleting makes a tombstone version; the service set again goes on behind it, even with the config it had."""
    await admin.ok("set", {"service": service, "config": {"a": 1}})
    gone = await admin.call("delete", {"service": service})
    assert gone.result is not None
    assert (gone.result["version"], gone.result["revision"]) == (2, gone.revision)
    assert gone.result["deleted"] is True
    assert "config" not in gone.result
    again = await admin.ok("set", {"service": service, "config": {"a": 1}})
    assert (again["version"], again["changed"]) == (3, True)


@pytest.mark.parametrize("command", ["get", "patch", "delete"])
async def test_what_is_not_there_is_not_found(command: str, admin: Caller, service: str) -> None:
    """Nothing to read, patch or delete: a service that never was, and one that is deleted, with its tombstone."""
    params = {"service": service, **({"patch": {"a": 1}} if command == "patch" else {})}
    assert (await admin.error(command, params))["code"] == "not_found"
    await admin.ok("set", {"service": service, "config": {}})
    tombstone = await admin.ok("delete", {"service": service})
    error = await admin.error(command, params)
    assert (error["code"], error["details"]) == ("not_found", {"current": tombstone})


# expected_version


async def test_the_expected_version_lets_one_write_pass(admin: Caller, service: str) -> None:
    """0 makes a service, its version changes it; each is good for once."""
    assert (await admin.ok("set", {"service": service, "config": {"n": 1}, "expected_version": 0}))["version"] == 1
    assert (await admin.ok("patch", {"service": service, "patch": {"n": 2}, "expected_version": 1}))["version"] == 2
    assert (await admin.ok("delete", {"service": service, "expected_version": 2}))["version"] == 3


@pytest.mark.parametrize("command", ["set", "patch", "delete"])
@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_another_version_conflicts(command: str, expected: int, admin: Caller, service: str) -> None:
    """Whatever the writer expected instead, it learns the current document, and nothing is written."""
    for n in range(2):
        await admin.ok("set", {"service": service, "config": {"n": n}})
    current = await admin.ok("get", {"service": service})
    error = await admin.error(command, {"service": service, "expected_version": expected, **CHANGES[command]})
    assert (error["code"], error["retryable"]) == ("version_conflict", False)
    assert error["details"] == {"current": current}
    assert await admin.ok("get", {"service": service}) == current


async def test_a_service_that_never_was_is_at_version_0(admin: Caller, service: str) -> None:
    """Who expects a version of it is told that there is none."""
    error = await admin.error("set", {"service": service, "config": {}, "expected_version": 1})
    assert error["code"] == "version_conflict"
    assert (error["details"]["current"]["version"], error["details"]["current"]["deleted"]) == (0, True)


@pytest.mark.parametrize(("expected", "fits"), [(0, True), (2, True), (1, False), (3, False)])
async def test_a_tombstone_is_absent_and_a_version(
    expected: int,
    fits: bool,  # noqa: FBT001 - a column of the table
    admin: Caller,
    service: str,
) -> None:
    """A deleted service may be expected as absent, or at its tombstone's version, and at no other."""
    await admin.ok("set", {"service": service, "config": {}})
    tombstone = await admin.ok("delete", {"service": service})
    params = {"service": service, "config": {}, "expected_version": expected}
    if fits:
        assert (await admin.ok("set", params))["version"] == 3
    else:
        assert (await admin.error("set", params))["details"] == {"current": tombstone}


async def test_an_unchanged_set_must_still_meet_its_expected_version(admin: Caller, service: str) -> None:
    """A write that would change nothing conflicts as well, when it was made for another version."""
    for n in (1, 2):
        await admin.ok("set", {"service": service, "config": {"n": n}})
    params = {"service": service, "config": {"n": 2}}
    assert (await admin.error("set", {**params, "expected_version": 1}))["code"] == "version_conflict"
    assert (await admin.ok("set", {**params, "expected_version": 2}))["changed"] is False


async def test_a_daemon_may_require_the_expected_version(new_daemon: NewDaemon) -> None:
    """Then a write without one is refused, a write with one is not, and `info` tells."""
    daemon = new_daemon(require_expected_version=True)
    async with calling(daemon) as admin:
        assert (await admin.ok("info"))["limits"]["require_expected_version"] is True
        for command, content in CHANGES.items():
            error = await admin.error(command, {"service": "stt", **content})
            assert error["code"] == "bad_request"
            assert "expected_version" in error["message"]
        await admin.ok("set", {"service": "stt", "config": {}, "expected_version": 0})


# dry_run and reason


@pytest.mark.parametrize("command", ["set", "patch", "delete"])
async def test_a_dry_run_tells_and_does_nothing(
    command: str,
    admin: Caller,
    service: str,
    shared_daemon: Daemon,
) -> None:
    """The result is the one that would be; version, revision, history, audit and stored replies stay as they were."""
    await admin.ok("set", {"service": service, "config": {"a": 1}})
    before = await admin.call("get", {"service": service})
    params = {"service": service, **CHANGES[command]}
    dry = await admin.call(command, {**params, "dry_run": True}, jti=f"dry-{service}")
    assert dry.result is not None
    assert (dry.result.pop("dry_run"), dry.result["version"], dry.result["revision"]) == (True, 2, before.revision + 1)
    assert dry.revision == before.revision
    assert (await admin.call("get", {"service": service})).result == before.result
    for name in ("config_versions", "config_history", "audit_log"):
        assert len(table(shared_daemon, f"SELECT 1 FROM {name} WHERE service = ?", service)) == 1  # noqa: S608
    assert table(shared_daemon, "SELECT 1 FROM command_log WHERE jti = ?", f"dry-{service}") == []

    real = await admin.call(command, params)
    assert real.result is not None
    assert {**dry.result, "updated_at": real.result["updated_at"]} == real.result


async def test_a_dry_run_is_refused_as_the_real_one_would_be(admin: Caller, service: str) -> None:
    """Validation and version check are the real ones."""
    error = await admin.error("set", {"service": service, "config": {}, "expected_version": 7, "dry_run": True})
    assert error["code"] == "version_conflict"
    assert (await admin.error("delete", {"service": service, "dry_run": True}))["code"] == "not_found"


async def test_a_reason_is_kept(admin: Caller, service: str, shared_daemon: Daemon) -> None:
    """It stands beside the version and beside every change, together with the request that made it."""
    reason = "quieter at night \u263e"
    await admin.ok("set", {"service": service, "config": {"a": 1, "b": 2}, "reason": reason}, jti=f"why-{service}")
    asked = "SELECT reason, request_id, {} FROM {} WHERE service = ?"
    versions = table(shared_daemon, asked.format("op, updated_by", "config_versions"), service)
    history = table(shared_daemon, asked.format("key, op, changed_by", "config_history"), service)
    assert versions == [(reason, f"why-{service}", "set", "admin")]
    assert history == [(reason, f"why-{service}", key, "add", "admin") for key in ("a", "b")]
    too_long = {"service": service, "config": {}, "reason": "x" * 501}
    assert (await admin.error("set", too_long))["code"] == "bad_request"


# Limits


async def test_a_config_at_its_limits_is_taken(admin: Caller, service: str) -> None:
    """Exactly as many bytes and keys as allowed; its keys, counted."""
    limits = (await admin.ok("info"))["limits"]
    config = {"a": "x" * (limits["max_config_bytes"] - len('{"a":""}'))}
    assert (await admin.ok("set", {"service": service, "config": config}))["version"] == 1
    config = {f"k{n}": n for n in range(limits["max_config_keys"])}
    assert (await admin.ok("set", {"service": service, "config": config}))["version"] == 2
    assert (await admin.ok("list", {"prefix": service}))["services"][0]["keys"] == limits["max_config_keys"]


async def test_a_config_beyond_its_limits_is_too_large(admin: Caller, service: str) -> None:
    """One byte or one key more, set or patched in: refused with the numbers, and nothing changes. Bytes are UTF-8's."""
    limits = (await admin.ok("info"))["limits"]
    room = limits["max_config_bytes"] - len('{"a":""}')
    error = await admin.error("set", {"service": service, "config": {"a": "x" * (room + 1)}})
    assert error["details"] == {"bytes": limits["max_config_bytes"] + 1, "max_bytes": limits["max_config_bytes"]}
    assert error["code"] == "too_large"
    error = await admin.error("set", {"service": service, "config": {"a": "é" * (room // 2 + 1)}})
    assert error["code"] == "too_large"
    error = await admin.error("set", {"service": service, "config": {f"k{n}": n for n in range(1001)}})
    assert error["details"] == {"keys": 1001, "max_keys": 1000}

    await admin.ok("set", {"service": service, "config": {"a": "x" * room}})
    assert (await admin.error("patch", {"service": service, "patch": {"b": 1}}))["code"] == "too_large"
    assert (await admin.ok("get", {"service": service}))["version"] == 1


# get


async def test_get_reads_as_it_was(admin: Caller, service: str) -> None:
    """By version, revision or time: each version, also from before a delete; the tombstone by its version alone."""
    made = [await admin.ok("set", {"service": service, "config": {"n": n}}) for n in (1, 2)]
    tombstone = await admin.ok("delete", {"service": service})
    for document in made:
        expected = {name: value for name, value in document.items() if name not in {"changed", "diff"}}
        for point in ("version", "revision"):
            assert await admin.ok("get", {"service": service, point: document[point]}) == expected
        then = await admin.ok("get", {"service": service, "time": document["updated_at"].replace("Z", "+00:00")})
        assert then["version"] >= document["version"]  # two writes may share a millisecond
    assert await admin.ok("get", {"service": service, "version": 3}) == tombstone
    for point, value in (("revision", tombstone["revision"]), ("time", "2999-01-01T00:00:00Z")):
        error = await admin.error("get", {"service": service, point: value})
        assert (error["code"], error["details"]) == ("not_found", {"current": tombstone})


@pytest.mark.parametrize("point", [{"version": 9}, {"revision": 0}, {"time": "2020-01-01T00:00:00Z"}], ids=str)
async def test_get_of_a_time_without_the_service_is_not_found(
    point: dict[str, Any], admin: Caller, service: str
) -> None:
    """A version that is not there, or a moment before the first one."""
    await admin.ok("set", {"service": service, "config": {}})
    error = await admin.error("get", {"service": service, **point})
    assert (error["code"], error["details"]) == ("not_found", {})


async def test_get_picks_a_key(admin: Caller, service: str) -> None:
    """A top-level key's value, null too; a key that is not there is not found."""
    await admin.ok("set", {"service": service, "config": {"a": None, "b": {"c": 1}}})
    await admin.ok("set", {"service": service, "config": {"b": 2}})
    first = {"service": service, "version": 1}
    assert (await admin.ok("get", {**first, "key": "a"}))["value"] is None
    assert (await admin.ok("get", {**first, "key": "b"}))["value"] == {"c": 1}
    assert (await admin.ok("get", {"service": service, "key": "b"}))["value"] == 2
    assert (await admin.error("get", {"service": service, "key": "a"}))["code"] == "not_found"
    assert (await admin.error("get", {**first, "key": "c"}))["code"] == "not_found"


# list


async def test_list_goes_page_by_page(admin: Caller, service: str) -> None:
    """In the order of names, each service once; `next` leads on and is null at the very end, deleted ones left out."""
    names = [f"{service}.{n:02}" for n in range(7)]
    for name in reversed(names):
        await admin.ok("set", {"service": name, "config": {"a": 1, "b": 2}})
    await admin.ok("set", {"service": f"{service}.gone", "config": {}})
    await admin.ok("delete", {"service": f"{service}.gone"})
    for limit, pages in ((3, 3), (7, 1), (1, 7), (6, 2), (1000, 1)):
        found: list[dict[str, Any]] = []
        after: dict[str, Any] = {}
        for _ in range(pages):
            page = await admin.ok("list", {"prefix": f"{service}.", "limit": limit, **after})
            found += page["services"]
            after = {"after": page["next"]}
        assert page["next"] is None
        assert [listed["service"] for listed in found] == names
        assert {listed["keys"] for listed in found} == {2}
    heads = {(listed["version"], listed["updated_by"]) for listed in found}
    assert heads == {(1, "admin")}


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 1001}, {"limit": True}, {"after": ""}, {"prefix": 1}], ids=str
)
async def test_list_refuses_what_does_not_fit(params: dict[str, Any], admin: Caller) -> None:
    """Parameters out of range are told by name."""
    error = await admin.error("list", params)
    assert error["code"] == "bad_request"
    assert [found["field"] for found in error["details"]["errors"]] == list(params)
