"""The audit log over the wire, and how little strangers and the denied can add to it (wire section 6)."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

from setpoint_contracts import Token, sign_command
from setpoint_contracts.audit_log import LoggedEvent
from tests.caller import Caller, calling
from tests.daemon import Daemon, NewDaemon
from tests.waiting import eventually

BURST = 10


async def events(caller: Caller, limit: int = 1000, **wanted: Any) -> list[dict[str, Any]]:
    """Read all events that a filter lets through, the oldest first."""
    found: list[dict[str, Any]] = []
    before: dict[str, int] = {}
    while True:
        result = await caller.ok("audit/query", {"limit": limit, **before, **wanted})
        found += result["events"]
        if result["next"] is None:
            return found[::-1]
        before = {"before": result["next"]}


def brief(event: dict[str, Any]) -> tuple[str, str, str | None]:
    """Name what an event tells of."""
    return event["action"], event["user"], event["details"].get("op")


async def test_what_was_done_is_in_the_log(shared_daemon: Daemon, service: str) -> None:
    """Every change that took effect is there as it was published, with its place; what did not is not there."""
    topics = [shared_daemon.topics.audit(action) for action in ("update_config", "delete_config")]
    async with calling(shared_daemon, None, *topics) as admin:
        await admin.ok("set", {"service": service, "config": {"a": 1}, "reason": "new"})
        await admin.ok("patch", {"service": service, "patch": {"b": 2}, "dry_run": True})
        await admin.ok("patch", {"service": service, "patch": {"a": 1}})
        await admin.error("set", {"service": service, "config": {}, "expected_version": 9})
        changes = [{"op": "patch", "service": service, "patch": {"b": 2}}]
        await admin.ok("apply", {"changes": changes})
        await admin.error("apply", {"changes": [*changes, {"op": "delete", "service": f"{service}-none"}]})
        await admin.ok("delete", {"service": service})
        logged = await events(admin, service=service)
        published = [await admin.event(topic) for topic in (topics[0], topics[0], topics[1])]
    assert [brief(event) for event in logged] == [
        ("update_config", "admin", "set"),
        ("update_config", "admin", "patch"),
        ("delete_config", "admin", "delete"),
    ]
    assert logged[0]["details"] == {"version": 1, "op": "set", "keys": ["a"], "reason": "new"}
    assert [{k: v for k, v in event.items() if k not in {"id", "hash"}} for event in logged] == published
    assert [event["id"] for event in logged] == sorted(event["id"] for event in logged)


async def test_every_filter(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """By action, user, service and time, each alone and together."""
    writer = shared_daemon.new_token(f"w-{service}", "operator")
    async with calling(shared_daemon, writer) as operator:
        for name in (service, f"{service}-b"):
            await operator.ok("set", {"service": name, "config": {}})
        await operator.error("delete", {"service": service})
    await admin.ok("delete", {"service": service})

    name = writer.name
    mine = await events(admin, user=name)
    assert [brief(event)[0] for event in mine] == ["update_config", "update_config", "permission_denied"]
    assert mine[2]["details"] == {"command": "delete", "needs": "config.delete", "suppressed": 0}
    assert await events(admin, user=name, action="permission_denied") == mine[2:]
    assert await events(admin, user=name, service=service) == [mine[0], mine[2]]
    of_service = await events(admin, service=service)
    assert [brief(event)[0] for event in of_service] == ["update_config", "permission_denied", "delete_config"]
    last = of_service[-1]["timestamp"]
    assert of_service[-1] in await events(admin, service=service, since=last)
    assert of_service[-1] not in await events(admin, service=service, until=last)
    created = await events(admin, action="create_token", user="setpointd")
    assert writer.kid in {event["details"]["kid"] for event in created}
    assert await events(admin, service=f"{service}-none") == []


async def test_pages_stand_still_while_writes_go_on(admin: Caller, service: str) -> None:
    """Each event comes once, the newest first, and what is written meanwhile is in none of the later pages."""
    for n in range(23):
        await admin.ok("set", {"service": service, "config": {"n": n}})
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"next": None}
    while not found or page["next"] is not None:
        further = {} if page["next"] is None else {"before": page["next"]}
        page = await admin.ok("audit/query", {"service": service, "limit": 5, **further})
        found += page["events"]
        await admin.ok("set", {"service": service, "config": {"later": len(found)}})
    assert [event["details"]["version"] for event in found] == list(range(23, 0, -1))


async def test_it_is_the_admins(shared_daemon: Daemon, service: str) -> None:
    """Neither a viewer nor an operator reads it; each try is in the log."""
    for role in ("viewer", "operator"):
        token = shared_daemon.new_token(f"{role}-{service}", role)
        async with calling(shared_daemon, token) as caller:
            error = await caller.error("audit/query")
            assert (error["code"], error["details"]) == ("forbidden", {"needs": "admin.manage"})
            error = await caller.error("audit/query", {"service": service})
            assert error["details"] == {"needs": "admin.manage", "service": service}
        async with calling(shared_daemon) as admin:
            tried = [event["details"]["command"] for event in await events(admin, user=token.name)]
        assert tried == ["audit/query", "audit/query"]


async def test_an_admin_of_some_services_sees_no_other(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Events of services in its scope, and those that are of no service; the pages go on over what it does not see."""
    token = shared_daemon.new_token(f"half-{service}", "admin", "--services", f"{service}*")
    for n in range(12):
        await admin.ok("set", {"service": f"{service}-in" if n % 6 == 0 else f"x-{service}", "config": {"n": n}})
    async with calling(shared_daemon, token) as scoped:
        seen = await events(scoped, limit=1)
        assert await events(scoped, service=f"x-{service}") == []
    named = {event["service"] for event in seen if "service" in event}
    assert named == {f"{service}-in"}
    assert "create_token" in {event["action"] for event in seen}
    assert len([event for event in seen if event.get("service") == f"{service}-in"]) == 2


