"""``schema/set`` and its kin, and what a schema means for every write, over a real broker (wire section 6)."""

import asyncio
import json
from typing import Any

import pytest

from setpoint_contracts import strictjson
from setpointd.keys import Keys
from tests.brokers import Broker
from tests.caller import Caller, calling, retained
from tests.daemon import Daemon, NewDaemon
from tests.impostor import key_of, say, strange_key
from tests.waiting import DEADLINE_S, eventually

SCHEMA = {
    "type": "object",
    "required": ["model"],
    "properties": {"model": {"enum": ["small", "large"]}, "threads": {"type": "integer", "maximum": 8}},
}
GOOD, BAD = {"model": "small"}, {"model": "hunter2", "threads": 9}
ERRORS = [
    {"pointer": "/model", "message": 'the value is not one of "small" or "large"', "keyword": "enum"},
    {"pointer": "/threads", "message": "the value is greater than the maximum of 8", "keyword": "maximum"},
]


async def test_a_schema_is_set_read_listed_and_removed(admin: Caller, service: str) -> None:
    """Before there is a config, too. Setting and removing are a revision each; setting it again is none."""
    before = await admin.call("status")
    topic = admin.topics.audit("set_schema")
    await admin.mqtt.subscribe(topic, qos=1)
    reply = await admin.call("schema/set", {"service": service, "schema": SCHEMA})
    assert reply.result is not None
    assert (reply.result["changed"], reply.result["failing"]) == (True, [])
    assert reply.revision == before.revision + 1
    event = await admin.event(topic)
    assert (event["service"], event["revision"], event["details"]) == (
        service,
        reply.revision,
        {"bytes": len(strictjson.dumps(SCHEMA))},
    )
    head = {name: reply.result[name] for name in ("service", "updated_at", "updated_by")}
    again = await admin.call("schema/set", {"service": service, "schema": SCHEMA})
    assert (again.result, again.revision) == (
        {**head, "changed": False, "failing": [], "concealed": False},
        reply.revision,
    )
    assert await admin.ok("schema/get", {"service": service}) == {**head, "schema": SCHEMA}
    assert head in (await admin.ok("schema/list", {"limit": 1000}))["schemas"]
    assert await admin.ok("schema/delete", {"service": service}) == head
    for command in ("schema/get", "schema/delete"):
        assert (await admin.error(command, {"service": service}))["code"] == "not_found"
    await admin.ok("set", {"service": service, "config": BAD})


async def refused(admin: Caller, command: str, params: dict[str, Any]) -> dict[str, Any]:
    """Send a write that the schema must refuse, and return the details."""
    error = await admin.error(command, params)
    assert error["code"] == "schema_invalid"
    assert "hunter2" not in str(error)
    details: dict[str, Any] = error["details"]
    return details


async def test_every_write_is_held_against_the_schema(admin: Caller, service: str) -> None:
    """Set, patch and apply: refused with pointers and words, and nothing of it happens; what fits goes through."""
    await admin.ok("schema/set", {"service": service, "schema": SCHEMA})
    details = await refused(admin, "set", {"service": service, "config": BAD})
    assert details == {"service": service, "errors": ERRORS}
    assert (await admin.error("get", {"service": service}))["code"] == "not_found"
    await admin.ok("set", {"service": service, "config": GOOD})
    details = await refused(admin, "patch", {"service": service, "patch": {"threads": 9, "model": "hunter2"}})
    assert details["errors"] == ERRORS
    changes = [
        {"op": "set", "service": f"{service}-other", "config": {}},
        {"op": "patch", "service": service, "patch": {"threads": 9}},
    ]
    details = await refused(admin, "apply", {"changes": changes})
    assert (details["index"], details["errors"]) == (1, ERRORS[1:])
    await refused(admin, "set", {"service": service, "config": BAD, "dry_run": True})
    assert (await admin.ok("get", {"service": service}))["version"] == 1
    await admin.ok("patch", {"service": service, "patch": {"threads": 8.0}})
    await admin.ok("delete", {"service": service})
    await refused(admin, "set", {"service": service, "config": {}})  # a deleted service keeps its schema


