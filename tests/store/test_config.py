"""What one write leaves in the store: version, history, keys, audit event, outbox rows; and how it can be read."""

from typing import get_args

import pytest
from sqlite_utils import Database

from setpoint_contracts import Code
from setpoint_contracts.audit import AuditEvent
from setpoint_contracts.timestamps import rfc3339
from setpointd.errors import Rejected, VersionConflict
from setpointd.records import Document, OutboxQueue, OutboxRow
from tests.store.jobs import FIRST_MOMENT, job, rows, write


def test_a_write_leaves_all_that_belongs_to_it(db: Database) -> None:
    """State, version, keys, history, audit event and outbox rows: one write, one revision."""
    write(db, "stt", {"model": "small", "threads": 2})
    write(db, "stt", {"model": "large", "lang": "de"}, 1, reason="better")

    at = "2026-01-01T00:00:01.000Z"
    by = {"revision": 2, "service": "stt"}
    assert rows(db, "SELECT * FROM config_state") == [
        {**by, "version": 2, "deleted": 0, "updated_at": at, "updated_by": "alice", "cleared": 0}
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
        assert [(row.ref, row.writes) for row in tx.outbox.first("documents", 9)] == [("stt", 2)]
        assert [row.ref for row in tx.outbox.first("events", 9)] == ["1", "2"]
        event = AuditEvent.model_validate(tx.audit.event("2"))
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
    assert "hunter" not in str(rows(db, "SELECT * FROM audit_log"))


def test_deleting_makes_a_tombstone_and_versions_go_on(db: Database) -> None:
    """A deleted service has no keys, keeps its history, and goes on at the next version when it is set again."""
    write(db, "stt", {"a": 1})
    gone = write(db, "stt", None, 1)
    assert (gone.version, gone.deleted) == (2, True)
    assert rows(db, "SELECT * FROM config_kv") == []
    with job(db) as tx:
        assert tx.config.current("stt") == gone
        assert tx.config.count() == 0
        assert list(tx.config.services()) == []
        assert list(tx.config.all()) == list(tx.config.retained()) == [gone]
        assert tx.config.to_publish("stt") == gone
    again = write(db, "stt", {"a": 1}, 2)
    assert (again.version, again.revision) == (3, 3)
    assert [row["op"] for row in rows(db, "SELECT op FROM config_history ORDER BY id")] == ["add", "remove", "add"]


def test_an_empty_config_is_not_a_tombstone(db: Database) -> None:
    """A service may live without a single key."""
    empty = write(db, "stt", {})
    assert not empty.deleted
    with job(db) as tx:
        assert tx.config.current("stt") == empty
        assert list(tx.config.services()) == [(Document(**{**empty.head(), "config": None}), 0)]


def test_all_writes_of_one_job_share_a_revision(db: Database) -> None:
    """A batch is one revision, whatever it writes."""
    with job(db) as tx:
        documents = [tx.config.write_version(name, None, {}, op="set", reason=None) for name in ("a", "b")]
    assert [document.revision for document in documents] == [1, 1]
    assert write(db, "c", {}).revision == 2


@pytest.mark.parametrize("moved", ["written", "deleted", "made"])
def test_a_write_from_another_base_conflicts(db: Database, moved: str) -> None:
    """Between reading and writing somebody else may come; then nothing is written, and the current one is told."""
    base = None if moved == "made" else write(db, "stt", {"a": 1})
    now = write(db, "stt", None if moved == "deleted" else {"a": 2}, 1)
    before = rows(db, "SELECT * FROM config_versions")
    with pytest.raises(VersionConflict) as caught, job(db, 2) as tx:
        tx.config.write_version("stt", base, {"a": 3}, op="set", reason=None)
    assert caught.value.details == {"current": now}
    assert rows(db, "SELECT * FROM config_versions") == before
    with job(db) as tx:
        assert tx.identity.now().revision == now.revision


def test_a_base_that_never_was_conflicts(db: Database) -> None:
    """A version of a service that is not there is no base."""
    never = Document("stt", 4, 4, 0, None, None, {"a": 1})
    with pytest.raises(VersionConflict) as caught, job(db) as tx:
        tx.config.write_version("stt", never, {}, op="set", reason=None)
    assert caught.value.details["current"] == Document.absent("stt")


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
        assert [tx.config.at_version("stt", version) for version in (1, 2, 3, 4)] == [first, second, gone, None]
        found = [tx.config.at_revision("stt", revision) for revision in range(6)]
        assert found == [None, first, first, second, gone, gone]
        assert tx.config.at_revision("tts", 1) is None
        assert tx.config.at_revision("tts", 4) == other
        assert [tx.config.at_time("stt", moment) for moment in at.values()] == [None, first, first, second, gone, gone]


def test_services_are_listed_in_order(db: Database) -> None:
    """By name, behind a name, and by prefix; a prefix is no pattern."""
    for name in ("b", "a.x", "a-x", "a_x", "c", "a%"):
        write(db, name, {"k": 1, "l": 2})
    write(db, "c", None)
    with job(db) as tx:
        assert [document.service for document, _ in tx.config.services()] == ["a%", "a-x", "a.x", "a_x", "b"]
        assert [keys for _, keys in tx.config.services()] == [2] * 5
        assert [document.service for document, _ in tx.config.services("a", "a-x")] == ["a.x", "a_x"]
        assert [document.service for document, _ in tx.config.services("a%")] == ["a%"]
        assert [document.service for document, _ in tx.config.services("a_")] == ["a_x"]
        assert [document.service for document, _ in tx.config.services("A")] == []


def test_versions_tell_the_epoch_they_were_made_in(db: Database) -> None:
    """A document keeps the epoch of its writer when a later one begins."""
    with job(db) as tx:
        tx.identity.take_over("i-1", now=0)
    document = write(db, "a", {})
    with job(db) as tx:
        tx.identity.take_over("i-2", now=0)
        assert tx.config.current("a") == document
    assert (document.epoch, write(db, "a", {"b": 1}).epoch) == (1, 2)


def delete(db: Database, *services: str) -> None:
    """Make and delete services, one after the other: the first at second 1."""
    for at_s, service in enumerate(services, 1):
        write(db, service, {})
        write(db, service, None, at_s)


def confirm_all(db: Database) -> None:
    """Take everything out of the outbox, as when the broker has it."""
    with job(db) as tx:
        for queue in get_args(OutboxQueue):
            tx.outbox.remove(tx.outbox.first(queue, 99))


def waiting(db: Database) -> list[OutboxRow]:
    """Read which services are to be published."""
    with job(db) as tx:
        return tx.outbox.first("documents", 99)


def test_tombstones_are_cleared_in_slices(db: Database) -> None:
    """Those from before a moment, a few at a time; each has its topic cleared, and its versions stay."""
    delete(db, "a", "b", "c", "d")
    write(db, "living", {})
    confirm_all(db)
    before = rfc3339(FIRST_MOMENT + 4)
    with job(db, 9) as tx:
        assert [tx.config.clear_tombstones(before, 2) for _ in range(3)] == [2, 1, 0]
        assert [tx.config.to_publish(service) for service in "abc"] == [None] * 3
        assert [document.service for document in tx.config.retained()] == ["d", "living"]
        assert [tx.config.current(service) for service in "abc"] == [tx.config.at_version(name, 2) for name in "abc"]
        assert tx.config.revision is None
    assert sorted(row.ref for row in waiting(db)) == ["a", "b", "c"]


def test_clearing_a_tombstone_reads_only_tombstones(db: Database) -> None:
    """However many services live and were cleared long ago, a slice is found through an index."""
    [clearing] = rows(
        db,
        "EXPLAIN QUERY PLAN SELECT service FROM config_state"
        " WHERE deleted = 1 AND cleared = 0 AND updated_at < '2026' LIMIT 100",
    )
    assert "USING INDEX config_state_tombstones" in clearing["detail"]


def test_a_service_set_again_after_its_tombstone_was_cleared_is_retained_again(db: Database) -> None:
    """It goes on at the next version; deleted once more, it has a tombstone that stays once more."""
    delete(db, "a")
    with job(db, 2) as tx:
        tx.config.clear_tombstones(rfc3339(FIRST_MOMENT + 2), 9)
    confirm_all(db)
    again = write(db, "a", {"n": 1}, 3)
    with job(db) as tx:
        assert (again.version, tx.config.to_publish("a")) == (3, again)
        assert list(tx.config.retained()) == [again]
    assert [row.ref for row in waiting(db)] == ["a"]
    gone = write(db, "a", None, 4)
    with job(db) as tx:
        assert list(tx.config.retained()) == [gone]
        assert tx.config.clear_tombstones(rfc3339(FIRST_MOMENT + 4), 9) == 0
        assert tx.config.clear_tombstones(rfc3339(FIRST_MOMENT + 5), 9) == 1


def test_a_version_that_cannot_be_published_is_not_made(db: Database) -> None:
    """Whoever writes it is refused where versions are made; a decision which store counts is not."""

    def refuse(document: Document, config_bytes: int) -> None:
        raise Rejected(Code.TOO_LARGE, "no", bytes=config_bytes, service=document.service)

    with job(db) as tx:
        tx.config.check_update = refuse
        with pytest.raises(Rejected) as refusal, tx.savepoint():
            tx.config.write_version("stt", None, {"a": "é"}, op="set", reason=None)
        assert refusal.value.details == {"bytes": len('{"a":"é"}'.encode()), "service": "stt"}
        assert tx.config.current("stt") is None
        tx.config.check_update = lambda _document, _config_bytes: None
        document = tx.config.write_version("stt", None, {"a": "é"}, op="set", reason=None)
        tx.config.check_update = refuse
        assert tx.config.advance("stt", document, 0).version == 2