async def test_a_page_of_large_events_is_cut(admin: Caller, service: str) -> None:
    """A thousand long keys make a large event; a page holds a few of them and says where to go on."""
    config = {f"{n:04}".translate(str.maketrans("0123456789", "abcdefghij")) + "k" * 120: 1 for n in range(900)}
    for _ in range(4):
        await admin.ok("set", {"service": service, "config": config})
        await admin.ok("set", {"service": service, "config": {}})
    page = await admin.ok("audit/query", {"service": service, "limit": 1000})
    assert 1 <= len(page["events"]) < 8
    assert page["next"] is not None
    assert len(await events(admin, service=service)) == 8


async def test_the_hash_of_an_event_is_an_anchor(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Whoever kept id and hash of an event can have the store checked against it later."""
    await admin.ok("set", {"service": service, "config": {}})
    [event] = await events(admin, service=service)
    LoggedEvent.model_validate(event)
    await admin.ok("set", {"service": service, "config": {"n": 2}})
    assert " rows fit, the newest is " in shared_daemon.command("verify", "--anchor", f"{event['id']}:{event['hash']}")


def rows(daemon: Daemon, action: str) -> list[dict[str, Any]]:
    """Read the details of the rows of an action."""
    with closing(sqlite3.connect(f"file:{daemon.data_dir}/setpoint.db?mode=ro", uri=True)) as db:
        found = db.execute("SELECT details_json FROM audit_log WHERE action = ? ORDER BY id", (action,))
        return [json.loads(text) for (text,) in found]


async def test_a_flood_of_what_nobody_signed(new_daemon: NewDaemon) -> None:
    """A thousand garbled and forged messages leave ten rows and ten events for each reason; all are counted."""
    daemon = new_daemon()
    topic = daemon.topics.audit("auth_failure")
    async with calling(daemon, None, topic) as admin:
        known = daemon.token
        forger = Token.new("HS256", known.kid, known.name, known.role)
        forged = sign_command(forger, "info", topics=daemon.topics)
        for n in range(1000):
            payload = forged if n % 10 == 9 else b"garbage"
            await admin.mqtt.publish(daemon.topics.command("info"), payload, qos=1)
        await admin.ok("info")
        told = [(await admin.event(topic))["details"] for _ in range(2 * BURST)]
    reasons = Counter(details["reason"] for details in told)
    assert reasons == {"not_jws": BURST, "bad_signature": BURST}
    stored = rows(daemon, "auth_failure")
    # One a minute more of each, however slow this machine is; what had none is told with the next one.
    assert 2 * BURST <= len(stored) <= 2 * BURST + 4
    assert [details["suppressed"] for details in stored[: 2 * BURST]] == [0] * 2 * BURST
    assert daemon.metric('setpoint_messages_dropped_total{reason="not_jws"}') == 900
    await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "all is published")
    assert daemon.metric('setpoint_published_total{kind="audit"}') <= len(stored) + 1


async def test_a_flood_of_what_is_denied(new_daemon: NewDaemon) -> None:
    """Hundreds of forbidden commands are all answered, and leave ten rows for each principal, whatever its token."""
    daemon = new_daemon()
    tokens = [
        daemon.new_token("greedy", "viewer"),
        daemon.new_token("greedy", "viewer"),
        daemon.new_token("b", "viewer"),
    ]
    for token in tokens:
        async with calling(daemon, token) as caller:
            for n in range(150):
                params = {"service": "stt", "config": {}, "dry_run": n % 2 == 0}
                payload = caller.sign("set", params, jti=f"j-{n}")
                await caller.mqtt.publish(daemon.topics.command("set"), payload, qos=1)
            for n in range(150):
                reply = await caller.reply(daemon.topics.reply(token.name, f"j-{n}"))
                assert reply.error is not None
                assert reply.error.code == "forbidden"
    async with calling(daemon) as admin:
        for name in ("greedy", "b"):
            assert BURST <= len(await events(admin, user=name)) <= BURST + 2
        assert (await admin.ok("status"))["revision"] == 0
    assert len(rows(daemon, "permission_denied")) <= 2 * (BURST + 2)
