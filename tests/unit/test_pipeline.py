"""The rows of wire section 3 in their order, on a real store, without a broker."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from setpoint_contracts import COMMANDS, Permission, Role, Token, Topics, sign_command, verify_detached
from setpoint_contracts.config import Get, Set
from setpoint_contracts.signing import VerifyingKey
from setpoint_contracts.system import Limits
from setpointd.auth import Keyring
from setpointd.call import Call
from setpointd.errors import HistoryPruned
from setpointd.handlers import retention
from setpointd.handlers.writing import QUICK_BYTES, QUICK_KEYS
from setpointd.messages import Inbound
from setpointd.metrics import Metrics
from setpointd.pipeline import Pipeline
from setpointd.records import Stamp
from setpointd.render import Renderer, Result
from setpointd.schema import QUICK_STEPS
from setpointd.store import Snapshot, Store, Tx, pruning
from setpointd.store.audit import AuditFilter
from setpointd.store.history import HistoryWrites
from setpointd.table import TABLE, Entry, change, read
from tests.calls import KEYS, NOW, lend, new_runtime
from tests.limits import LIMITS
from tests.store.jobs import put
from tests.stores import new_store
from tests.unit.claims import TOPICS
from tests.waiting import DEADLINE_S

ALICE = Token.new("HS256", "tok_a", "alice", Role.ADMIN)
BOB = Token.new("HS256", "tok_b", "bob", Role.ADMIN)
VIEWER = Token.new("HS256", "tok_v", "victor", Role.VIEWER)
SCOPED = Token.new("HS256", "tok_s", "susan", Role.VIEWER, services=("stt",))
STAMP = Stamp("2026-01-01T00:00:00.000Z", "setpointd")
SET = {"service": "stt", "config": {"a": 1}}


class Desk:
    """A pipeline, its store and its clock."""

    def __init__(
        self,
        store: Store,
        tokens: Iterable[Token] = (ALICE, VIEWER),
        topics: Topics = TOPICS,
        now: float = NOW,
        limits: Limits = LIMITS,
    ) -> None:
        self.store = store
        self.topics = topics
        self.now = now
        self.runtime = new_runtime(limits)
        self.keyring = Keyring(tokens)
        self.pipeline = Pipeline(
            store=store,
            keyring=self.keyring,
            topics=topics,
            renderer=Renderer(KEYS, topics, self.runtime),
            daemon=lend(self.runtime),
            metrics=Metrics("1"),
            clock=lambda: self.now,
        )

    async def send(self, payload: bytes, command: str = "set", *, retain: bool = False, **more: Any) -> bytes | None:
        """Hand a message in, and give what is replied; None: nothing."""
        received = more.pop("received_at", self.now)
        message = await self.pipeline.process(Inbound(self.topics.command(command), payload, retain, received, **more))
        return None if message is None else message.payload

    async def ask(self, payload: bytes, command: str = "set", **more: Any) -> dict[str, Any]:
        """Hand a message in, and read what is replied."""
        payload = await self.send(payload, command, **more) or b"null"
        reply: dict[str, Any] = json.loads(payload)
        return reply

    async def know(self, *tokens: Token) -> None:
        """Put tokens into the store, and go by them."""

        def add(tx: Tx) -> None:
            for token in tokens:
                tx.tokens.add(token, "sealed")

        await self.store.write(STAMP, add)
        for token in tokens:
            self.keyring.learn(token)

    async def revision(self) -> int:
        """Read how far the store is."""
        return await self.store.read(lambda snapshot: snapshot.identity.now().revision)


def signed(command: str = "set", params: dict[str, Any] | None = None, token: Token = ALICE, **more: Any) -> bytes:
    """Sign a command, at the moment where the clock stands at first."""
    values = {"issued_at": NOW, "topics": TOPICS, "jti": "j-1", **more}
    return sign_command(token, command, SET if params is None else params, **values).encode()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Open a pipeline on an empty store."""
    new_store(tmp_path, STAMP)
    store = Store(tmp_path)
    yield Desk(store)
    await store.close()


def code_of(reply: dict[str, Any]) -> str:
    """Name the outcome of a command."""
    return "ok" if reply["ok"] else str(reply["error"]["code"])


