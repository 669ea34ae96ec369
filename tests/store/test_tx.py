"""What one write leaves in the store: version, history, keys, audit event, outbox rows; and how it can be read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlite_utils import Database

from setpoint_contracts import Role, Token
from setpoint_contracts.audit import AuditEvent
from setpoint_contracts.timestamps import rfc3339
from setpointd.errors import VersionConflict
from setpointd.records import Claim, Document, OutboxRow, Stamp
from setpointd.snapshot import Snapshot
from setpointd.tx import Tx

FIRST_MOMENT = 1_767_225_600


@contextmanager
def job(db: Database, at_s: float = 0, by: str = "alice", request_id: str = "r-1") -> Iterator[Tx]:
    """Open a transaction as the store does; `at_s` counts seconds from the first moment of 2026."""
    with db.atomic():
        yield Tx(db, Stamp(rfc3339(FIRST_MOMENT + at_s), by, request_id))


def write(db: Database, service: str, config: dict[str, Any] | None, at_s: float = 0, **more: Any) -> Document:
    """Write the next version of a service; config None deletes it."""
    with job(db, at_s, request_id=f"r-{at_s}") as tx:
        values = {"op": "delete" if config is None else "set", "reason": None, **more}
        return tx.write_version(service, tx.current(service), config, **values)


def rows(db: Database, sql: str) -> list[dict[str, Any]]:
    """Look into the tables."""
    return [dict(row) for row in db.conn.execute(sql)]


def test_a_write_leaves_all_that_belongs_to_it(db: Database) -> None:
    """State, version, keys, history, audit event and two outbox rows: one write, one revision."""
    write(db, "stt", {"model": "small", "threads": 2})
    write(db, "stt", {"model": "large", "lang": "de"}, 1, reason="better")

    at = "2026-01-01T00:00:01.000Z"
    by = {"revision": 2, "service": "stt"}
    assert rows(db, "SELECT * FROM config_state") == [
        {"service": "stt", "version": 2, "revision": 2, "deleted": 0, "updated_at": at, "updated_by": "alice"}
    ]
    assert rows(db, "SELECT key, value_json FROM config_kv ORDER BY key") == [
        {"key": "lang", "value_json": '"de"'},
        {"key": "model", "value_json": '"large"'},
    ]
    assert rows(db, "SELECT * FROM config_versions WHERE version = 2") == [
        {
            **by,
            "version": 2,
            "epoch": 0,
            "config_json": '{"model":"large","lang":"de"}',
            "op": "set",
            "reason": "better",
            "updated_at": at,
            "updated_by": "alice",
            "request_id": "r-1",
        }
    ]
    changes = rows(db, "SELECT key, op, old_json, new_json, reason, request_id FROM config_history WHERE version = 2")
    assert changes == [
        {"key": key, "op": op, "old_json": old, "new_json": new, "reason": "better", "request_id": "r-1"}
        for key, op, old, new in (
            ("lang", "add", None, '"de"'),
            ("model", "replace", '"small"', '"large"'),
            ("threads", "remove", "2", None),
        )
    ]
    with job(db) as tx:
        assert [(row.kind, row.ref) for row in tx.outbox(9)] == [
            ("updated", "stt"),
            ("updated", "stt"),
            ("audit", "1"),
            ("audit", "2"),
        ]
        event = AuditEvent.model_validate(tx.audit_event("2"))
        assert (event.action, event.user, event.service, event.revision) == ("update_config", "alice", "stt", 2)
        assert event.details == {
            "version": 2,
            "op": "set",
            "keys": ["lang", "model", "threads"],
            "reason": "better",
        }


def test_an_audit_event_holds_no_value(db: Database) -> None:
    """Which keys changed stands in the event, what they are does not."""
    write(db, "stt", {"password": "hunter2"})
    write(db, "stt", {"password": "hunter3"}, 1)
    write(db, "stt", None, 2)
    assert "hunter" not in json.dumps(rows(db, "SELECT * FROM audit_log"))


def test_deleting_makes_a_tombstone_and_versions_go_on(db: Database) -> None:
    """A deleted service has no keys, keeps its history, and goes on at the next version when it is set again."""
    write(db, "stt", {"a": 1})
    gone = write(db, "stt", None, 1)
    assert (gone.version, gone.deleted) == (2, True)
    assert gone.as_wire() == {**gone.head(), "deleted": True}
    assert rows(db, "SELECT * FROM config_kv") == []
    with job(db) as tx:
        assert tx.current("stt") == gone
        assert tx.count_services() == 0
        assert list(tx.services()) == []
        assert list(tx.documents()) == []
    again = write(db, "stt", {"a": 1}, 2)
    assert (again.version, again.revision) == (3, 3)
    assert [row["op"] for row in rows(db, "SELECT op FROM config_history ORDER BY id")] == ["add", "remove", "add"]


def test_an_empty_config_is_not_a_tombstone(db: Database) -> None:
    """A service may live without a single key."""
    empty = write(db, "stt", {})
    assert not empty.deleted
    with job(db) as tx:
        assert tx.current("stt") == empty
        assert list(tx.services()) == [(Document(**{**empty.head(), "config": None}), 0)]


def test_all_writes_of_one_job_share_a_revision(db: Database) -> None:
    """A batch is one revision, whatever it writes."""
    with job(db) as tx:
        documents = [tx.write_version(name, None, {}, op="set", reason=None) for name in ("a", "b")]
    assert [document.revision for document in documents] == [1, 1]
    assert write(db, "c", {}).revision == 2


@pytest.mark.parametrize("moved", ["written", "deleted", "made"])
def test_a_write_from_another_base_conflicts(db: Database, moved: str) -> None:
    """Between reading and writing somebody else may come; then nothing is written, and the current one is told."""
    base = None if moved == "made" else write(db, "stt", {"a": 1})
    now = write(db, "stt", None if moved == "deleted" else {"a": 2}, 1)
    before = rows(db, "SELECT * FROM config_versions")
    with pytest.raises(VersionConflict) as caught, job(db, 2) as tx:
        tx.write_version("stt", base, {"a": 3}, op="set", reason=None)
    assert caught.value.details == {"current": now.as_wire()}
    assert rows(db, "SELECT * FROM config_versions") == before
    with job(db) as tx:
        assert tx.claim().revision == now.revision


def test_a_base_that_never_was_conflicts(db: Database) -> None:
    """A version of a service that is not there is no base."""
    never = Document("stt", 4, 4, 0, None, None, {"a": 1})
    with pytest.raises(VersionConflict) as caught, job(db) as tx:
        tx.write_version("stt", never, {}, op="set", reason=None)
    assert caught.value.details["current"]["version"] == 0


def test_reading_as_it_was(db: Database) -> None:
    """By version, revision and time, at the very moment of a change and between two of them."""
    first, other, second, gone = (
        write(db, "stt", {"n": 1}, 10),
        write(db, "tts", {}, 20),
        write(db, "stt", {"n": 2}, 30),
        write(db, "stt", None, 40),
    )
    at = {seconds: rfc3339(FIRST_MOMENT + seconds) for seconds in (9.999, 10, 29.999, 30, 40, 99)}
    with job(db) as tx:
        assert [tx.at_version("stt", version) for version in (1, 2, 3, 4)] == [first, second, gone, None]
        assert [tx.at_revision("stt", revision) for revision in range(6)] == [None, first, first, second, gone, gone]
        assert tx.at_revision("tts", 1) is None
        assert tx.at_revision("tts", 4) == other
        assert [tx.at_time("stt", moment) for moment in at.values()] == [None, first, first, second, gone, gone]


def test_services_are_listed_in_order(db: Database) -> None:
    """By name, behind a name, and by prefix; a prefix is no pattern."""
    for name in ("b", "a.x", "a-x", "a_x", "c", "a%"):
        write(db, name, {"k": 1, "l": 2})
    write(db, "c", None)
    with job(db) as tx:
        assert [document.service for document, _ in tx.services()] == ["a%", "a-x", "a.x", "a_x", "b"]
        assert [keys for _, keys in tx.services()] == [2] * 5
        assert [document.service for document, _ in tx.services("a", "a-x")] == ["a.x", "a_x"]
        assert [document.service for document, _ in tx.services("a%")] == ["a%"]
        assert [document.service for document, _ in tx.services("a_")] == ["a_x"]
        assert [document.service for document, _ in tx.services("A")] == []


def test_outbox_rows_leave_one_by_one(db: Database) -> None:
    """What was confirmed is gone, the rest stays in order; updates come before events."""
    write(db, "a", {})
    write(db, "b", {})
    with job(db) as tx:
        updates = tx.outbox(2)
        assert [row.ref for row in updates] == ["a", "b"]
        tx.published([updates[0].id])
        assert tx.outbox(1) == [updates[1]]
        assert tx.outbox_pending() == 3
        assert [row.kind for row in tx.outbox(9)] == ["updated", "audit", "audit"]


def test_an_outbox_id_is_never_used_again(db: Database) -> None:
    """A confirmation that comes late cannot take out a row that came after."""
    write(db, "a", {})
    with job(db) as tx:
        old = tx.outbox(9)
        tx.published(row.id for row in old)
    write(db, "b", {})
    with job(db) as tx:
        assert min(row.id for row in tx.outbox(9)) > max(row.id for row in old)
        assert isinstance(tx.outbox(1)[0], OutboxRow)


def test_stored_replies_are_kept_until_they_run_out(db: Database) -> None:
    """By token and jti, digest and bytes as they were; the moment of expiry still counts as kept."""
    with job(db) as tx:
        tx.store_reply("tok_a", "j-1", b"\x00\xff", b"one", rfc3339(FIRST_MOMENT + 5))
        tx.store_reply("tok_a", "j-2", b"d", b"two", rfc3339(FIRST_MOMENT + 6))
        tx.store_reply("tok_b", "j-1", b"d", b"three", rfc3339(FIRST_MOMENT + 9))
        assert tx.stored_reply("tok_a", "j-1") == (b"\x00\xff", b"one")
        assert tx.stored_reply("tok_b", "j-2") is None
    with job(db, 6) as tx:
        assert tx.forget_replies() == 1
        found = [tx.stored_reply(*key) for key in (("tok_a", "j-1"), ("tok_a", "j-2"), ("tok_b", "j-1"))]
    assert found == [None, (b"d", b"two"), (b"d", b"three")]


def test_a_store_has_one_identity(db: Database) -> None:
    """The id stays; each taking over begins an epoch, remembering does not; both keep the instance."""
    with job(db) as tx:
        made = tx.claim()
        assert (made.epoch, made.revision, made.instance) == (0, 0, None)
        assert tx.take_over("i-1") == Claim(made.store_id, 1, 0, "i-1")
        assert tx.remember("i-2") == Claim(made.store_id, 1, 0, "i-2")
        assert tx.take_over("i-3") == Claim(made.store_id, 2, 0, "i-3")


def test_versions_tell_the_epoch_they_were_made_in(db: Database) -> None:
    """A document keeps the epoch of its writer when a later one begins."""
    with job(db) as tx:
        tx.take_over("i-1")
    document = write(db, "a", {})
    with job(db) as tx:
        tx.take_over("i-2")
        assert tx.current("a") == document
    assert (document.epoch, write(db, "a", {"b": 1}).epoch) == (1, 2)


def test_tokens_come_and_are_revoked_once(db: Database) -> None:
    """A token is listed as it was made; revoking it is recorded the first time only."""
    token = Token.new("HS256", "tok_a", "bob", Role.VIEWER, services=["stt", "tts*"])
    with job(db, 1) as tx:
        tx.add_token(token, "sealed")
        [row] = tx.tokens()
    expected = {"kid": "tok_a", "name": "bob", "role": "viewer", "services": ["stt", "tts*"], "alg": "HS256"}
    assert expected.items() <= row.items()
    assert (row["key"], row["created_by"], row["revoked_at"], row["last_used_at"]) == ("sealed", "alice", None, None)
    with job(db, 2) as tx:
        assert tx.revoke_token("tok_a")
        assert not tx.revoke_token("tok_a")
        assert not tx.revoke_token("tok_b")
        tx.tokens_used({"tok_a": rfc3339(FIRST_MOMENT + 1.5), "tok_gone": rfc3339(FIRST_MOMENT)})
        [row] = tx.tokens()
        events = [tx.audit_event(row.ref) for row in tx.outbox(9)]
    assert row["revoked_at"] == "2026-01-01T00:00:02.000Z"
    assert row["last_used_at"] == "2026-01-01T00:00:01.500Z"
    assert [AuditEvent.model_validate(event).action for event in events] == ["create_token", "revoke_token"]


def test_an_audit_event_that_is_gone_is_none(db: Database) -> None:
    """An outbox row may outlive its event; then there is nothing to publish."""
    assert Snapshot(db).audit_event("77") is None
