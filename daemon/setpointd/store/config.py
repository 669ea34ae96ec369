"""Configs: the newest state (``config_state``), its keys (``config_kv``) and every version (``config_versions``).

A config moves from one version to the next only by an UPDATE that names the version it moves from.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlite_utils import Database

from setpoint_contracts import strictjson
from setpoint_contracts.audit import Action
from setpoint_contracts.redaction import MEMBER
from setpointd.errors import HistoryPruned, UnreadableError, VersionConflict
from setpointd.records import HEAD, Document, KeyChange, Pruned
from setpointd.store.audit import AuditWrites
from setpointd.store.history import HistoryWrites
from setpointd.store.identity import IdentityWrites
from setpointd.store.keys_changed import key_changes
from setpointd.store.known import Known
from setpointd.store.outbox import OutboxWrites
from setpointd.store.secret_values import SecretWrites
from setpointd.store.sql import Reading, Writing, stored_json

_DOCUMENT = ", ".join(f"v.{column}" for column in (*HEAD, "config_json"))
_CURRENT = "config_state s JOIN config_versions v ON v.service = s.service AND v.version = s.version"


class ConfigReads(Reading):
    """Reads of configs."""

    def current(self, service: str) -> Document | None:
        """The newest version of a service; None when there never was one."""
        return self._document(
            f"SELECT {_DOCUMENT} FROM config_versions v WHERE service = :service ORDER BY version DESC LIMIT 1",  # noqa: S608
            service=service,
        )

    def newest(self, service: str) -> int | None:
        """The number of the newest version of a service; None when there never was one."""
        row = self._one("SELECT version FROM config_state WHERE service = :service", service=service)
        return None if row is None else int(row[0])

    def at_version(self, service: str, version: int) -> Document | None:
        """One version of a service. ``HistoryPruned``: it may have been removed."""
        document = self._document(
            f"SELECT {_DOCUMENT} FROM config_versions v WHERE service = :service AND version = :version",  # noqa: S608
            service=service,
            version=version,
        )
        if document is None and (pruned := self.pruned(service)) and version <= pruned.version:
            raise HistoryPruned(service, pruned.version, f" at version {version}")
        return document

    def at_revision(self, service: str, revision: int) -> Document | None:
        """The newest version of a service made at or before a revision. ``HistoryPruned``: it is not known any more."""
        document = self._document(
            f"SELECT {_DOCUMENT} FROM config_versions v WHERE service = :service AND revision <= :revision"  # noqa: S608
            " ORDER BY version DESC LIMIT 1",
            service=service,
            revision=revision,
        )
        if (pruned := self._gap(service, document)) and revision >= pruned.first_revision:
            raise HistoryPruned(service, pruned.version, f" at revision {revision}")
        return document

    def at_time(self, service: str, time: str) -> Document | None:
        """The newest version of a service made at or before a time. ``HistoryPruned``: it is not known any more."""
        document = self._document(
            f"SELECT {_DOCUMENT} FROM config_versions v WHERE service = :service AND updated_at <= :time"  # noqa: S608
            " ORDER BY version DESC LIMIT 1",
            service=service,
            time=time,
        )
        if (pruned := self._gap(service, document)) and time >= pruned.first_at:
            raise HistoryPruned(service, pruned.version, f" at {time}")
        return document

    def pruned(self, service: str) -> Pruned | None:
        """What was removed from the history of a service; None when nothing was."""
        row = self._one(
            "SELECT version, revision, first_revision, first_at, pruned_at FROM config_pruned WHERE service = :service",
            service=service,
        )
        return None if row is None else Pruned(*row)

    def _gap(self, service: str, found: Document | None) -> Pruned | None:
        """What was removed behind a version that was found, and may have been the one that was looked for."""
        pruned = self.pruned(service)
        return pruned if pruned is not None and (found is None or found.version < pruned.version) else None

    def versions_of(self, service: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The newest versions of a service below another, without their configs, as the wire has them (section 6)."""
        rows = self._all(
            "SELECT version, revision, updated_at, updated_by, reason, request_id, config_json IS NULL AS deleted"
            " FROM config_versions WHERE service = :service AND (:before IS NULL OR version < :before)"
            " ORDER BY version DESC LIMIT :limit",
            service=service,
            before=before,
            limit=limit,
        )
        versions = []
        for row in rows:
            version = dict(row)
            gone = version.pop("deleted")
            versions.append({**version, "deleted": True} if gone else version)
        return versions

    def _document(self, sql: str, **values: Any) -> Document | None:
        row = self._one(sql, **values)
        return None if row is None else _document(row)

    def services(self, prefix: str = "", after: str | None = None) -> Iterator[tuple[Document, int]]:
        """Living services in the order of their names, without their config, each with its number of keys."""
        rows = self._all(
            "SELECT v.service, v.version, v.revision, v.epoch, v.updated_at, v.updated_by, NULL AS config_json,"  # noqa: S608
            " (SELECT count(*) FROM config_kv k WHERE k.service = s.service) AS keys"
            f" FROM {_CURRENT} WHERE s.deleted = 0 AND s.service > :after AND substr(s.service, 1, :length) = :prefix"
            " ORDER BY s.service",
            after=after or "",
            prefix=prefix,
            length=len(prefix),
        )
        for row in rows:
            yield _document(row), row["keys"]

    def versions(self) -> dict[str, int]:
        """The living services in the order of their names, each with its newest version."""
        return dict(
            self._all("SELECT service, version FROM config_state WHERE deleted = 0 ORDER BY service").fetchall()
        )

    def names(self) -> list[str]:
        """The names of all services, the deleted ones too."""
        return [row["service"] for row in self._all("SELECT service FROM config_state ORDER BY service")]

    def changed_since(self, revision: int | None, time: str | None) -> set[str]:
        """The services whose newest version was made after a revision, or after a time."""
        rows = self._all(
            "SELECT service FROM config_state WHERE revision > :revision OR updated_at > :time",
            revision=revision,
            time=time,
        )
        return {row["service"] for row in rows}

    def all(self) -> Iterator[Document]:
        """The newest version of every service, tombstones included."""
        return map(_document, self._all(f"SELECT {_DOCUMENT} FROM {_CURRENT} ORDER BY s.service"))  # noqa: S608

    def retained(self) -> Iterator[Document]:
        """What stands retained on the broker: every service but the deleted ones whose tombstone was cleared.

        What cannot be read is left out: it must not keep the others from the broker.
        """
        for row in self._all(f"SELECT {_DOCUMENT} FROM {_CURRENT} WHERE s.cleared = 0"):  # noqa: S608
            try:
                document = _document(row)
            except UnreadableError:
                continue
            yield document

    def to_publish(self, service: str) -> Document | None:
        """What is to be retained of a service; None when nothing is."""
        return self._document(
            f"SELECT {_DOCUMENT} FROM {_CURRENT} WHERE s.service = :service AND s.cleared = 0",  # noqa: S608
            service=service,
        )

    def count(self) -> int:
        """How many services live."""
        return self._number("SELECT count(*) FROM config_state WHERE deleted = 0")