@pytest.mark.parametrize("command", ["explode", "", "get/", "get/x/y/z", "Get", "token", "GET "])
async def test_an_unknown_command_is_told_the_known_ones(desk: Desk, command: str) -> None:
    """Row 10: the refusal lists what there is."""
    reply = await desk.ask(signed(command), command)
    assert code_of(reply) == "unknown_command"
    assert reply["error"]["details"] == {"known": sorted(COMMANDS)}


async def test_what_is_retained_or_not_signed_is_never_answered(desk: Desk) -> None:
    """Rows 1 and 2: nobody unknown makes the daemon publish; an event tells of what was not signed."""
    assert await desk.send(signed(), retain=True) is None
    assert await desk.send(b"garbage") is None
    assert await desk.send(signed(token=Token.new("HS256", "tok_x", "x", Role.ADMIN))) is None
    events = await desk.store.read(lambda snapshot: [snapshot.audit.event(n) for n in "123"])
    assert [event and (event["action"], event["details"]["reason"]) for event in events] == [
        ("auth_failure", "not_jws"),
        ("auth_failure", "unknown_kid"),
        None,
    ]
    assert await desk.revision() == 0


async def events(desk: Desk, action: str) -> list[dict[str, Any]]:
    """Read the details of all events of an action, the oldest first."""
    wanted = AuditFilter(action=action)
    found, _ = await desk.store.read(lambda snapshot: snapshot.audit.page(wanted, None, 1000))
    return [event["details"] for event in reversed(found)]


async def test_a_flood_of_what_is_not_signed_leaves_ten_events_and_one_a_minute(desk: Desk) -> None:
    """Each reason by itself, so that garbage does not hide that somebody tries keys; every one left out is counted."""
    stranger = signed(token=Token.new("HS256", "tok_x", "x", Role.ADMIN))
    for second in range(181):
        for _ in range(5):
            assert await desk.send(b"garbage") is None
        if second % 60 == 0:
            assert await desk.send(stranger) is None
        desk.now += 1
    told = await events(desk, "auth_failure")
    garbage = [details["suppressed"] for details in told if details["reason"] == "not_jws"]
    assert garbage == [0] * 10 + [60 * 5 - 10, 60 * 5 - 1, 60 * 5 - 1]
    assert [details["suppressed"] for details in told if details["reason"] == "unknown_kid"] == [0] * 4
    assert len(told) == len(garbage) + 4


async def test_a_flood_of_what_is_denied_leaves_ten_events_and_one_a_minute(desk: Desk) -> None:
    """Every command is answered all the same, and what one principal does hides nothing of another."""
    for second in range(120):
        for n in range(3):
            jti, params = f"{second}-{n}", {**SET, "dry_run": n == 1}
            reply = await desk.ask(signed(params=params, token=VIEWER, jti=jti, issued_at=desk.now))
            assert code_of(reply) == "forbidden"
        desk.now += 1
    other = Token.new("HS256", "tok_o", "olga", Role.VIEWER)
    desk.keyring.learn(other)
    assert code_of(await desk.ask(signed(token=other, issued_at=desk.now))) == "forbidden"
    told = await events(desk, "permission_denied")
    assert [details["suppressed"] for details in told] == [0] * 10 + [60 * 3 - 10, 0]
    assert told[0] == {"command": "set", "needs": "config.write", "suppressed": 0}
    assert await desk.revision() == 0


def deny(_access: object, call: Call, command: Get | Set) -> Result:
    """Refuse as a handler does that learns from the store what is touched."""
    call.needs(Permission.DELETE, command.service)
    return Result()


@pytest.mark.parametrize("entry", [read(Get, deny), change(Set, deny)], ids=["read", "write"])
@pytest.mark.parametrize("dry_run", [False, True])
async def test_what_a_handler_denies_is_bounded_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, entry: Entry, *, dry_run: bool
) -> None:
    """A right that is asked for while the command runs leaves an event like any other; the command leaves nothing."""
    monkeypatch.setitem(TABLE, entry.model.name, entry)
    operator = Token.new("HS256", "tok_o", "olga", Role.OPERATOR)
    desk.keyring.learn(operator)
    name = entry.model.name
    params = {"service": "stt"} | ({"config": {}, "dry_run": dry_run} if name == "set" else {})
    for n in range(15):
        reply = await desk.ask(signed(name, params, operator, jti=f"j-{n}"), name)
        assert (code_of(reply), reply["error"]["details"]["needs"]) == ("forbidden", "config.delete")
    desk.now += 60
    await desk.ask(signed(name, params, operator, jti="last", issued_at=desk.now), name)
    told = await events(desk, "permission_denied")
    assert [details["suppressed"] for details in told] == [0] * 10 + [5]
    assert {details["needs"] for details in told} == {"config.delete"}


