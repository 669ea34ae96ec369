"""The tokens in the store, and the audit events that come with them."""

from sqlite_utils import Database

from setpoint_contracts import Role, Token
from setpoint_contracts.audit import AuditEvent
from setpoint_contracts.timestamps import rfc3339
from setpointd.store import Snapshot
from tests.store.jobs import FIRST_MOMENT, job


def test_tokens_come_and_are_revoked_once(db: Database) -> None:
    """A token is listed as it was made; revoking it is recorded the first time only."""
    token = Token.new("HS256", "tok_a", "bob", Role.VIEWER, services=["stt", "tts*"])
    with job(db, 1) as tx:
        tx.tokens.add(token, "sealed")
        [row] = tx.tokens.all()
    expected = {"kid": "tok_a", "name": "bob", "role": "viewer", "services": ["stt", "tts*"], "alg": "HS256"}
    assert expected.items() <= row.items()
    assert (row["key"], row["created_by"], row["revoked_at"], row["last_used_at"]) == ("sealed", "alice", None, None)
    with job(db, 2) as tx:
        assert tx.tokens.revoke("tok_a")
        assert not tx.tokens.revoke("tok_a")
        assert not tx.tokens.revoke("tok_b")
        tx.tokens.note_use({"tok_a": rfc3339(FIRST_MOMENT + 1.5), "tok_gone": rfc3339(FIRST_MOMENT)})
        [row] = tx.tokens.all()
        events = [tx.audit.event(row.ref) for row in tx.outbox.first("audit", 9)]
    assert row["revoked_at"] == "2026-01-01T00:00:02.000Z"
    assert row["last_used_at"] == "2026-01-01T00:00:01.500Z"
    assert [AuditEvent.model_validate(event).action for event in events] == ["create_token", "revoke_token"]


def test_an_audit_event_that_is_gone_is_none(db: Database) -> None:
    """An outbox row may outlive its event; then there is nothing to publish."""
    assert Snapshot(db).audit.event("77") is None
