"""What was, over a broker: history, versions, differences, and the way back (wire section 6)."""

from typing import Any

import pytest

from tests.caller import Caller, calling
from tests.daemon import Daemon, NewDaemon
from tests.integration.test_commands import table


async def walk(caller: Caller, command: str, members: str, **params: Any) -> list[dict[str, Any]]:
    """Read a list to its end, page by page."""
    found: list[dict[str, Any]] = []
    before: dict[str, Any] = {}
    while True:
        page = await caller.ok(command, {**params, **before})
        found += page[members]
        if page["next"] is None:
            return found
        before = {"before": page["next"]}


# history/query


async def test_the_history_tells_every_change(admin: Caller, service: str) -> None:
    """Who changed which key when, why and in which request; newest first, with what was and what is."""
    first = await admin.ok("set", {"service": service, "config": {"a": 1, "b": None}, "reason": "begin"})
    second = await admin.call("patch", {"service": service, "patch": {"a": {"x": [True]}, "b": None}})
    gone = await admin.ok("delete", {"service": service})
    entries = (await admin.ok("history/query", {"service": service}))["entries"]
    assert [(entry["key"], entry["op"], entry.get("old", "-"), entry.get("new", "-")) for entry in entries] == [
        ("a", "remove", {"x": [True]}, "-"),
        ("b", "remove", None, "-"),
        ("a", "replace", 1, {"x": [True]}),
        ("b", "add", "-", None),
        ("a", "add", "-", 1),
    ]
    assert [entry["version"] for entry in entries] == [3, 2, 2, 1, 1]
    assert [entry["id"] for entry in entries] == sorted((entry["id"] for entry in entries), reverse=True)
    assert entries[0]["revision"] == gone["revision"]
    assert (entries[2]["request_id"], entries[2]["reason"], entries[2]["changed_by"]) == (second.id, None, "admin")
    assert (entries[4]["reason"], entries[4]["changed_at"]) == ("begin", first["updated_at"])


