"""Every SQL statement that reads a running store, in methods named for what they mean."""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlite_utils import Database

from setpointd.errors import StoreError
from setpointd.records import HEAD, Claim, Document, OutboxRow


class Snapshot:
    """Reads of one state of the store."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def _one(self, sql: str, **values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.conn.execute(sql, values).fetchone()
        return row

    def _all(self, sql: str, **values: Any) -> sqlite3.Cursor:
        return self._db.conn.execute(sql, values)

    def claim(self) -> Claim:
        """Whose store this is, its epoch and revision."""
        row = self._one("SELECT store_id, epoch, revision, instance FROM config_epoch")
        if row is None:
            raise StoreError("the store has lost its identity")
        return Claim(*row)

    def current(self, service: str) -> Document | None:
        """The newest version of a service; None when there never was one."""
        return self._document(
            "SELECT v.* FROM config_state s JOIN config_versions v ON v.service = s.service AND v.version = s.version"
            " WHERE s.service = :service",
            service=service,
        )

    def at_version(self, service: str, version: int) -> Document | None:
        """One version of a service."""
        return self._document(
            "SELECT * FROM config_versions WHERE service = :service AND version = :version",
            service=service,
            version=version,
        )

    def at_revision(self, service: str, revision: int) -> Document | None:
        """The newest version of a service made at or before a revision."""
        return self._document(
            "SELECT * FROM config_versions WHERE service = :service AND revision <= :revision"
            " ORDER BY version DESC LIMIT 1",
            service=service,
            revision=revision,
        )

    def at_time(self, service: str, time: str) -> Document | None:
        """The newest version of a service made at or before a time."""
        return self._document(
            "SELECT * FROM config_versions WHERE service = :service AND updated_at <= :time"
            " ORDER BY version DESC LIMIT 1",
            service=service,
            time=time,
        )

    def _document(self, sql: str, **values: Any) -> Document | None:
        row = self._one(sql, **values)
        if row is None:
            return None
        config = None if row["config_json"] is None else json.loads(row["config_json"])
        return _document(row, config)

    def services(self, prefix: str = "", after: str | None = None) -> Iterator[tuple[Document, int]]:
        """Living services in the order of their names, without their config, each with its number of keys."""
        rows = self._all(
            "SELECT v.service, v.version, v.revision, v.epoch, v.updated_at, v.updated_by,"
            " (SELECT count(*) FROM config_kv k WHERE k.service = s.service) AS keys"
            " FROM config_state s JOIN config_versions v ON v.service = s.service AND v.version = s.version"
            " WHERE s.deleted = 0 AND s.service > :after AND substr(s.service, 1, :length) = :prefix"
            " ORDER BY s.service",
            after=after or "",
            prefix=prefix,
            length=len(prefix),
        )
        for row in rows:
            yield _document(row, None), row["keys"]

    def documents(self) -> Iterator[Document]:
        """Every living service with its config."""
        for row in self._all(
            "SELECT v.* FROM config_state s JOIN config_versions v ON v.service = s.service AND v.version = s.version"
            " WHERE s.deleted = 0",
        ):
            yield _document(row, json.loads(row["config_json"]))

    def count_services(self) -> int:
        """How many services live."""
        return self._count("SELECT count(*) FROM config_state WHERE deleted = 0")

    def store_bytes(self) -> int:
        """The size of the database in bytes, without its write-ahead log."""
        return self._count("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")

    def _count(self, sql: str) -> int:
        row = self._one(sql)
        return 0 if row is None else int(row[0])

    def stored_reply(self, kid: str, jti: str) -> tuple[bytes, bytes] | None:
        """The digest of a command that ran, and the reply that it got."""
        row = self._one("SELECT digest, reply FROM command_log WHERE kid = :kid AND jti = :jti", kid=kid, jti=jti)
        return None if row is None else (row["digest"], row["reply"])

    def tokens(self) -> list[dict[str, Any]]:
        """All tokens in the order of their making; ``key`` is sealed or public, ``services`` a list or None."""
        rows = self._all("SELECT * FROM api_tokens ORDER BY created_at, kid")
        return [_token(row) for row in rows]

    def outbox(self, limit: int) -> list[OutboxRow]:
        """The oldest rows that wait to be published; updates go before audit events, which may be many."""
        rows = self._all("SELECT id, kind, ref FROM outbox ORDER BY kind DESC, id LIMIT :limit", limit=limit)
        return [OutboxRow(*row) for row in rows]

    def outbox_pending(self) -> int:
        """How many rows wait to be published."""
        return self._count("SELECT count(*) FROM outbox")

    def audit_event(self, event_id: str) -> dict[str, Any] | None:
        """One audit event as the wire has it (section 6)."""
        row = self._one("SELECT * FROM audit_log WHERE id = :id", id=event_id)
        if row is None:
            return None
        optional = ("service", "request_id", "revision")
        return {
            "action": row["action"],
            "user": row["user"],
            "timestamp": row["timestamp"],
            **{field: row[field] for field in optional if row[field] is not None},
            "details": json.loads(row["details_json"]),
        }


def _document(row: sqlite3.Row, config: dict[str, Any] | None) -> Document:
    return Document(**{field: row[field] for field in HEAD}, config=config)


def _token(row: sqlite3.Row) -> dict[str, Any]:
    token = dict(row)
    services = token.pop("services_json")
    return {**token, "services": None if services is None else json.loads(services)}