async def test_the_same_command_again_is_answered_as_before(desk: Desk) -> None:
    """Row 6: byte for byte, with no second effect, even when it has expired or the daemon only reads by then."""
    command = signed()
    first = await desk.send(command)
    desk.now += 9000
    desk.runtime.mode = "read_only"
    assert await desk.send(command) == first
    assert await desk.revision() == 1


@pytest.mark.parametrize("around", [b" %b\n", b"\r\n\t%b", b"%b  "])
async def test_white_space_around_does_not_make_another_command(desk: Desk, around: bytes) -> None:
    """What tells a repetition from a conflict is the JWS alone."""
    first = await desk.send(signed())
    assert await desk.send(around % signed()) == first


async def test_other_bytes_under_the_same_jti_are_a_conflict(desk: Desk) -> None:
    """Row 7: a stored reply is for the command that ran, not for another one with its jti, fine or not."""
    await desk.send(signed())
    for other in (signed(params={**SET, "reason": "why"}), signed(params={"service": "A"}), signed(lifetime_s=1)):
        assert code_of(await desk.ask(other)) == "idempotency_conflict"
        desk.now += 2
    assert await desk.revision() == 1


async def test_a_jti_counts_per_token(desk: Desk) -> None:
    """Another token's command of the same jti is another command."""
    await desk.send(signed())
    assert code_of(await desk.ask(signed(token=VIEWER))) == "forbidden"


async def test_a_read_looks_nothing_up(desk: Desk) -> None:
    """Rows 6 and 7 concern mutations: a read under a jti that was used is a read."""
    await desk.send(signed())
    reply = await desk.ask(signed("get", {"service": "stt"}), "get")
    assert (code_of(reply), reply["result"]["config"]) == ("ok", {"a": 1})


async def test_a_scan_is_a_read(desk: Desk) -> None:
    """It looks no jti up and waits for no write, and a command that it refuses is answered like any other."""
    await desk.send(signed())
    go_on = threading.Event()
    stuck = asyncio.create_task(desk.store.write(STAMP, lambda _tx: go_on.wait(DEADLINE_S)))
    try:
        reply = await desk.ask(signed("search", {"query": "a"}), "search")
        assert not stuck.done()
    finally:
        go_on.set()
    assert (code_of(reply), reply["result"]["matches"]) == ("ok", [{"service": "stt", "key": "a", "value": 1}])
    assert await stuck
    await desk.know(SCOPED)
    other = signed("search", {"query": "a", "service": "tts"}, SCOPED)
    assert code_of(await desk.ask(other, "search")) == "forbidden"


async def test_a_refused_write_is_final_and_leaves_nothing(desk: Desk) -> None:
    """Row 15: what the command itself refused is stored; what was refused before it, or can be tried again, is not."""
    refused = signed(params={**SET, "expected_version": 7})
    first = await desk.send(refused)
    assert await desk.send(refused) == first
    malformed = signed(params={"service": "A"}, jti="j-2")
    assert code_of(await desk.ask(malformed)) == "bad_request"
    assert code_of(await desk.ask(signed(jti="j-2"))) == "ok"
    desk.runtime.mode = "read_only"
    waiting = signed(params={"service": "tts", "config": {}}, jti="j-3")
    assert code_of(await desk.ask(waiting)) == "read_only"
    desk.runtime.mode = "active"
    assert code_of(await desk.ask(waiting)) == "ok"
    assert await desk.revision() == 2


async def test_a_dry_run_leaves_nothing_and_the_next_write_no_gap(desk: Desk) -> None:
    """It tells what would be, stores neither effect nor reply, and the revision that it took is taken again."""
    trial = signed(params={**SET, "dry_run": True})
    told = await desk.ask(trial)
    assert (told["result"]["dry_run"], told["result"]["version"], told["revision"]) == (True, 1, 0)
    done = await desk.ask(signed())
    assert (code_of(done), done["result"]["version"], done["revision"]) == ("ok", 1, 1)


