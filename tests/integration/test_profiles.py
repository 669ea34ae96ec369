"""Profiles as callers see them over the broker: saved, listed, read, deleted and loaded (wire section 6)."""

import asyncio
import json
from typing import Any

import pytest

from tests.brokers import Broker
from tests.caller import Caller, calling, retained
from tests.daemon import Daemon, NewDaemon

NAMES = [
    "evening mode",
    "a/b/c",
    "\N{CRESCENT MOON}",
    "\U0001f469\u200d\U0001f467",
    "\"quoted\" 'both' `ways`",
    "100%",
    "100_",
    "a\\b",
    "\u00e9",
    "e\u0301",
    "\u0301",
    " ",
    " a ",
    "'; DROP TABLE profiles; --",
    "#",
    "+",
    "$SYS",
    "\u2028",
    "NULL",
    "\U0001f319" * 100,
]


async def configured(caller: Caller, configs: dict[str, dict[str, Any]]) -> None:
    """Set the configs of several services."""
    for service, config in configs.items():
        await caller.ok("set", {"service": service, "config": config})


async def held(caller: Caller, service: str) -> dict[str, Any]:
    """Read a service's config."""
    config: dict[str, Any] = (await caller.ok("get", {"service": service}))["config"]
    return config


# Saving, listing, reading, deleting


async def test_what_was_saved_is_read_back(admin: Caller, service: str) -> None:
    """The profile says who made it, when, at which revision, and of how many services; then it holds their configs."""
    configs = {f"{service}-{name}": {"name": name, "deep": {"n": None}} for name in "ab"}
    await configured(admin, configs)
    reply = await admin.call(
        "profile/save", {"name": service, "description": "as it was", "services": [*configs, *configs]}
    )
    profile = reply.result
    assert profile is not None
    assert list(profile) == [
        "name",
        "description",
        "services",
        "revision",
        "created_at",
        "created_by",
        "updated_at",
        "updated_by",
    ]
    assert (profile["name"], profile["description"], profile["services"]) == (service, "as it was", 2)
    assert (profile["revision"], profile["created_at"]) == (reply.revision, profile["updated_at"])
    assert (profile["created_by"], profile["updated_by"]) == ("admin", "admin")
    await admin.ok("set", {"service": f"{service}-a", "config": {}})
    assert await admin.ok("profile/get", {"name": service}) == {**profile, "snapshot": configs}
    assert profile in (await admin.ok("profile/list"))["profiles"]


async def test_any_name_is_a_name(admin: Caller, service: str) -> None:
    """Spaces, slashes, quotes, emoji, wildcards: each is a profile of its own, told of by exactly this name."""
    await configured(admin, {service: {}})
    for number, name in enumerate(NAMES):
        await admin.ok("set", {"service": service, "config": {"n": number}})
        assert (await admin.ok("profile/save", {"name": name, "services": [service]}))["name"] == name
    listed = [profile["name"] for profile in (await admin.ok("profile/list"))["profiles"]]
    assert [name for name in listed if name in NAMES] == sorted(NAMES)
    for number, name in enumerate(NAMES):
        assert (await admin.ok("profile/get", {"name": name}))["snapshot"] == {service: {"n": number}}
        await admin.ok("profile/load", {"name": name})
        assert await held(admin, service) == {"n": number}
        assert (await admin.ok("profile/delete", {"name": name}))["name"] == name
        assert (await admin.error("profile/get", {"name": name}))["code"] == "not_found"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": "\0"}, "name"),
        ({"name": "\x7f"}, "name"),
        ({"name": "a\x85"}, "name"),
        ({"name": 1}, "name"),
        ({"name": None}, "name"),
        ({"name": "a", "description": "x" * 501}, "description"),
        ({"name": "a", "services": []}, "services"),
        ({"name": "a", "services": ["B"]}, "services.0"),
        ({"name": "a", "services": "a"}, "services"),
        ({"name": "a", "overwrite": 1}, "overwrite"),
        ({"name": "a", "profile": "a"}, "profile"),
        ({"name": "a", "dry_run": True}, "dry_run"),
    ],
    ids=str,
)
async def test_parameters_that_do_not_fit_are_named(params: dict[str, Any], field: str, admin: Caller) -> None:
    """Nothing is saved then."""
    error = await admin.error("profile/save", params)
    assert (error["code"], error["details"]["errors"][0]["field"]) == ("bad_request", field)