async def test_a_schema_that_the_config_does_not_fit_needs_force(admin: Caller, service: str) -> None:
    """Else it is refused; by force it counts, and what fails is told. What changes nothing is not judged again."""
    await admin.ok("set", {"service": service, "config": BAD})
    params = {"service": service, "schema": SCHEMA}
    assert (await refused(admin, "schema/set", params))["errors"] == ERRORS
    assert (await admin.error("schema/get", {"service": service}))["code"] == "not_found"
    assert (await admin.ok("schema/set", {**params, "force": True}))["failing"] == ERRORS
    assert (await admin.ok("set", {"service": service, "config": BAD}))["changed"] is False
    await refused(admin, "patch", {"service": service, "patch": {"threads": 8}})
    await admin.ok("patch", {"service": service, "patch": {"threads": 8, "model": "large"}})
    assert (await admin.ok("schema/set", params))["failing"] == []


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "objekt"}, "schema.type"),
        ({"$ref": "https://example.com/schema.json"}, "schema.$ref"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "schema.$schema"),
        ({"$ref": "#"}, "schema"),
        ({"properties": {"a": {"pattern": "(?=a)"}}}, "schema.properties.a.pattern"),
        (True, "schema"),
    ],
)
async def test_what_is_no_schema_is_refused(admin: Caller, service: str, schema: object, field: str) -> None:
    """`bad_request` by its place; and a service without a config has none afterwards."""
    error = await admin.error("schema/set", {"service": service, "schema": schema, "force": True})
    assert (error["code"], error["details"]["errors"][0]["field"]) == ("bad_request", field)
    assert (await admin.error("schema/get", {"service": service}))["code"] == "not_found"


async def test_a_schema_that_is_too_large_is_refused(admin: Caller, service: str) -> None:
    """With both sizes; the limit is the one that `info` tells."""
    limit = (await admin.ok("info"))["limits"]["max_schema_bytes"]
    fits = {"title": "x" * (limit - len('{"title":""}'))}
    await admin.ok("schema/set", {"service": service, "schema": fits})
    error = await admin.error("schema/set", {"service": service, "schema": {"title": fits["title"] + "x"}})
    assert (error["code"], error["details"]) == ("too_large", {"bytes": limit + 1, "max_bytes": limit})