async def test_more_than_the_rate_is_told_to_wait(desk: Desk) -> None:
    """Row 11: a burst passes, what comes then is told for how long to wait, and passes after it."""
    for n in range(LIMITS.rate_limit_burst):
        assert code_of(await desk.ask(signed("info", {}, jti=f"i-{n}"), "info")) == "ok"
    reply = await desk.ask(signed("info", {}), "info")
    assert (code_of(reply), reply["error"]["retryable"]) == ("rate_limited", True)
    assert reply["error"]["details"] == {"retry_after_s": 1 / LIMITS.rate_limit_per_s}
    desk.now += reply["error"]["details"]["retry_after_s"]
    assert code_of(await desk.ask(signed("info", {}), "info")) == "ok"
    assert code_of(await desk.ask(signed("info", {}), "info")) == "rate_limited"


async def test_the_rate_is_that_of_a_principal(desk: Desk) -> None:
    """Two tokens of one name share it, another name has its own; and there may be none."""
    for _ in range(LIMITS.rate_limit_burst):
        await desk.ask(signed("info", {}), "info")
    second = Token.new("HS256", "tok_2", ALICE.name, Role.ADMIN)
    desk.keyring.learn(second)
    assert code_of(await desk.ask(signed("info", {}, token=second), "info")) == "rate_limited"
    assert code_of(await desk.ask(signed("info", {}, token=VIEWER), "info")) == "ok"
    free = Desk(desk.store, limits=LIMITS.model_copy(update={"rate_limit_per_s": 0, "rate_limit_burst": 0}))
    for _ in range(2 * LIMITS.rate_limit_burst):
        assert code_of(await free.ask(signed("info", {}), "info")) == "ok"


async def test_where_the_rate_stands_among_the_rows(desk: Desk) -> None:
    """What is wrong by an earlier row is told before it, and takes nothing of it; it comes before the parameters."""
    expired = signed(lifetime_s=1)
    desk.now += 2
    for _ in range(2 * LIMITS.rate_limit_burst):
        assert code_of(await desk.ask(expired)) == "expired"
    for _ in range(LIMITS.rate_limit_burst):
        assert code_of(await desk.ask(signed(params={"service": "A"}))) == "bad_request"
    assert code_of(await desk.ask(signed(params={"service": "A"}))) == "rate_limited"
    assert code_of(await desk.ask(signed("nothing"), "nothing")) == "unknown_command"


async def test_a_repetition_is_answered_whatever_the_rate(desk: Desk) -> None:
    """Row 6 comes before row 11; and what was told to wait is not stored, so the same bytes run later."""
    first = await desk.send(signed())
    for _ in range(LIMITS.rate_limit_burst):
        await desk.ask(signed("info", {}), "info")
    assert await desk.send(signed()) == first
    assert code_of(await desk.ask(signed(params={**SET, "reason": "other"}))) == "idempotency_conflict"
    late = signed(params={**SET, "service": "tts"}, jti="j-2")
    assert code_of(await desk.ask(late)) == "rate_limited"
    desk.now += 1
    assert code_of(await desk.ask(late)) == "ok"


async def test_what_waits_behind_its_revocation_does_not_run(desk: Desk) -> None:
    """Row 3 again, in the write's own turn: what is before the revocation runs, what is behind it does not."""
    await desk.know(ALICE, BOB)
    revoke = signed("token/revoke", {"kid": BOB.kid})
    before, behind = (signed(params={**SET, "service": f"s{n}"}, token=BOB, jti=f"j-{n}") for n in range(2))
    told = await asyncio.gather(desk.ask(before), desk.ask(revoke, "token/revoke"), desk.ask(behind), desk.ask(before))
    assert [code_of(reply) for reply in told] == ["ok", "ok", "token_revoked", "token_revoked"]
    assert await desk.revision() == 1


async def test_the_answer_to_ones_own_revocation(desk: Desk) -> None:
    """It comes, signed with the token that has just ended; then the token hears nothing else, not even that again."""
    await desk.know(ALICE, BOB)
    revoke = signed("token/revoke", {"kid": BOB.kid}, token=BOB)
    message = await desk.pipeline.process(Inbound(TOPICS.command("token/revoke"), revoke, False, desk.now))  # noqa: FBT003
    assert message is not None
    assert message.jws is not None
    key = VerifyingKey("HS256", BOB.signing_key())
    assert verify_detached(message.payload, message.topic, message.jws, BOB.kid, key)
    assert code_of(json.loads(message.payload)) == "ok"
    assert code_of(await desk.ask(revoke, "token/revoke")) == "token_revoked"


