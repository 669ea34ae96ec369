"""Every change of a top-level key: ``config_history``."""

from collections.abc import Iterable

from sqlite_utils import Database

from setpointd.records import Document, KeyChange, Stamp
from setpointd.store.sql import Writing


class HistoryWrites(Writing):
    """Writes of the history; its reads come with their command."""

    def __init__(self, db: Database, stamp: Stamp) -> None:
        super().__init__(db)
        self._stamp = stamp

    def add(self, document: Document, changes: Iterable[KeyChange], reason: str | None) -> None:
        """Note which keys a version changed."""
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
                    "at": self._stamp.at,
                    "by": self._stamp.by,
                    "reason": reason,
                    "request_id": self._stamp.request_id,
                }
                for change in changes
            ],
        )