async def test_who_may_do_what(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Schemas are the admin's to set; whoever may read a service reads its schema, and a list has no other."""
    names = [f"{service}-{letter}" for letter in "abc"]
    for name in (*names, "other"):
        await admin.ok("schema/set", {"service": name, "schema": {}})
    token = shared_daemon.new_token("reader", "operator", "--services", f"{service}*")
    async with calling(shared_daemon, token) as reader:
        assert (await reader.ok("schema/get", {"service": names[0]}))["schema"] == {}
        assert (await reader.error("schema/get", {"service": "other"}))["code"] == "forbidden"
        for command in ("schema/set", "schema/delete"):
            params = {"service": names[0], **({"schema": {}} if command == "schema/set" else {})}
            error = await reader.error(command, params)
            assert (error["code"], error["details"]["needs"]) == ("forbidden", "admin.manage")
        seen: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = await reader.ok("schema/list", {"limit": 2, **after})
            seen += [head["service"] for head in page["schemas"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
    assert seen == names


async def test_the_same_command_again_is_answered_as_before(admin: Caller, service: str) -> None:
    """A schema is set once, however often the bytes come; one that was refused is final too."""
    await admin.ok("set", {"service": service, "config": BAD})
    for jti, force in ((f"{service}-1", False), (f"{service}-2", True)):
        jws = admin.sign("schema/set", {"service": service, "schema": SCHEMA, "force": force}, jti=jti)
        first, second = [await admin.exchange(admin.topics.command("schema/set"), jws) for _ in range(2)]
        assert first == second
        assert first.ok is force


async def test_a_schema_and_a_write_in_one_batch(admin: Caller, service: str) -> None:
    """What counts is the schema that stands when a write gets its turn, committed or not."""
    both = [
        asyncio.create_task(admin.call(command, {"service": f"{service}-{n}", **params}))
        for n in range(20)
        for command, params in (("schema/set", {"schema": SCHEMA}), ("set", {"config": BAD}))
    ]
    replies = await asyncio.gather(*both)
    assert all(reply.ok for reply in replies[::2])
    assert {reply.error.code for reply in replies[1::2] if reply.error} == {"schema_invalid"}
    assert all(reply.error for reply in replies[1::2])


async def published(daemon: Daemon, service: str, payload: bytes | None) -> None:
    """Wait until what is retained as a service's schema is this."""
    topic = daemon.topics.schema(service)
    async with asyncio.timeout(DEADLINE_S):
        while (await retained(daemon, topic)).get(topic) != payload:
            pass


async def test_a_schema_is_published_retained_and_signed(new_daemon: NewDaemon) -> None:
    """As the text that is stored; cleared when it is removed; a change while the broker is away comes later."""
    daemon = new_daemon()
    topic = daemon.topics.schema("stt")
    async with calling(daemon, None, topic) as admin:
        text = strictjson.dumps(SCHEMA).encode()
        await admin.ok("schema/set", {"service": "stt", "schema": SCHEMA})
        message = await admin.message(topic)
        ((_, jws),) = vars(message.properties)["UserProperty"]
        assert (bytes(message.payload), message.qos) == (text, 1)
        assert Keys.load(daemon.data_dir).made(topic, text, jws)
        await published(daemon, "stt", text)
        await admin.ok("schema/delete", {"service": "stt"})
        await published(daemon, "stt", None)


async def test_what_others_publish_there_is_replaced(new_daemon: NewDaemon) -> None:
    """Forged, cleared, orphaned and replayed schemas; while it runs, and at its next start."""
    daemon = new_daemon()
    topics, text = daemon.topics, strictjson.dumps(SCHEMA).encode()
    hostile = {"epoch": 2**52, "revision": 2**52, "version": 2**52}
    async with calling(daemon) as admin:
        await admin.ok("schema/set", {"service": "stt", "schema": hostile})
        await published(daemon, "stt", strictjson.dumps(hostile).encode())
        await admin.ok("schema/set", {"service": "stt", "schema": SCHEMA})
        await published(daemon, "stt", text)
        for payload, by in ((b"{}", None), (b"{}", strange_key()), (b"", None), (b"garbage", None)):
            await say(admin.mqtt, topics.schema("stt"), payload, by)
            await published(daemon, "stt", text)
        # What it said itself before, with numbers in it that would be a claim elsewhere.
        await say(admin.mqtt, topics.schema("stt"), hostile, key_of(daemon.data_dir))
        await published(daemon, "stt", text)
        await say(admin.mqtt, topics.schema("orphan"), {})
        await published(daemon, "orphan", None)
        await eventually(
            lambda: daemon.metric('setpoint_disbelieved_total{topic="schema"}') >= 5, "each of them is counted"
        )
        assert (await admin.ok("epoch/advance"))["revision"] < 2**52
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
        daemon.stop()
        for service in ("stt", "orphan"):
            await say(admin.mqtt, topics.schema(service), {"epoch": 2**52})
        daemon.start()
        daemon.wait_ready()
        await published(daemon, "stt", text)
        await published(daemon, "orphan", None)
        assert (await admin.ok("status"))["mode"] == "active"
    assert json.loads((await retained(daemon, topics.schema("stt")))[topics.schema("stt")]) == SCHEMA


async def test_a_broker_that_lost_everything_gets_the_schemas_again(own_broker: Broker, new_daemon: NewDaemon) -> None:
    """On the reconnect they are published like the configs."""
    daemon = new_daemon(broker=own_broker)
    async with calling(daemon) as admin:
        await admin.ok("schema/set", {"service": "stt", "schema": SCHEMA})
    await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "it is announced")
    own_broker.kill()
    await eventually(lambda: not daemon.ready(), "the daemon has noticed")
    own_broker.start()
    daemon.wait_ready()
    await published(daemon, "stt", strictjson.dumps(SCHEMA).encode())