async def test_a_profile_is_overwritten_when_asked(admin: Caller, service: str, shared_daemon: Daemon) -> None:
    """Else it stays, and the refusal shows it. Then all of it is new, but for who made it first."""
    await configured(admin, {f"{service}-a": {}, f"{service}-b": {}})
    params = {"name": service, "services": [f"{service}-a", f"{service}-b"], "description": "first"}
    first = await admin.ok("profile/save", params)
    again = {"name": service, "services": [f"{service}-a"]}
    for overwrite in ({}, {"overwrite": False}):
        error = await admin.error("profile/save", {**again, **overwrite})
        assert (error["code"], error["retryable"], error["details"]) == ("already_exists", False, {"current": first})
    token = shared_daemon.new_token("op", "operator")
    async with calling(shared_daemon, token) as operator:
        second = await operator.ok("profile/save", {**again, "overwrite": True})
    assert (second["services"], second["description"], second["updated_by"]) == (1, None, "op")
    assert (second["created_at"], second["created_by"]) == (first["created_at"], "admin")
    assert await admin.ok("profile/get", {"name": service}) == {**second, "snapshot": {f"{service}-a": {}}}


async def test_what_does_not_live_is_not_saved(admin: Caller, service: str) -> None:
    """A service that never was, or is deleted (its tombstone comes along): no profile is made."""
    await configured(admin, {f"{service}-a": {}, f"{service}-b": {}})
    tombstone = await admin.ok("delete", {"service": f"{service}-b"})
    for missing, details in ((f"{service}-b", {"current": tombstone}), (f"{service}-x", {})):
        error = await admin.error("profile/save", {"name": service, "services": [f"{service}-a", missing]})
        assert (error["code"], error["details"]) == ("not_found", details)
    for command in ("profile/get", "profile/load", "profile/delete"):
        assert (await admin.error(command, {"name": service}))["code"] == "not_found"


async def test_saving_and_deleting_move_no_revision(admin: Caller, service: str, shared_daemon: Daemon) -> None:
    """They touch no service; both are told of by an event without a revision."""
    await configured(admin, {service: {"secret": 1}})
    before = await admin.call("status")
    actions = [admin.topics.audit(action) for action in ("save_profile", "delete_profile")]
    async with calling(shared_daemon, None, *actions) as watcher:
        profile = await admin.ok("profile/save", {"name": service, "services": [service]})
        assert await admin.ok("profile/delete", {"name": service}) == profile
        events = [await watcher.event(action) for action in actions]
    assert [event["details"] for event in events] == [
        {"profile": service, "services": 1, "overwritten": False},
        {"profile": service, "services": 1},
    ]
    assert all(event["user"] == "admin" and "revision" not in event and "service" not in event for event in events)
    assert (await admin.call("status")).revision == before.revision
    assert (await admin.ok("get", {"service": service}))["version"] == 1
    assert (await admin.error("profile/get", {"name": service}))["code"] == "not_found"


async def test_of_saves_at_once_one_wins(admin: Caller, service: str) -> None:
    """Each of the others learns that the name is taken, and by what."""
    await configured(admin, {service: {}})
    params = {"name": service, "services": [service]}
    replies = await asyncio.gather(
        *(admin.call("profile/save", {**params, "description": str(number)}) for number in range(20))
    )
    (won,) = [reply.result for reply in replies if reply.ok]
    assert [reply.error.details for reply in replies if reply.error] == [{"current": won}] * 19