async def test_waiting_in_the_inbox_uses_up_the_message_expiry(desk: Desk) -> None:
    """Row 8: counted from the arrival, not from when its turn came."""
    late = await desk.ask(signed(), received_at=desk.now - 5.5, expiry_s=5)
    assert (code_of(late), late["error"]["details"]) == ("expired", {"server_time": "2026-01-01T00:00:00.000Z"})
    assert code_of(await desk.ask(signed(), received_at=desk.now - 4.5, expiry_s=5)) == "ok"


async def test_a_store_that_cannot_be_written_is_unavailable(desk: Desk) -> None:
    """Nothing has happened, and the caller may send it again."""
    await desk.store.close()
    reply = await desk.ask(signed())
    assert (code_of(reply), reply["error"]["retryable"]) == ("unavailable", True)


async def test_a_broken_handler_is_internal_and_tells_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message may quote values: it stays inside. What it wrote is undone, and the next command is served."""

    def broken(*_: object) -> None:
        raise ValueError("hunter2")

    monkeypatch.setattr("setpointd.store.config.ConfigWrites.announce", broken)
    payload = await desk.send(signed())
    assert payload is not None
    assert code_of(json.loads(payload)) == "internal"
    assert b"hunter2" not in payload
    monkeypatch.undo()
    assert (await desk.ask(signed()))["revision"] == 1


async def test_who_wants_no_reply_gets_none(desk: Desk) -> None:
    """The command runs all the same, and is not run again."""
    for _ in range(2):
        assert await desk.send(signed(reply_to=None)) is None
    assert await desk.revision() == 1


PRUNE = "history/prune"


async def versions(desk: Desk) -> list[int]:
    """Make ten versions of a service at the desk, or see which are left."""
    at = Stamp("2026-01-01T00:00:00.000Z", "alice", "r")
    if await desk.store.read(lambda snapshot: snapshot.config.newest("stt")) is None:
        for n in range(10):
            await desk.store.write(at, put("stt", {"n": n}))
    return [n for n in range(1, 11) if await desk.store.read(partial(_is_there, n))]


def _is_there(version: int, snapshot: Snapshot) -> bool:
    try:
        return snapshot.config.at_version("stt", version) is not None
    except HistoryPruned:
        return False


async def test_a_write_in_slices_is_one_command(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered once all of its slices ran, and the same bytes get that answer again; other bytes do not."""
    monkeypatch.setattr(pruning, "SLICE_ROWS", 2)
    await versions(desk)
    payload = signed(PRUNE, {"keep_versions": 3})
    reply = await desk.ask(payload, PRUNE)
    assert reply["result"] == {"versions": 7, "history": 7, "complete": True}
    assert await versions(desk) == [8, 9, 10]
    assert await desk.ask(payload, PRUNE) == reply
    assert code_of(await desk.ask(signed(PRUNE, {"keep_versions": 2}), PRUNE)) == "idempotency_conflict"
    assert await versions(desk) == [8, 9, 10]


async def test_the_same_slices_may_be_at_work_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes, delivered again while they run, are answered alike, and what is to go goes once."""
    monkeypatch.setattr(pruning, "SLICE_ROWS", 2)
    await versions(desk)
    payload = signed(PRUNE, {"keep_versions": 3})
    first, second = await asyncio.gather(desk.ask(payload, PRUNE), desk.ask(payload, PRUNE))
    assert first == second
    assert await versions(desk) == [8, 9, 10]


async def test_slices_let_others_run_in_between(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that comes after the first slice is answered before the last."""
    monkeypatch.setattr(pruning, "SLICE_ROWS", 2)
    await versions(desk)
    pruned = asyncio.create_task(desk.ask(signed(PRUNE, {"keep_versions": 3}), PRUNE))
    await asyncio.sleep(0)
    assert code_of(await desk.ask(signed(jti="j-2"))) == "ok"
    assert not pruned.done()
    assert (await pruned)["result"]["versions"] == 8  # the one that was written meanwhile counts among the newest


