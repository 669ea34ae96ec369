"""What was done and refused: ``audit_log``, whose rows are chained. Every event is published too."""

import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from setpoint_contracts import strictjson
from setpoint_contracts.audit import Action
from setpointd.errors import UnreadableError
from setpointd.store.chain import MEMBERS, START, Link, follow
from setpointd.store.known import Known
from setpointd.store.outbox import OutboxWrites
from setpointd.store.sql import Reading, Writing, stored_json

# So many rows are looked at for one page, whatever the filter: some milliseconds.
SCANNED_ROWS = 5000
# When the details of a page have so many bytes, it ends.
PAGE_BYTES = 256 * 1024

_OPTIONAL = ("service", "request_id", "revision")
_INSERT = (
    f"INSERT INTO audit_log ({MEMBERS}, prev_hash, hash) VALUES (:id, :action, :user, :service, :timestamp,"  # noqa: S608
    " :request_id, :revision, :details_json, :prev_hash, :hash)"
)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events are asked for; None: any. ``since`` is in it, ``until`` is not; ``sees`` judges a service."""

    action: str | None = None
    user: str | None = None
    service: str | None = None
    since: str | None = None
    until: str | None = None
    sees: Callable[[str], bool] = lambda _service: True


class AuditReads(Reading):
    """Reads of audit events."""

    def event(self, event_id: str) -> dict[str, Any] | None:
        """One audit event as the wire has it (section 6)."""
        row = self._one("SELECT * FROM audit_log WHERE id = :id", id=event_id)
        return None if row is None else {**_head(row), "details": stored_json(row["details_json"])}

    def page(self, wanted: AuditFilter, before: int | None, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Events with an id below ``before`` that a filter lets through, newest first, each with its id and hash.

        Also the ``before`` of the next page, None at the end. A page looks at ``SCANNED_ROWS`` and ends: it may be
        empty, and not be the last. What is written meanwhile has a higher id, so it moves nothing.
        """
        top = self._newest_below(math.inf if before is None else before)
        if top is None:
            return [], None
        floor = top - SCANNED_ROWS
        events: list[dict[str, Any]] = []
        size = 0
        for row in self._matching(wanted, floor, top):
            if row["service"] is not None and not wanted.sees(row["service"]):
                continue
            if len(events) == limit or (events and size + len(row["details_json"]) > PAGE_BYTES):
                return events, events[-1]["id"]
            size += len(row["details_json"])
            events.append({"id": row["id"], **_head(row), "details": _details(row), "hash": row["hex"]})
        return events, floor + 1 if self._newest_below(floor + 1) is not None else None

    def _newest_below(self, before: float) -> int | None:
        row = self._one("SELECT id FROM audit_log WHERE id < :before ORDER BY id DESC LIMIT 1", before=before)
        return None if row is None else row["id"]

    def _matching(self, wanted: AuditFilter, floor: int, top: int) -> sqlite3.Cursor:
        return self._all(
            "SELECT *, lower(hex(hash)) AS hex FROM audit_log WHERE id > :floor AND id <= :top"
            " AND (:action IS NULL OR action = :action) AND (:user IS NULL OR user = :user)"
            " AND (:service IS NULL OR service = :service)"
            " AND (:since IS NULL OR timestamp >= :since) AND (:until IS NULL OR timestamp < :until)"
            " ORDER BY id DESC",
            floor=floor,
            top=top,
            action=wanted.action,
            user=wanted.user,
            service=wanted.service,
            since=wanted.since,
            until=wanted.until,
        )

    def chained(self) -> bool:
        """Whether the rows have a chain: those of older formats have none."""
        return "hash" in self._db["audit_log"].columns_dict

    def chain(self, last: Link, limit: int) -> Iterator[Link]:
        """Follow the chain from a link for so many rows. Raises ``BrokenChainError``."""
        # Nobody gives ids below 1, but somebody may have put them in.
        after = -math.inf if last == START else last.id
        sql = f"SELECT {MEMBERS}, prev_hash, hash FROM audit_log WHERE id > :after ORDER BY id LIMIT :limit"  # noqa: S608
        return follow(last, self._all(sql, after=after, limit=limit))


class AuditWrites(AuditReads, Writing):
    """Writes of audit events."""

    def __init__(self, db: Database, known: Known, outbox: OutboxWrites) -> None:
        super().__init__(db)
        self._outbox = outbox
        self._known = known

    def record(
        self, action: Action, *, service: str | None = None, revision: int | None = None, **details: Any
    ) -> None:
        """Record an event and have it published. ``details`` must hold no config value and no secret."""
        last = self._known.event or self._last()
        members = {
            "id": last.id + 1,
            "action": action,
            "user": self._known.stamp.by,
            "service": service,
            "timestamp": self._known.stamp.at,
            "request_id": self._known.stamp.request_id,
            "revision": revision,
            "details_json": strictjson.dumps(details),
        }
        link = last.then(tuple(members.values()))
        self._do(_INSERT, **members, prev_hash=last.hash, hash=link.hash)
        self._known.event = link
        self._outbox.add_event(link.id)

    def _last(self) -> Link:
        row = self._one("SELECT id, hash FROM audit_log ORDER BY id DESC LIMIT 1")
        return START if row is None else Link(*row)


def _head(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "action": row["action"],
        "user": row["user"],
        "timestamp": row["timestamp"],
        **{field: row[field] for field in _OPTIONAL if row[field] is not None},
    }


def _details(row: sqlite3.Row) -> dict[str, Any]:
    try:
        details: dict[str, Any] = stored_json(row["details_json"])
    except UnreadableError:  # one damaged row must not hide the others
        return {"unreadable": True}
    return details
