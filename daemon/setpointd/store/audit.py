"""What was done and refused: ``audit_log``. Every event is published too."""

from typing import Any

from sqlite_utils import Database

from setpoint_contracts import strictjson
from setpoint_contracts.audit import Action
from setpointd.records import Stamp
from setpointd.store.outbox import OutboxWrites
from setpointd.store.sql import Reading, Writing, stored_json

_OPTIONAL = ("service", "request_id", "revision")


class AuditReads(Reading):
    """Reads of audit events."""

    def event(self, event_id: str) -> dict[str, Any] | None:
        """One audit event as the wire has it (section 6)."""
        row = self._one("SELECT * FROM audit_log WHERE id = :id", id=event_id)
        if row is None:
            return None
        return {
            "action": row["action"],
            "user": row["user"],
            "timestamp": row["timestamp"],
            **{field: row[field] for field in _OPTIONAL if row[field] is not None},
            "details": stored_json(row["details_json"]),
        }


class AuditWrites(AuditReads, Writing):
    """Writes of audit events."""

    def __init__(self, db: Database, stamp: Stamp, outbox: OutboxWrites) -> None:
        super().__init__(db)
        self._stamp = stamp
        self._outbox = outbox

    def record(
        self, action: Action, *, service: str | None = None, revision: int | None = None, **details: Any
    ) -> None:
        """Record an event and have it published. ``details`` must hold no config value and no secret."""
        row = self._one(
            "INSERT INTO audit_log (action, user, service, timestamp, request_id, revision, details_json)"
            " VALUES (:action, :user, :service, :at, :request_id, :revision, :details) RETURNING id",
            action=action,
            user=self._stamp.by,
            service=service,
            at=self._stamp.at,
            request_id=self._stamp.request_id,
            revision=revision,
            details=strictjson.dumps(details),
        )
        if row is not None:
            self._outbox.add("audit", str(row["id"]))