async def test_what_a_command_does_not_get_done_is_left(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its number of slices it answers what it has removed, says that there is more, and leaves the rest."""
    monkeypatch.setattr(pruning, "SLICE_ROWS", 2)
    monkeypatch.setattr(retention, "MAX_SLICES", 3)
    await versions(desk)
    reply = await desk.ask(signed(PRUNE, {"keep_versions": 3}), PRUNE)
    assert reply["result"] == {"versions": 3, "history": 3, "complete": False}
    [left] = await desk.store.read(lambda snapshot: snapshot.pruning.unfinished())
    assert (left.keep.versions, left.asked_by, left.request_id) == (3, "alice", "j-1")


async def test_slices_are_refused_as_other_writes_are(desk: Desk) -> None:
    """While read-only, once it has expired, and to who is no admin."""
    await versions(desk)
    payload = signed(PRUNE, {"keep_versions": 1})
    refused = await desk.ask(signed(PRUNE, {"keep_versions": 1}, VIEWER), PRUNE)
    assert (code_of(refused), refused["error"]["details"]) == ("forbidden", {"needs": "admin.manage"})
    desk.runtime.mode, desk.runtime.reason = "read_only", "stale_store"
    assert code_of(await desk.ask(payload, PRUNE)) == "read_only"
    desk.runtime.mode = "active"
    desk.now += 1000
    assert code_of(await desk.ask(payload, PRUNE)) == "expired"
    assert len(await versions(desk)) == 10


async def test_slices_behind_their_tokens_revocation_do_not_run(desk: Desk) -> None:
    """Their turn is the first slice: row 3 is looked at again there, as for any other write."""
    await desk.know(ALICE, BOB)
    await versions(desk)
    revoke = signed("token/revoke", {"kid": BOB.kid})
    prune = signed(PRUNE, {"keep_versions": 1}, BOB)
    told = await asyncio.gather(desk.ask(revoke, "token/revoke"), desk.ask(prune, PRUNE))
    assert [code_of(reply) for reply in told] == ["ok", "token_revoked"]
    assert len(await versions(desk)) == 10


MANY = {f"key-{number}": number for number in range(QUICK_KEYS + 1)}
WIDE = {"allOf": [{"additionalProperties": {"type": ["string", "integer"]}} for _ in range(QUICK_STEPS // 100)]}


@pytest.mark.parametrize(
    ("before", "command", "params", "thread"),
    [
        ([], "set", {"config": {"n": 1}}, "MainThread"),
        ([], "set", {"config": MANY}, "store-writer"),
        ([], "set", {"config": {"text": "x" * QUICK_BYTES}}, "store-writer"),
        ([("set", {"config": MANY})], "delete", {}, "store-writer"),
        ([("set", {"config": MANY})], "set", {"config": {}}, "store-writer"),
        ([("schema/set", {"schema": {"type": "object"}})], "set", {"config": {"n": 1}}, "MainThread"),
        ([("schema/set", {"schema": WIDE})], "set", {"config": dict(list(MANY.items())[:100])}, "store-writer"),
        (
            [("schema/set", {"schema": {"properties": {"p": {"writeOnly": True}}}})],
            "set",
            {"config": {"p": "s"}},
            "store-writer",
        ),
    ],
    ids=["small", "keys", "bytes", "delete", "emptied", "schema", "wide schema", "secret"],
)
async def test_only_what_is_quick_is_written_on_the_event_loop(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    before: list[tuple[str, dict[str, Any]]],
    command: str,
    params: dict[str, Any],
    thread: str,
) -> None:
    """Many keys, many bytes, a costly schema or secrets: all that takes long is left to the writer's thread."""
    await desk.know(ALICE)
    for number, (earlier, its) in enumerate(before):
        reply = await desk.ask(signed(earlier, {"service": "stt", **its}, jti=f"before-{number}"), earlier)
        assert reply["ok"], reply
    threads: list[str] = []
    add = HistoryWrites.add

    def seen(self: HistoryWrites, *rest: Any) -> None:
        threads.append(threading.current_thread().name)
        add(self, *rest)

    monkeypatch.setattr(HistoryWrites, "add", seen)
    reply = await desk.ask(signed(command, {"service": "stt", **params}, jti="it"), command)
    assert reply["ok"], reply
    assert threads == [thread]