async def test_a_repetition_has_no_second_effect(admin: Caller, service: str) -> None:
    """The same bytes again get the same reply: nothing is saved, loaded or deleted a second time."""
    await configured(admin, {service: {"n": 1}})

    async def twice(command: str, between: dict[str, Any], **params: Any) -> None:
        payload = admin.sign(command, {"name": service, **params})
        first = await admin.exchange(admin.topics.command(command), payload)
        assert first.ok
        await admin.ok(**between)
        assert await admin.exchange(admin.topics.command(command), payload) == first

    changed = {"command": "set", "params": {"service": service, "config": {"n": 2}}}
    await twice("profile/save", changed, services=[service])
    assert (await admin.ok("profile/get", {"name": service}))["snapshot"] == {service: {"n": 1}}
    await twice("profile/load", changed)
    assert await held(admin, service) == {"n": 2}
    saved = {"command": "profile/save", "params": {"name": service, "services": [service]}}
    await twice("profile/delete", saved)
    assert (await admin.ok("profile/get", {"name": service}))["snapshot"] == {service: {"n": 2}}


# Loading


async def test_loading_brings_all_back_in_one_revision(admin: Caller, service: str, shared_daemon: Daemon) -> None:
    """What was changed or deleted gets a new version; what is as it was keeps its own, and so does every other."""
    same, changed, gone, other = (f"{service}-{name}" for name in ("same", "changed", "gone", "other"))
    await configured(admin, {same: {"n": 1}, changed: {"n": 1.5, "text": "a"}, gone: {"n": 3}})
    await admin.ok("profile/save", {"name": service, "services": [same, changed, gone]})
    await configured(admin, {changed: {"n": 2}, other: {"n": 4}})
    await admin.ok("delete", {"service": gone})
    before = await admin.call("status")

    topic = admin.topics.audit("load_profile")
    async with calling(shared_daemon, None, topic) as watcher:
        reply = await admin.call("profile/load", {"name": service, "reason": "as it was"})
        events = [await watcher.event(topic) for _ in range(2)]
    assert reply.result is not None
    assert reply.revision == before.revision + 1
    first, second = reply.result["results"]
    assert [(document["service"], document["version"]) for document in (first, second)] == [(changed, 3), (gone, 3)]
    assert {first["revision"], second["revision"]} == {reply.revision}
    assert first["diff"] == [
        {"op": "replace", "path": "/n", "old": 2, "new": 1.5},
        {"op": "add", "path": "/text", "new": "a"},
    ]
    assert second["diff"] == [{"op": "add", "path": "/n", "new": 3}]
    assert (reply.result["unchanged"], "config" in first, "dry_run" in reply.result) == (1, False, False)
    assert [(event["service"], event["revision"], event["details"]) for event in events] == [
        (
            changed,
            reply.revision,
            {"version": 3, "op": "load", "keys": ["n", "text"], "reason": "as it was", "profile": service},
        ),
        (gone, reply.revision, {"version": 3, "op": "load", "keys": ["n"], "reason": "as it was", "profile": service}),
    ]
    for name, version, config in ((same, 1, {"n": 1}), (changed, 3, {"n": 1.5, "text": "a"}), (gone, 3, {"n": 3})):
        document = await admin.ok("get", {"service": name})
        assert (document["version"], document["config"]) == (version, config)
    assert await held(admin, other) == {"n": 4}


async def test_what_is_loaded_already_is_not_loaded_again(admin: Caller, service: str) -> None:
    """No version, no revision and no result, however often; and a profile saved from a loaded one is the same."""
    await configured(admin, {service: {"n": 1}})
    await admin.ok("profile/save", {"name": service, "services": [service]})
    await configured(admin, {service: {"n": 2}})
    first = await admin.call("profile/load", {"name": service})
    await admin.ok("profile/save", {"name": f"{service} again", "services": [service]})
    for name in (service, f"{service} again"):
        again = await admin.call("profile/load", {"name": name})
        assert (again.result, again.revision) == ({"results": [], "unchanged": 1}, first.revision)
    assert (await admin.ok("get", {"service": service}))["version"] == 3


