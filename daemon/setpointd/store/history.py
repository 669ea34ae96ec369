"""Every change of a top-level key: ``config_history``.

Rules:

- Ids only grow. So whatever is written meanwhile, behind the page that ends at an id comes the one of smaller ids.
- Times grow with the ids, but for where the clock was set back: each such turn is a row of ``config_history_turns``.
  Between two turns an id is found by its time in some twenty steps, and there need be no index of times.
- A page looks through no more than ``LOOKED_THROUGH`` rows, and beyond its first entry holds no more than
  ``MAX_PAGE_BYTES`` of values. So it may be short.
"""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from sqlite_utils import Database

from setpoint_contracts import strictjson
from setpointd.auth import Principal
from setpointd.records import Document, HistoryFilter, KeyChange
from setpointd.store.known import Known
from setpointd.store.sql import Reading, Writing, may_match, stored_json

LOOKED_THROUGH = 5000
MAX_PAGE_BYTES = 256 * 1024
_ENTRY = (
    "id",
    "revision",
    "service",
    "version",
    "key",
    "op",
    "changed_at",
    "changed_by",
    "reason",
    "request_id",
)


class HistoryReads(Reading):
    """Reads of the history."""

    def page(self, wanted: HistoryFilter, limit: int, who: Principal) -> tuple[list[dict[str, Any]], int | None]:
        """The newest entries of services that somebody sees, as the wire has them (section 6).

        Also the id before which to read on; None at the end.
        """
        way, said = self._way(wanted)
        visible, globs = may_match("service", who.services)
        found = self._all(
            f"SELECT id, service FROM (SELECT id, service, key, changed_by, changed_at FROM {way} LIMIT :most)"  # noqa: S608
            " WHERE (:key IS NULL OR key = :key) AND (:user IS NULL OR changed_by = :user)"
            f" AND (:since IS NULL OR changed_at >= :since) AND (:until IS NULL OR changed_at < :until) AND {visible}",
            most=LOOKED_THROUGH,
            **said,
            **globs,
        )
        ids = [row["id"] for row in islice((row for row in found if who.sees(row["service"])), limit + 1)]
        entries = self._entries(ids[:limit])
        if len(entries) < len(ids):
            return entries, entries[-1]["id"]
        further = self._one(f"SELECT id FROM {way} LIMIT 1 OFFSET :most", most=LOOKED_THROUGH, **said)  # noqa: S608
        return entries, None if further is None else further["id"] + 1

    def _way(self, wanted: HistoryFilter) -> tuple[str, dict[str, Any]]:
        """The way on which entries are looked for, newest first, and the values that it names."""
        if wanted.service is not None:
            way = "INDEXED BY config_history_service WHERE service = :service"
        elif wanted.user is not None:
            way = "INDEXED BY config_history_user WHERE changed_by = :user"
        else:
            way = "NOT INDEXED WHERE true"
        newest = self._number("SELECT coalesce(max(id), 0) FROM config_history")
        low = 0 if wanted.since is None else self._from(wanted.since, newest)
        high = newest + 1 if wanted.until is None else self._upto(wanted.until, newest)
        said = asdict(wanted) | {"low": low, "high": high if wanted.before is None else min(high, wanted.before)}
        return f"config_history {way} AND id >= :low AND id < :high ORDER BY id DESC", said

    def _from(self, time: str, newest: int) -> int:
        """The id below which every entry is from before a time."""
        turns = "SELECT min(id) AS last FROM config_history_turns WHERE was >= :time"
        last = self._number(f"SELECT coalesce(last, :newest) FROM ({turns})", time=time, newest=newest)  # noqa: S608
        first = self._number("SELECT coalesce(max(id), 0) FROM config_history_turns WHERE id < :last", last=last)
        return self._first(first + 1, last, time)

    def _upto(self, time: str, newest: int) -> int:
        """The id from which on no entry is from before a time."""
        first = self._number("SELECT coalesce(max(id), 0) FROM config_history_turns WHERE became < :time", time=time)
        turns = "SELECT min(id) AS last FROM config_history_turns WHERE id > :first"
        last = self._number(f"SELECT coalesce(last, :newest) FROM ({turns})", first=first, newest=newest)  # noqa: S608
        return self._first(first + 1, last, time)

    def _first(self, low: int, last: int, time: str) -> int:
        """The first id of ``low`` to ``last``, between which there is no turn, that is not from before a time."""
        high = last + 1
        while low < high:
            middle = (low + high) // 2
            row = self._one(
                "SELECT id, changed_at FROM config_history WHERE id BETWEEN :middle AND :last ORDER BY id LIMIT 1",
                middle=middle,
                last=last,
            )
            if row is None or row["changed_at"] >= time:
                high = middle
            else:
                low = row["id"] + 1
        return low

    def _entries(self, ids: list[int]) -> list[dict[str, Any]]:
        rows = self._all(
            f"SELECT {', '.join(_ENTRY)}, old_json, new_json FROM config_history"  # noqa: S608
            " WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY id DESC",
            ids=strictjson.dumps(ids),
        )
        entries: list[dict[str, Any]] = []
        left = MAX_PAGE_BYTES
        for *head, old, new in rows:
            left -= len((old or "").encode()) + len((new or "").encode())
            if entries and left < 0:
                break
            entry = dict(zip(_ENTRY, head, strict=True))
            if old is not None:
                entry["old"] = stored_json(old)
            if new is not None:
                entry["new"] = stored_json(new)
            entries.append(entry)
        return entries


class HistoryWrites(HistoryReads, Writing):
    """Writes of the history."""

    def __init__(self, db: Database, known: Known) -> None:
        super().__init__(db)
        self._known = known

    def add(self, document: Document, changes: Sequence[KeyChange], reason: str | None) -> None:
        """Note which keys a version changed."""
        if not changes:
            return
        if self._known.changed_at is None or self._known.changed_at > self._known.stamp.at:
            self._do(
                "INSERT OR REPLACE INTO config_history_turns (id, was, became) SELECT id, changed_at, :at"
                " FROM config_history WHERE id = (SELECT max(id) FROM config_history) AND changed_at > :at",
                at=self._known.stamp.at,
            )
        self._known.changed_at = self._known.stamp.at
        self._do_many(
            "INSERT INTO config_history (revision, service, version, key, op, old_json, new_json, changed_at,"
            " changed_by, reason, request_id) VALUES (:revision, :service, :version, :key, :op, :old, :new, :at, :by,"
            " :reason, :request_id)",
            [
                {
                    "revision": document.revision,
                    "service": document.service,
                    "version": document.version,
                    "key": change.key,
                    "op": change.op,
                    "old": change.old,
                    "new": change.new,
                    "at": self._known.stamp.at,
                    "by": self._known.stamp.by,
                    "reason": reason,
                    "request_id": self._known.stamp.request_id,
                }
                for change in changes
            ],
        )
