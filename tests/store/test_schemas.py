"""Schemas in the store: what a write of one leaves, and how they are read."""

import pytest
from sqlite_utils import Database

from setpoint_contracts.audit import AuditEvent
from setpointd.records import SchemaRecord
from tests.store.jobs import job, rows, write

AT = "2026-01-01T00:00:00.000Z"


def test_setting_a_schema_leaves_all_that_belongs_to_it(db: Database) -> None:
    """The row, an audit event without its text, a revision, and one outbox row, however often it is set."""
    for text in ('{"title":"hunter2"}', '{"type":"object"}'):
        with job(db) as tx:
            record = tx.schemas.put("stt", text)
    assert record == SchemaRecord("stt", AT, "alice", '{"type":"object"}')
    with job(db) as tx:
        assert tx.schemas.find("stt") == record
        assert tx.schemas.text("stt") == record.text
        assert [(row.ref, row.writes) for row in tx.outbox.first("documents", 9)] == [("stt", 2)]
        event = AuditEvent.model_validate(tx.audit.event("2"))
        assert (event.action, event.service, event.revision, event.details) == ("set_schema", "stt", 2, {"bytes": 17})
        assert tx.identity.now().revision == 2
    assert "hunter2" not in str(rows(db, "SELECT * FROM audit_log"))


def test_removing_a_schema(db: Database) -> None:
    """It is gone, its topic is to be cleared, and an event tells."""
    with job(db) as tx:
        tx.schemas.put("stt", "{}")
    with job(db) as tx:
        tx.outbox.remove(tx.outbox.first("documents", 9))
        tx.schemas.remove("stt")
        assert (tx.schemas.find("stt"), tx.schemas.text("stt"), list(tx.schemas.retained())) == (None, None, [])
        assert [row.ref for row in tx.outbox.first("documents", 9)] == ["stt"]
        event = AuditEvent.model_validate(tx.audit.event("2"))
        assert (event.action, event.revision, event.details) == ("delete_schema", 2, {})


def test_schema_and_config_share_the_revision_of_their_job(db: Database) -> None:
    """A schema makes no version; what is written with it has the same revision."""
    with job(db) as tx:
        tx.schemas.put("stt", "{}")
        document = tx.config.write_version("stt", None, {}, op="set", reason=None)
    assert (document.version, document.revision) == (1, 1)


def test_schemas_are_listed_in_order(db: Database) -> None:
    """By name, and behind a name; a service needs no config to have one, and keeps it when it is deleted."""
    write(db, "b", {})
    with job(db) as tx:
        for service in ("c", "a", "b"):
            tx.schemas.put(service, "{}")
    write(db, "b", None, 1)
    with job(db) as tx:
        assert [record.head() for record in tx.schemas.heads()] == [
            {"service": service, "updated_at": AT, "updated_by": "alice"} for service in "abc"
        ]
        assert [record.service for record in tx.schemas.heads("a")] == ["b", "c"]
        assert dict(tx.schemas.retained()) == dict.fromkeys("abc", "{}")


def test_a_schema_that_nobody_could_be_sent_is_not_set(db: Database) -> None:
    """The broker's limit is looked at before anything is written."""

    def refuse(service: str, text: str) -> None:
        raise ValueError(service + text)

    with job(db) as tx:
        tx.schemas.check_schema = refuse
        with pytest.raises(ValueError, match=r"stt\{\}"):
            tx.schemas.put("stt", "{}")
    assert rows(db, "SELECT * FROM config_schemas") == rows(db, "SELECT * FROM outbox_documents") == []


def test_the_schema_of_a_service_is_found_by_an_index(db: Database) -> None:
    """Every write of a config looks for it."""
    plan = rows(db, "EXPLAIN QUERY PLAN SELECT schema_json FROM config_schemas WHERE service = 'stt'")
    assert "USING INDEX" in plan[0]["detail"]