async def test_a_dry_run_tells_and_does_nothing(admin: Caller, service: str) -> None:
    """The result is the one that would be, deletions too."""
    await configured(admin, {service: {"n": 1}})
    await admin.ok("profile/save", {"name": service, "services": [service]})
    await configured(admin, {service: {"n": 2}, f"{service}-other": {}})
    before = await admin.call("list", {"prefix": service})
    for exact in (False, True):
        params = {"name": service, "exact": exact}
        dry = await admin.ok("profile/load", {**params, "dry_run": True})
        after = await admin.call("list", {"prefix": service})
        assert (after.result, after.revision) == (before.result, before.revision)
        assert dry.pop("dry_run") is True
        deleted = [document["service"] for document in dry["results"] if document.get("deleted")]
        assert (f"{service}-other" in deleted, service in deleted) == (exact, False)
        if exact:
            real = await admin.ok("profile/load", params)
            stamps = {"updated_at": None}
            assert [{**document, **stamps} for document in dry["results"]] == [
                {**document, **stamps} for document in real["results"]
            ]


async def test_an_exact_load_deletes_what_the_profile_lacks(new_daemon: NewDaemon) -> None:
    """Every other living service gets a tombstone in the same revision, published like any; without it, none does."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        error = await admin.error("profile/save", {"name": "empty"})
        assert (error["code"], error["details"]) == ("not_found", {})
        await configured(admin, {"stt": {"n": 1}, "tts": {"n": 1}})
        assert (await admin.ok("profile/save", {"name": "p"}))["services"] == 2
        await configured(admin, {"stt": {"n": 2}, "vad": {"n": 2}, "wake": {}})
        await admin.ok("delete", {"service": "wake"})
        loaded = await admin.call("profile/load", {"name": "p"})
        assert loaded.result is not None
        assert [document["service"] for document in loaded.result["results"]] == ["stt"]

        exact = await admin.call("profile/load", {"name": "p", "exact": True})
        assert exact.result is not None
        (tombstone,) = exact.result["results"]
        assert (tombstone["service"], tombstone["version"], tombstone["deleted"]) == ("vad", 2, True)
        assert (tombstone["revision"], exact.result["unchanged"]) == (loaded.revision + 1, 2)
        listed = await admin.ok("list")
        assert [document["service"] for document in listed["services"]] == ["stt", "tts"]
        updates = await retained(daemon, daemon.topics.updated("vad"))
        assert json.loads(updates[daemon.topics.updated("vad")])["deleted"] is True


async def test_profiles_outlive_the_daemon_and_an_epoch(new_daemon: NewDaemon) -> None:
    """After a restart and `epoch/advance`, which gives every service another version, it holds what it held."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        await configured(admin, {"stt": {"n": 1}, "tts": {"n": 1}})
        profile = await admin.ok("profile/save", {"name": "p \N{CRESCENT MOON}"})
        await configured(admin, {"stt": {"n": 2}})
        await admin.ok("delete", {"service": "tts"})
    daemon.kill()
    daemon.start()
    daemon.wait_ready()
    async with calling(daemon) as admin:
        await admin.ok("epoch/advance")
        snapshot = {"stt": {"n": 1}, "tts": {"n": 1}}
        assert await admin.ok("profile/get", {"name": profile["name"]}) == {**profile, "snapshot": snapshot}
        result = await admin.ok("profile/load", {"name": profile["name"]})
        assert [(document["service"], document["version"]) for document in result["results"]] == [
            ("stt", 4),
            ("tts", 4),
        ]
        assert await held(admin, "tts") == {"n": 1}
        for service, config in snapshot.items():
            then = await admin.ok("get", {"service": service, "revision": profile["revision"]})
            assert then["config"] == config