class ConfigWrites(ConfigReads, Writing):
    """Writes of configs. ``revision`` is that of the job's writes, None before the first.

    ``check_update`` refuses a new version whose update document nobody could be sent, by raising.
    """

    def __init__(
        self,
        db: Database,
        known: Known,
        identity: IdentityWrites,
        history: HistoryWrites,
        secrets: SecretWrites,
        audit: AuditWrites,
        outbox: OutboxWrites,
    ) -> None:
        super().__init__(db)
        self.next_job()
        self._known = known
        self._identity = identity
        self._history = history
        self._secrets = secrets
        self._audit = audit
        self._outbox = outbox

    def next_job(self) -> None:
        """Begin a job: it has no revision yet, and nothing is refused for its size until somebody says so."""
        self.revision: int | None = None
        self.check_update: Callable[[Document, int], None] = lambda _document, _config_bytes: None

    def write_version(
        self,
        service: str,
        base: Document | None,
        config: dict[str, Any] | None,
        *,
        op: str,
        reason: str | None,
        action: Action | None = None,
        text: str | None = None,
        changed: list[str] | None = None,
        **details: Any,
    ) -> Document:
        """Make the next version of a service; ``config`` None makes a tombstone.

        ``base`` is the version that this one follows, None for a service that never was. Writes state, keys, version,
        history, audit event and outbox rows; ``action`` None is that of writing, or of deleting, and ``details`` stand
        in the event. Who has them at hand gives ``config`` as JSON, and the top-level keys that ``changed``. Raises
        ``VersionConflict`` when the service is not at ``base`` any more.
        """
        changes = key_changes((base and base.config) or {}, config or {}, changed)
        document = self._put(service, base, config, changes, op=op, reason=reason, text=text)
        self._audit.record(
            action or (Action.DELETE_CONFIG if document.deleted else Action.UPDATE_CONFIG),
            service=service,
            revision=document.revision,
            version=document.version,
            op=op,
            keys=[change.key for change in changes],
            **({"reason": reason} if reason else {}),
            **details,
        )
        return document

    def advance(self, service: str, base: Document | None, above: int) -> Document:
        """Make a version of what a service holds, numbered above another; without ``base``, a tombstone (wire §7).

        It is made whatever its size: what stands in the store must not hold up the decision which store counts.
        The revision must have been taken by ``IdentityWrites.advance`` before.
        """
        self.revision = self._identity.now().revision
        return self.renew(service, base, op="advance", above=above)

    def renew(self, service: str, base: Document | None, *, op: str, above: int = 0) -> Document:
        """Make a version of what a service holds already, whatever its size; it has no history and no event."""
        config = None if base is None else base.config
        return self._put(service, base, config, [], op=op, reason=None, above=above)

    def _put(
        self,
        service: str,
        base: Document | None,
        config: dict[str, Any] | None,
        changes: list[KeyChange],
        *,
        op: str,
        reason: str | None,
        text: str | None = None,
        above: int | None = None,
    ) -> Document:
        """Write all that a version is made of. With ``above`` it is none of a change, and not held against a size."""
        document = Document(
            service=service,
            version=max(0 if base is None else base.version, above or 0) + 1,
            revision=self.take_revision(),
            epoch=self._identity.now().epoch,
            updated_at=self._known.stamp.at,
            updated_by=self._known.stamp.by,
            config=config,
        )
        if text is None and config is not None:
            text = strictjson.dumps(config)
        if text is not None and above is None:
            self.check_update(document, len(text.encode()))
        self._move_state(document, base)
        self._insert_version(document, text, op, reason)
        self._write_keys(document, changes)
        if text is not None and f'"{MEMBER}"' in text:
            self._secrets.named(service, document.version, text)
        self._history.add(document, changes, reason)
        self.announce(service)
        return document

    def take_revision(self) -> int:
        """Return the revision of the job's writes, taken when it is first asked for."""
        if self.revision is None:
            self.revision = self._identity.next_revision()
        return self.revision

    def announce(self, service: str) -> None:
        """Have the state of a service published (or its topic cleared, when nothing of it is to be retained)."""
        self._outbox.add_document("updated", service)

    def clear_tombstones(self, before: str, limit: int) -> int:
        """Have the topics of services that were deleted before a time cleared, some at a time; how many."""
        cleared = self._all(
            "UPDATE config_state SET cleared = 1 WHERE service IN (SELECT service FROM config_state"
            " WHERE deleted = 1 AND cleared = 0 AND updated_at < :before LIMIT :limit) RETURNING service",
            before=before,
            limit=limit,
        ).fetchall()
        for row in cleared:
            self.announce(row["service"])
        return len(cleared)

    def _move_state(self, document: Document, base: Document | None) -> None:
        values = {
            "service": document.service,
            "version": document.version,
            "revision": document.revision,
            "deleted": int(document.deleted),
            "at": document.updated_at,
            "by": document.updated_by,
        }
        if base is None:
            moved = self._do(
                "INSERT INTO config_state (service, version, revision, deleted, updated_at, updated_by)"
                " VALUES (:service, :version, :revision, :deleted, :at, :by) ON CONFLICT (service) DO NOTHING",
                **values,
            )
        else:
            moved = self._do(
                "UPDATE config_state SET version = :version, revision = :revision, deleted = :deleted, cleared = 0,"
                " updated_at = :at, updated_by = :by WHERE service = :service AND version = :base",
                **values,
                base=base.version,
            )
        if moved != 1:
            raise VersionConflict(document.service, base.version if base else 0, self.current(document.service))

    def _insert_version(self, document: Document, config: str | None, op: str, reason: str | None) -> None:
        self._do(
            "INSERT INTO config_versions (service, version, revision, epoch, config_json, op, reason, updated_at,"
            " updated_by, request_id) VALUES (:service, :version, :revision, :epoch, :config, :op, :reason, :at, :by,"
            " :request_id)",
            service=document.service,
            version=document.version,
            revision=document.revision,
            epoch=document.epoch,
            config=config,
            op=op,
            reason=reason,
            at=self._known.stamp.at,
            by=self._known.stamp.by,
            request_id=self._known.stamp.request_id,
        )

    def _write_keys(self, document: Document, changes: Iterable[KeyChange]) -> None:
        rows = [{"service": document.service, "key": change.key, "value": change.new} for change in changes]
        self._do_many(
            "INSERT INTO config_kv (service, key, value_json) VALUES (:service, :key, :value)"
            " ON CONFLICT (service, key) DO UPDATE SET value_json = excluded.value_json",
            [row for row in rows if row["value"] is not None],
        )
        gone = [row for row in rows if row["value"] is None]
        if gone:
            self._do_many("DELETE FROM config_kv WHERE service = :service AND key = :key", gone)


def _document(row: sqlite3.Row) -> Document:
    """Make a document of a row that begins with the columns of ``_DOCUMENT``."""
    service, version, revision, epoch, updated_at, updated_by, text = row[:7]
    config = None if text is None else stored_json(text)
    return Document(service, version, revision, epoch, updated_at, updated_by, config)