async def test_the_history_is_read_by_what_is_wanted(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """By service, key, user and time, and by all of them at once."""
    await admin.ok("set", {"service": service, "config": {"a": 1, "b": 1}})
    async with calling(shared_daemon, shared_daemon.new_token("other", "operator")) as other:
        await other.ok("set", {"service": service, "config": {"a": 2, "b": 1}})
    last = await admin.ok("set", {"service": service, "config": {"a": 3, "b": 2}})

    async def versions(**wanted: Any) -> list[tuple[int, str]]:
        found = await admin.ok("history/query", {"service": service, **wanted})
        return [(entry["version"], entry["key"]) for entry in found["entries"]]

    assert await versions(key="a") == [(3, "a"), (2, "a"), (1, "a")]
    assert await versions(user="other") == [(2, "a")]
    assert await versions(key="b", user="admin") == [(3, "b"), (1, "b")]
    assert await versions(key="b", user="other") == []
    assert (3, "a") in await versions(since=last["updated_at"])
    assert (3, "a") not in await versions(until=last["updated_at"])
    assert await versions(since="2999-01-01T00:00:00Z") == await versions(until="2000-01-01T00:00:00Z") == []
    assert [
        (entry["service"], entry["key"]) for entry in (await admin.ok("history/query", {"limit": 1}))["entries"]
    ] == [(service, "b")]


async def test_pages_stay_whole_while_others_write(admin: Caller, service: str) -> None:
    """Each entry stands on exactly one page, however many come meanwhile."""
    for number in range(5):
        await admin.ok("set", {"service": service, "config": {"n": number}})
    found = []
    before: dict[str, Any] = {}
    for number in range(3):
        page = await admin.ok("history/query", {"service": service, "limit": 2, **before})
        found += [entry["new"] for entry in page["entries"]]
        before = {"before": page["next"]}
        await admin.ok("set", {"service": service, "config": {"n": f"meanwhile {number}"}})
    assert found == [4, 3, 2, 1, 0]
    assert page["next"] is None


async def test_a_scoped_token_is_shown_its_services(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """The history of others is not there for it, and asking for one of them by name is forbidden."""
    for name in ("a", "b"):
        await admin.ok("set", {"service": f"{service}-{name}", "config": {"n": name}})
    viewer = shared_daemon.new_token("v", "viewer", "--services", f"{service}-a", "--services", "x[!y]*")
    async with calling(shared_daemon, viewer) as caller:
        assert {entry["service"] for entry in await walk(caller, "history/query", "entries")} == {f"{service}-a"}
        for command, more in (
            ("history/query", {}),
            ("history/versions", {}),
            ("diff", {"from": {"version": 1}, "to": {"version": 1}}),
            ("search", {"query": "a"}),
        ):
            error = await caller.error(command, {"service": f"{service}-b", **more})
            assert (error["code"], error["details"]["service"]) == ("forbidden", f"{service}-b")


# history/versions


async def test_versions_are_listed(admin: Caller, service: str) -> None:
    """Newest first, page by page, the tombstone marked; a service that never was is not found."""
    assert (await admin.error("history/versions", {"service": service}))["code"] == "not_found"
    await admin.ok("set", {"service": service, "config": {"n": 1}, "reason": "begin"}, jti=f"v-{service}")
    gone = await admin.ok("delete", {"service": service})
    await admin.ok("set", {"service": service, "config": {"n": 1}})
    for limit in (1, 2, 3, 1000):
        third, second, first = await walk(admin, "history/versions", "versions", service=service, limit=limit)
        assert (third["version"], second["version"], first["version"]) == (3, 2, 1)
        assert ("deleted" in third, second["deleted"], "deleted" in first) == (False, True, False)
        assert (first["reason"], first["request_id"]) == ("begin", f"v-{service}")
        assert {name: second[name] for name in ("revision", "updated_at", "updated_by")} == {
            name: gone[name] for name in ("revision", "updated_at", "updated_by")
        }


# diff


async def test_two_points_are_compared(admin: Caller, service: str) -> None:
    """By version, revision or time, either way round; deleted and not yet there count as empty."""
    one = await admin.ok("set", {"service": service, "config": {"a": 1, "b": {"x": 1}}})
    two = await admin.ok("set", {"service": service, "config": {"a": 2, "b": {"x": 1, "y": 2}}})
    gone = await admin.ok("delete", {"service": service})
    there = {"version": 1, "revision": one["revision"]}
    both = await admin.ok("diff", {"service": service, "from": {"version": 1}, "to": {"revision": two["revision"]}})
    assert (both["from"], both["to"]) == (there, {"version": 2, "revision": two["revision"]})
    assert both["diff"] == [
        {"op": "replace", "path": "/a", "old": 1, "new": 2},
        {"op": "add", "path": "/b/y", "new": 2},
    ]
    back = await admin.ok("diff", {"service": service, "from": {"time": "2999-01-01T00:00:00Z"}, "to": {"version": 1}})
    assert back["from"] == {"version": 3, "revision": gone["revision"], "deleted": True}
    assert [change["op"] for change in back["diff"]] == ["add", "add"]
    before = await admin.ok("diff", {"service": service, "from": {"revision": 0}, "to": {"version": 3}})
    assert (before["from"], before["diff"]) == ({"version": 0, "revision": 0, "deleted": True}, [])


async def test_a_profile_is_compared_with_what_is(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """As it held the service; one without it counts as empty, one without anything that the caller sees as unknown."""
    await admin.ok("set", {"service": service, "config": {"a": 1}})
    await admin.ok("set", {"service": f"{service}-x", "config": {}})
    await admin.ok("profile/save", {"name": f"of {service}", "services": [service]})
    await admin.ok("profile/save", {"name": f"of {service}-x", "services": [f"{service}-x"]})
    await admin.ok("set", {"service": service, "config": {"a": 2}})
    of, of_x = ({"profile": f"of {name}"} for name in (service, f"{service}-x"))
    viewer = shared_daemon.new_token("v", "viewer", "--services", service)
    async with calling(shared_daemon, viewer) as caller:
        found = await caller.ok("diff", {"service": service, "from": of, "to": {"version": 2}})
        assert (found["from"]["version"], found["diff"]) == (
            1,
            [{"op": "replace", "path": "/a", "old": 1, "new": 2}],
        )
        assert (await caller.error("diff", {"service": service, "from": of, "to": of_x}))["code"] == "not_found"
    found = await admin.ok("diff", {"service": service, "from": of, "to": of_x})
    assert (found["to"], [change["op"] for change in found["diff"]]) == (
        {"version": 0, "revision": 0, "deleted": True},
        ["remove"],
    )


async def test_what_never_was_cannot_be_compared(admin: Caller, service: str) -> None:
    """A service or a version that there is not is not found."""
    points = {"from": {"revision": 0}, "to": {"version": 9}}
    assert (await admin.error("diff", {"service": service, **points}))["code"] == "not_found"
    await admin.ok("set", {"service": service, "config": {}})
    assert (await admin.error("diff", {"service": service, **points}))["code"] == "not_found"


@pytest.mark.parametrize(
    ("points", "field"),
    [
        ({"from": {"version": 1}}, "to"),
        ({"from": {"version": 1}, "to": {}}, "to"),
        ({"from": {"version": 0}, "to": {"version": 1}}, "from.version"),
        ({"from": {"version": 1, "time": "2026-01-01T00:00:00Z"}, "to": {"version": 1}}, "from.time"),
        ({"from": 1, "to": {"version": 1}}, "from"),
    ],
)
async def test_a_point_that_does_not_fit_is_named(points: dict[str, Any], field: str, admin: Caller) -> None:
    """By the name that it has on the wire."""
    error = await admin.error("diff", {"service": "stt", **points})
    assert (error["code"], error["details"]["errors"][0]["field"]) == ("bad_request", field)


# history/restore


async def test_several_services_go_back_in_one_revision(admin: Caller, service: str) -> None:
    """New versions with the old content; what was not there is deleted, what was deleted is again, the rest stays."""
    names = {name: f"{service}-{name}" for name in ("changed", "new", "gone", "same")}
    for name in ("changed", "gone", "same"):
        await admin.ok("set", {"service": names[name], "config": {"n": name}})
    await admin.ok("delete", {"service": names["gone"]})
    then = (await admin.call("status")).revision
    changed = await admin.ok("set", {"service": names["changed"], "config": {"n": 2}})
    await admin.ok("set", {"service": names["new"], "config": {}})
    await admin.ok("set", {"service": names["gone"], "config": {"n": 3}})

    params = {"services": list(names.values()), "revision": then, "reason": "it was better"}
    dry = await admin.ok("history/restore", {**params, "dry_run": True})
    reply = await admin.call("history/restore", params)
    assert reply.result is not None
    assert [{**result, "updated_at": None} for result in dry["results"]] == [
        {**result, "updated_at": None} for result in reply.result["results"]
    ]
    assert (dry["dry_run"], reply.result["unchanged"]) == (True, 1)
    back, deleted, was_new = reply.result["results"]
    assert (back["service"], back["version"]) == (names["changed"], changed["version"] + 1)
    assert back["diff"] == [{"op": "replace", "path": "/n", "old": 2, "new": "changed"}]
    assert (deleted["service"], deleted["deleted"], deleted["version"]) == (names["gone"], True, 4)
    assert (was_new["service"], was_new["deleted"], was_new["version"]) == (names["new"], True, 2)
    assert {result["revision"] for result in reply.result["results"]} == {reply.revision}
    document = await admin.ok("get", {"service": names["changed"]})
    assert (document["config"], document["revision"]) == ({"n": "changed"}, reply.revision)
    (entry,) = (await admin.ok("history/query", {"service": names["changed"], "limit": 1}))["entries"]
    assert (entry["old"], entry["new"], entry["reason"]) == (2, "changed", "it was better")

    again = await admin.ok("history/restore", {"services": list(names.values()), "revision": reply.revision - 1})
    assert [result["diff"][0]["new"] for result in again["results"] if result["diff"]] == [2, 3]
    assert (await admin.ok("get", {"service": names["new"]}))["config"] == {}


async def test_a_dry_run_of_a_restore_writes_nothing(admin: Caller, service: str, shared_daemon: Daemon) -> None:
    """Neither versions nor events; and nothing that is as it was makes a revision."""
    await admin.ok("set", {"service": service, "config": {"n": 1}})
    await admin.ok("set", {"service": service, "config": {"n": 2}})
    before = await admin.call("status")
    events = table(shared_daemon, "SELECT count(*) FROM audit_log")
    result = await admin.ok("history/restore", {"services": [service], "version": 1, "dry_run": True})
    assert [change["version"] for change in result["results"]] == [3]
    unchanged = await admin.call("history/restore", {"services": [service], "version": 2})
    assert unchanged.result == {"results": [], "unchanged": 1}
    assert unchanged.revision == before.revision
    assert table(shared_daemon, "SELECT count(*) FROM audit_log") == events


async def test_a_version_is_restored(shared_daemon: Daemon, service: str) -> None:
    """Of one service, a tombstone too; it is told of in an audit event and an update, and runs once."""
    topics = shared_daemon.topics
    event_topic, update_topic = topics.audit("restore_config"), topics.updated(service)
    async with calling(shared_daemon, None, event_topic, update_topic) as admin:
        await admin.ok("set", {"service": service, "config": {"n": 1}})
        await admin.ok("delete", {"service": service})
        payload = admin.sign("history/restore", {"services": [service], "version": 1, "reason": "back"})
        first = await admin.exchange(topics.command("history/restore"), payload)
        again = await admin.exchange(topics.command("history/restore"), payload)
        assert first == again
        assert first.result is not None
        assert (first.result["results"][0]["version"], first.result["unchanged"]) == (3, 0)
        event = await admin.event(event_topic)
        assert (event["service"], event["user"], event["revision"]) == (service, "admin", first.revision)
        assert event["details"] == {
            "version": 3,
            "op": "restore",
            "keys": ["n"],
            "reason": "back",
            "restored": {"version": 1},
        }
        tombstone = await admin.ok("history/restore", {"services": [service], "version": 2})
        assert tombstone["results"][0]["deleted"] is True
        assert (await admin.event(event_topic))["action"] == "restore_config"
        assert (await admin.error("get", {"service": service}))["details"]["current"]["version"] == 4


async def test_a_restore_needs_the_right_for_all_that_it_does(
    shared_daemon: Daemon, admin: Caller, service: str
) -> None:
    """Deleting takes more than writing, and a scope holds for every service; one that is not allowed refuses all."""
    await admin.ok("set", {"service": f"{service}-a", "config": {"n": 1}})
    then = await admin.ok("set", {"service": f"{service}-a", "config": {"n": 2}})
    await admin.ok("set", {"service": f"{service}-a", "config": {"n": 3}})
    await admin.ok("set", {"service": f"{service}-b", "config": {}})
    operator = shared_daemon.new_token("op", "operator", "--services", f"{service}-*")
    async with calling(shared_daemon, operator) as caller:
        both = {"services": [f"{service}-a", f"{service}-b"], "revision": then["revision"]}
        for dry_run in (True, False):
            error = await caller.error("history/restore", {**both, "dry_run": dry_run})
            assert (error["code"], error["details"]) == (
                "forbidden",
                {"needs": "config.delete", "service": f"{service}-b"},
            )
        outside = {"services": [f"{service}-a", "elsewhere"], "revision": then["revision"]}
        error = await caller.error("history/restore", outside)
        assert error["details"] == {"needs": "config.write", "service": "elsewhere"}
        await admin.ok("set", {"service": f"x{service}", "config": {}})
        error = await caller.error("history/restore", {"revision": then["revision"]})
        assert (error["code"], error["details"]) == ("forbidden", {"needs": "config.write"})
        assert (await caller.ok("get", {"service": f"{service}-a"}))["config"] == {"n": 3}
        result = await caller.ok("history/restore", {"services": [f"{service}-a"], "revision": then["revision"]})
        assert [change["version"] for change in result["results"]] == [4]


async def test_the_whole_store_goes_back(new_daemon: NewDaemon) -> None:
    """Without names it is every service; going back to the beginning deletes all, and that can be taken back."""
    async with calling(new_daemon()) as admin:
        for number in range(1, 4):
            await admin.ok("set", {"service": f"s{number}", "config": {"n": number}})
        await admin.ok("delete", {"service": "s1"})
        away = await admin.ok("history/restore", {"time": "2020-01-01T00:00:00Z"})
        assert [(change["service"], change["deleted"]) for change in away["results"]] == [("s2", True), ("s3", True)]
        assert away["unchanged"] == 1
        assert (await admin.ok("list"))["services"] == []
        back = await admin.ok("history/restore", {"revision": 3})
        assert [change["version"] for change in back["results"]] == [3, 3, 3]
        assert [listed["service"] for listed in (await admin.ok("list"))["services"]] == ["s1", "s2", "s3"]
        nothing = await admin.ok("history/restore", {"time": "2999-01-01T00:00:00Z"})
        assert nothing == {"results": [], "unchanged": 3}


async def test_what_cannot_be_restored(admin: Caller, service: str) -> None:
    """A service that never was, a version that there is not, a revision to come; nothing is written then."""
    await admin.ok("set", {"service": service, "config": {"n": 1}})
    before = await admin.call("status")
    error = await admin.error("history/restore", {"services": [service, f"{service}-x"], "revision": 0})
    assert (error["code"], error["details"]) == ("not_found", {"service": f"{service}-x"})
    assert (await admin.error("history/restore", {"services": [service], "version": 2}))["code"] == "not_found"
    error = await admin.error("history/restore", {"services": [service], "revision": before.revision + 1})
    assert (error["code"], error["details"]["revision"]) == ("bad_request", before.revision)
    assert error["details"]["errors"][0]["field"] == "revision"
    assert (await admin.call("status")).revision == before.revision


async def test_a_restore_has_to_fit_the_schema(admin: Caller, service: str) -> None:
    """What does not fit what is asked for today stays in the past, and with it all that the command names."""
    for value in ("x", 1):
        await admin.ok("set", {"service": service, "config": {"a": value}})
        await admin.ok("set", {"service": f"{service}-b", "config": {"a": value}})
    then = (await admin.call("status")).revision - 2
    await admin.ok("schema/set", {"service": service, "schema": {"properties": {"a": {"type": "integer"}}}})
    for dry_run in (True, False):
        params = {"services": [service, f"{service}-b"], "revision": then, "dry_run": dry_run}
        error = await admin.error("history/restore", params)
        assert (error["code"], error["details"]["service"]) == ("schema_invalid", service)
    assert (await admin.ok("get", {"service": f"{service}-b"}))["version"] == 2


async def test_a_lowered_limit_holds_for_restores_too(new_daemon: NewDaemon) -> None:
    """What was within the limits then and is not now is too large; the error names its service."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "stt", "config": {"text": "x" * 5000}})
        await admin.ok("set", {"service": "stt", "config": {}})
    daemon.stop()
    smaller = new_daemon(data_dir=daemon.data_dir, max_config_bytes=4096)
    async with calling(smaller) as admin:
        error = await admin.error("history/restore", {"services": ["stt"], "version": 1})
        assert (error["code"], error["details"]["service"]) == ("too_large", "stt")