async def test_what_is_no_longer_allowed_is_not_loaded(new_daemon: NewDaemon) -> None:
    """When one config is over a limit that was lowered meanwhile, none is loaded."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        await configured(admin, {"stt": {"n": 1}, "tts": {"text": "x" * 2000}})
        await admin.ok("profile/save", {"name": "p"})
        await configured(admin, {"stt": {"n": 2}, "tts": {}})
    daemon.stop()
    daemon.settings["max_config_bytes"] = 1000
    daemon.start()
    daemon.wait_ready()
    async with calling(daemon) as admin:
        before = await admin.call("status")
        reply = await admin.call("profile/load", {"name": "p"})
        assert reply.error is not None
        assert (reply.error.code, reply.revision) == ("too_large", before.revision)
        assert await held(admin, "stt") == {"n": 2}


# Size


async def test_a_megabyte_is_saved_read_and_loaded(admin: Caller, service: str) -> None:
    """Ten services of 100 kB each, text of other scripts and quotes among it, come back byte for byte."""
    text = '\\ " é \N{CRESCENT MOON} '
    configs = {f"{service}-{n}": {"n": n, "text": (text * 10_000)[: 70_000 - n]} for n in range(10)}
    assert sum(len(json.dumps(config, ensure_ascii=False).encode()) for config in configs.values()) > 1_000_000
    await configured(admin, configs)
    await admin.ok("profile/save", {"name": service, "services": list(configs)})
    await configured(admin, {name: {} for name in configs})
    profile = await admin.ok("profile/get", {"name": service})
    assert profile["snapshot"] == configs
    result = await admin.ok("profile/load", {"name": service})
    assert len({document["revision"] for document in result["results"]}) == 1
    assert [await held(admin, name) for name in configs] == list(configs.values())


async def test_a_broker_that_takes_less_is_told_so(own_broker: Broker, new_daemon: NewDaemon) -> None:
    """What a profile holds may be more than one reply can carry: it can be read piece by piece, and loaded."""
    own_broker.stop()
    own_broker.configure("max_packet_size 60000")
    own_broker.start()
    daemon = new_daemon(broker=own_broker)
    async with calling(daemon) as admin:
        await configured(
            admin, {"stt": {"text": "x" * 25_000}, "tts": {"text": "x" * 25_000}, "vad": {"text": "x" * 25_000}}
        )
        profile = await admin.ok("profile/save", {"name": "p"})
        error = await admin.error("profile/get", {"name": "p"})
        assert (error["code"], "applied" in error["details"]) == ("too_large", False)
        await configured(admin, {"stt": {}, "tts": {}, "vad": {}})
        then = await admin.ok("get", {"service": "tts", "revision": profile["revision"]})
        assert then["config"] == {"text": "x" * 25_000}
        error = await admin.error("profile/load", {"name": "p"})
        assert (error["code"], error["details"]["applied"]) == ("too_large", True)
        assert await held(admin, "vad") == {"text": "x" * 25_000}


# Roles and scopes


async def test_a_role_may_what_it_may(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Viewers read, operators save and load, admins delete; an exact load that deletes takes an admin."""
    await configured(admin, {service: {"n": 1}})
    await admin.ok("profile/save", {"name": service, "services": [service]})
    viewing, operating = (shared_daemon.new_token(role, role) for role in ("viewer", "operator"))
    async with calling(shared_daemon, viewing) as viewer, calling(shared_daemon, operating) as operator:
        for name, caller, command, needs in (
            ("viewer", viewer, "profile/save", "config.write"),
            ("viewer", viewer, "profile/load", "config.write"),
            ("viewer", viewer, "profile/delete", "config.delete"),
            ("operator", operator, "profile/delete", "config.delete"),
        ):
            error = await caller.error(command, {"name": service})
            assert (name, error["code"], error["details"]) == (name, "forbidden", {"needs": needs})
        assert (await viewer.ok("profile/get", {"name": service}))["snapshot"] == {service: {"n": 1}}
        assert service in [profile["name"] for profile in (await viewer.ok("profile/list"))["profiles"]]
        await operator.ok("profile/save", {"name": f"{service} all"})
        assert (await operator.ok("profile/load", {"name": f"{service} all", "exact": True}))["results"] == []
        await operator.ok("set", {"service": f"{service}-new", "config": {}})
        error = await operator.error("profile/load", {"name": f"{service} all", "exact": True})
        assert (error["code"], error["details"]) == ("forbidden", {"needs": "config.delete"})
        assert await held(admin, f"{service}-new") == {}


