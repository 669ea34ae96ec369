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
        events = [tx.audit.event(row.ref) for row in tx.outbox.first("events", 9)]
    assert row["revoked_at"] == "2026-01-01T00:00:02.000Z"
    assert row["last_used_at"] == "2026-01-01T00:00:01.500Z"
    assert [AuditEvent.model_validate(event).action for event in events] == ["create_token", "revoke_token"]


def test_a_successor_comes_with_the_end_of_the_old_one(db: Database) -> None:
    """One event tells of both, and nothing of a key."""
    old, new = (Token.new("HS256", kid, "bob", Role.VIEWER) for kid in ("tok_a", "tok_b"))
    with job(db, 1) as tx:
        tx.tokens.add(old, "sealed")
    with job(db, 2) as tx:
        tx.tokens.rotate("tok_a", new, "sealed too", rfc3339(FIRST_MOMENT + 9))
        rows = {row["kid"]: row for row in tx.tokens.all()}
        assert tx.tokens.one("tok_b") == rows["tok_b"]
        assert tx.tokens.one("tok_c") is None
        [_, event] = [tx.audit.event(row.ref) for row in tx.outbox.first("events", 9)]
    assert (rows["tok_a"]["expires_at"], rows["tok_b"]["expires_at"]) == ("2026-01-01T00:00:09.000Z", None)
    assert (rows["tok_b"]["key"], rows["tok_b"]["created_at"]) == ("sealed too", "2026-01-01T00:00:02.000Z")
    assert event is not None
    assert (event["action"], event["details"]) == (
        "rotate_token",
        {"kid": "tok_a", "name": "bob", "ends_at": "2026-01-01T00:00:09.000Z", "successor": "tok_b"},
    )


def test_why_a_token_does_not_count(db: Database) -> None:
    """From the moment on at which it runs out, or once it is revoked; one that is not there says nothing."""
    with job(db) as tx:
        for kid, ends in (("tok_a", None), ("tok_b", 5)):
            ends_at = None if ends is None else rfc3339(FIRST_MOMENT + ends)
            tx.tokens.add(Token.new("HS256", kid, "bob", Role.VIEWER, expires_at=ends_at), "sealed")
        now, later = rfc3339(FIRST_MOMENT + 4.999), rfc3339(FIRST_MOMENT + 5)
        assert [tx.tokens.ended(kid, now) for kid in ("tok_a", "tok_b", "tok_c")] == [None, None, None]
        assert [tx.tokens.ended(kid, later) for kid in ("tok_a", "tok_b", "tok_c")] == [None, "expires_at", None]
        tx.tokens.revoke("tok_a")
        tx.tokens.revoke("tok_b")
        assert [tx.tokens.ended(kid, later) for kid in ("tok_a", "tok_b")] == ["revoked_at", "revoked_at"]


def test_changes_are_counted_and_uses_are_not(db: Database) -> None:
    """Whatever decides something, by whichever statement; what is undone has not been."""
    token = Token.new("HS256", "tok_a", "bob", Role.VIEWER)
    counts = []
    with job(db) as tx:
        counts.append(tx.tokens.changes())
        tx.tokens.add(token, "sealed")
        counts.append(tx.tokens.changes())
        tx.tokens.note_use({"tok_a": rfc3339(FIRST_MOMENT)})
        counts.append(tx.tokens.changes())
        tx.tokens.revoke("tok_a")
        counts.append(tx.tokens.changes())
    with db.atomic():
        db.conn.execute("UPDATE api_tokens SET role = 'admin'")
        counts.append(Snapshot(db).tokens.changes())
        db.conn.execute("DELETE FROM api_tokens")
        counts.append(Snapshot(db).tokens.changes())
    assert counts == [0, 1, 1, 2, 3, 4]


def test_an_audit_event_that_is_gone_is_none(db: Database) -> None:
    """An outbox row may outlive its event; then there is nothing to publish."""
    assert Snapshot(db).audit.event("77") is None
