"""Every SQL statement that writes to a running store, in methods named for what they mean.

Rules:

- A method that writes state writes what belongs to it: version, history, keys, audit event and outbox rows. No caller
  can forget one.
- A config moves from one version to the next only by an UPDATE that names the version it moves from.
- Values come from outside: no clock, no random numbers here.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from sqlite_utils import Database

from setpoint_contracts import Token, strictjson
from setpoint_contracts.audit import Action
from setpointd.difference import key_changes
from setpointd.errors import VersionConflict
from setpointd.records import Claim, Document, KeyChange, Stamp
from setpointd.snapshot import Snapshot


class Tx(Snapshot):
    """One job's reads and writes. All its writes of config share one revision."""

    def __init__(self, db: Database, stamp: Stamp) -> None:
        super().__init__(db)
        self.stamp = stamp
        self._revision: int | None = None

    def savepoint(self) -> AbstractContextManager[Database]:
        """A part of the job that is undone when it raises."""
        return self._db.atomic()

    def _do(self, sql: str, **values: Any) -> int:
        return self._db.conn.execute(sql, values).rowcount

    def advance_revision(self) -> int:
        """The revision of this job's writes: the next one, taken at the first call."""
        if self._revision is None:
            row = self._one("UPDATE config_epoch SET revision = revision + 1 RETURNING revision")
            self._revision = row["revision"] if row else 0
        return self._revision

    # Config

    def write_version(
        self,
        service: str,
        base: Document | None,
        config: dict[str, Any] | None,
        *,
        op: str,
        reason: str | None,
    ) -> Document:
        """Make the next version of a service; ``config`` None makes a tombstone.

        ``base`` is the version that this one follows, None for a service that never was. Writes state, keys, version,
        history, audit event and outbox rows. Raises ``VersionConflict`` when the service is not at ``base`` any more.
        """
        claim = self.claim()
        document = Document(
            service=service,
            version=1 if base is None else base.version + 1,
            revision=self.advance_revision(),
            epoch=claim.epoch,
            updated_at=self.stamp.at,
            updated_by=self.stamp.by,
            config=config,
        )
        self._move_state(document, base)
        self._insert_version(document, op, reason)
        changes = key_changes((base and base.config) or {}, config or {})
        self._write_keys(document, changes)
        self._insert_history(document, changes, reason)
        self.announce(service)
        self.audit(
            Action.DELETE_CONFIG if document.deleted else Action.UPDATE_CONFIG,
            service=service,
            revision=document.revision,
            version=document.version,
            op=op,
            keys=[change.key for change in changes],
            **({"reason": reason} if reason else {}),
        )
        return document

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
                "UPDATE config_state SET version = :version, revision = :revision, deleted = :deleted,"
                " updated_at = :at, updated_by = :by WHERE service = :service AND version = :base",
                **values,
                base=base.version,
            )
        if moved != 1:
            raise VersionConflict(document.service, base.version if base else 0, self.current(document.service))

    def _insert_version(self, document: Document, op: str, reason: str | None) -> None:
        self._do(
            "INSERT INTO config_versions (service, version, revision, epoch, config_json, op, reason, updated_at,"
            " updated_by, request_id) VALUES (:service, :version, :revision, :epoch, :config, :op, :reason, :at, :by,"
            " :request_id)",
            service=document.service,
            version=document.version,
            revision=document.revision,
            epoch=document.epoch,
            config=None if document.config is None else strictjson.dumps(document.config),
            op=op,
            reason=reason,
            at=self.stamp.at,
            by=self.stamp.by,
            request_id=self.stamp.request_id,
        )

    def _write_keys(self, document: Document, changes: Iterable[KeyChange]) -> None:
        for change in changes:
            if change.new is None:
                self._do(
                    "DELETE FROM config_kv WHERE service = :service AND key = :key",
                    service=document.service,
                    key=change.key,
                )
            else:
                self._do(
                    "INSERT INTO config_kv (service, key, value_json) VALUES (:service, :key, :value)"
                    " ON CONFLICT (service, key) DO UPDATE SET value_json = excluded.value_json",
                    service=document.service,
                    key=change.key,
                    value=change.new,
                )

    def _insert_history(self, document: Document, changes: Iterable[KeyChange], reason: str | None) -> None:
        self._db.conn.executemany(
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
                    "at": self.stamp.at,
                    "by": self.stamp.by,
                    "reason": reason,
                    "request_id": self.stamp.request_id,
                }
                for change in changes
            ],
        )

    # Outbox, audit, stored replies

    def announce(self, service: str) -> None:
        """Have the current state of a service published (or cleared, when it does not live)."""
        self._enqueue("updated", service)

    def audit(self, action: Action, *, service: str | None = None, revision: int | None = None, **details: Any) -> None:
        """Record an event and have it published. ``details`` must hold no config value and no secret."""
        row = self._one(
            "INSERT INTO audit_log (action, user, service, timestamp, request_id, revision, details_json)"
            " VALUES (:action, :user, :service, :at, :request_id, :revision, :details) RETURNING id",
            action=action,
            user=self.stamp.by,
            service=service,
            at=self.stamp.at,
            request_id=self.stamp.request_id,
            revision=revision,
            details=strictjson.dumps(details),
        )
        if row is not None:
            self._enqueue("audit", str(row["id"]))

    def _enqueue(self, kind: str, ref: str) -> None:
        self._do("INSERT INTO outbox (kind, ref) VALUES (:kind, :ref)", kind=kind, ref=ref)

    def published(self, ids: Iterable[int]) -> None:
        """Take rows out of the outbox: the broker has confirmed them, or newer ones stand for them."""
        self._db.conn.executemany("DELETE FROM outbox WHERE id = :id", [{"id": row} for row in ids])

    def store_reply(self, kid: str, jti: str, digest: bytes, reply: bytes, expires_at: str) -> None:
        """Keep the reply of a command that ran, until it cannot be repeated any more."""
        self._do(
            "INSERT INTO command_log (kid, jti, digest, reply, expires_at)"
            " VALUES (:kid, :jti, :digest, :reply, :expires_at)",
            kid=kid,
            jti=jti,
            digest=digest,
            reply=reply,
            expires_at=expires_at,
        )

    def forget_replies(self) -> int:
        """Drop the stored replies that have run out; how many."""
        return self._do("DELETE FROM command_log WHERE expires_at < :now", now=self.stamp.at)

    # Identity and tokens

    def found(self, store_id: str) -> None:
        """Make this a store: once, when it is new."""
        self._do(
            "INSERT INTO config_epoch (store_id, epoch, revision, instance) VALUES (:store_id, 0, 0, NULL)",
            store_id=store_id,
        )

    def take_over(self, instance: str) -> Claim:
        """Begin a new epoch as its writer."""
        self._do("UPDATE config_epoch SET epoch = epoch + 1, instance = :instance", instance=instance)
        return self.claim()

    def remember(self, instance: str) -> Claim:
        """Note which daemon runs on this store, without making it the writer."""
        self._do("UPDATE config_epoch SET instance = :instance", instance=instance)
        return self.claim()

    def add_token(self, token: Token, key: str) -> None:
        """Add a token; ``key`` is its sealed secret or its public JWK. sqlite3.IntegrityError when the kid is there."""
        self._do(
            "INSERT INTO api_tokens (kid, name, role, services_json, alg, key, created_at, created_by, expires_at)"
            " VALUES (:kid, :name, :role, :services, :alg, :key, :at, :by, :expires_at)",
            kid=token.kid,
            name=token.name,
            role=token.role,
            services=None if token.services is None else strictjson.dumps(token.services),
            alg=token.alg,
            key=key,
            at=self.stamp.at,
            by=self.stamp.by,
            expires_at=token.expires_at,
        )
        self.audit(Action.CREATE_TOKEN, kid=token.kid, name=token.name, role=token.role, alg=token.alg)

    def revoke_token(self, kid: str) -> bool:
        """Revoke a token; whether there was one that was not revoked yet."""
        revoked = self._do(
            "UPDATE api_tokens SET revoked_at = :at WHERE kid = :kid AND revoked_at IS NULL",
            kid=kid,
            at=self.stamp.at,
        )
        if revoked:
            self.audit(Action.REVOKE_TOKEN, kid=kid)
        return bool(revoked)

    def tokens_used(self, last_used: dict[str, str]) -> None:
        """Note when tokens were last used: kid → timestamp."""
        self._db.conn.executemany(
            "UPDATE api_tokens SET last_used_at = :at WHERE kid = :kid",
            [{"kid": kid, "at": at} for kid, at in last_used.items()],
        )