async def test_a_scope_shows_its_part_of_a_profile(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """A profile is told of as if it held the services in scope only; one that holds none of them is not there."""
    mine, other = f"{service}-mine", f"{service}-other"
    await configured(admin, {mine: {"n": 1}, other: {"n": 2}})
    for name, services in (("mine", [mine]), ("both", [mine, other]), ("other", [other])):
        await admin.ok("profile/save", {"name": f"{service} {name}", "services": services})
    token = shared_daemon.new_token("scoped", "admin", "--services", f"{service}-m*")
    async with calling(shared_daemon, token) as caller:
        listed = (await caller.ok("profile/list"))["profiles"]
        assert [(profile["name"], profile["services"]) for profile in listed] == [
            (f"{service} both", 1),
            (f"{service} mine", 1),
        ]
        for profile in listed:
            assert await caller.ok("profile/get", {"name": profile["name"]}) == {
                **profile,
                "snapshot": {mine: {"n": 1}},
            }
        for command in ("profile/get", "profile/load", "profile/delete"):
            error = await caller.error(command, {"name": f"{service} other"})
            absent = await caller.error(command, {"name": f"{service} x"})
            assert error == {**absent, "message": absent["message"].replace(f"{service} x", f"{service} other")}
    whole = [(profile["name"], profile["services"]) for profile in (await admin.ok("profile/list"))["profiles"]]
    assert (f"{service} both", 2) in whole


async def test_a_scope_holds_for_every_service_that_is_touched(
    shared_daemon: Daemon, admin: Caller, service: str
) -> None:
    """One outside of it, changed or not, and nothing is saved, loaded or deleted; the refusal does not name it."""
    mine, other = f"{service}-mine", f"{service}-other"
    await configured(admin, {mine: {"n": 1}, other: {"n": 1}})
    for name, services in (("mine", [mine]), ("both", [mine, other]), ("other", [other])):
        await admin.ok("profile/save", {"name": f"{service} {name}", "services": services})
    await configured(admin, {mine: {"n": 2}})
    before = await admin.call("status")
    token = shared_daemon.new_token("scoped", "admin", "--services", f"{service}-m*")
    async with calling(shared_daemon, token) as caller:
        for command, params, needs in (
            ("profile/save", {"name": f"{service} new"}, "config.write"),
            ("profile/save", {"name": f"{service} both", "services": [mine]}, "config.write"),
            ("profile/save", {"name": f"{service} both", "services": [mine], "overwrite": True}, "config.write"),
            ("profile/save", {"name": f"{service} other", "services": [mine], "overwrite": True}, "config.write"),
            ("profile/load", {"name": f"{service} both"}, "config.write"),
            ("profile/load", {"name": f"{service} both", "dry_run": True}, "config.write"),
            ("profile/load", {"name": f"{service} mine", "exact": True}, "config.delete"),
            ("profile/delete", {"name": f"{service} both"}, "config.delete"),
        ):
            reply = await caller.call(command, params)
            assert reply.error is not None
            assert (command, reply.error.code, reply.error.details) == (command, "forbidden", {"needs": needs})
            assert other not in reply.error.message
        error = await caller.error("profile/save", {"name": f"{service} new", "services": [mine, other]})
        assert (error["code"], error["details"]) == ("forbidden", {"needs": "config.write", "service": other})
        assert (await admin.call("status")).revision == before.revision
        assert (await admin.ok("profile/get", {"name": f"{service} both"}))["services"] == 2
        await caller.ok("profile/load", {"name": f"{service} mine"})
        await caller.ok("profile/save", {"name": f"{service} mine", "services": [mine], "overwrite": True})
        await caller.ok("profile/delete", {"name": f"{service} mine"})
