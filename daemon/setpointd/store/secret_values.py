"""Secret values, sealed: ``config_secrets``, by service and tag.

Rules:

- Wherever a config stands in the store, a secret in it is ``{"$secret": tag}``; its value is here, and nowhere else.
- ``last_version`` is the newest version that names it: once that and all before it are gone, nobody needs the value.
  So as long as a profile keeps an old version, no later value goes either.
- What is found to be secret later is rewritten wherever it stands, in one transaction. SQLite overwrites what becomes
  free by that (``secure_delete``), and the engine empties the write-ahead log behind it (``Tx.scrubs``).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from setpoint_contracts import strictjson
from setpoint_contracts.redaction import secrets_in
from setpointd.records import SealedValue
from setpointd.store.sql import Reading, Writing, stored_json

_PORTION = 256


class SecretReads(Reading):
    """Reads of sealed values."""

    def find(self, service: str, tag: str) -> SealedValue | None:
        """The value of a secret; None when there is none of that tag."""
        row = self._one(
            "SELECT digest, sealed FROM config_secrets WHERE service = :service AND tag = :tag",
            service=service,
            tag=tag,
        )
        return None if row is None else SealedValue(*row)


class SecretWrites(SecretReads, Writing):
    """Writes of sealed values, and of the places where they stood in clear."""

    def add(self, service: str, values: Mapping[str, SealedValue]) -> None:
        """Keep values by their tags, which are new; a version that names them is still to be written."""
        self._do_many(
            "INSERT INTO config_secrets (service, tag, digest, sealed, last_version)"
            " VALUES (:service, :tag, :digest, :sealed, 0)",
            [{"service": service, "tag": tag, **asdict(value)} for tag, value in values.items()],
        )

    def named(self, service: str, version: int, config_json: str) -> None:
        """Note which secrets a version names."""
        self._do_many(
            "UPDATE config_secrets SET last_version = max(last_version, :version)"
            " WHERE service = :service AND tag = :tag",
            [{"service": service, "version": version, "tag": tag} for tag in secrets_in(config_json)],
        )

    def rewrite_versions(self, service: str, change: Callable[[Any], Any]) -> None:
        """Change the configs of all versions of a service."""
        sql = (
            "SELECT version, config_json FROM config_versions WHERE service = :service AND version > :after"
            " AND config_json IS NOT NULL ORDER BY version LIMIT :limit"
        )
        for version, text in self._portions(sql, service):
            before = stored_json(text)
            config = change(before)
            if config != before:
                now = strictjson.dumps(config)
                self._do(
                    "UPDATE config_versions SET config_json = :config WHERE service = :service AND version = :version",
                    service=service,
                    version=version,
                    config=now,
                )
                self.named(service, version, now)

    def rewrite_keys(self, service: str, change: Callable[[str, Any], Any]) -> None:
        """Change the values of a service's keys, those of now and those of the history."""

        def changed(key: str, text: str | None) -> str | None:
            return None if text is None else strictjson.canonical(change(key, stored_json(text)))

        for key, text in self._all("SELECT key, value_json FROM config_kv WHERE service = :s", s=service).fetchall():
            value = changed(key, text)
            if value != text:
                self._do(
                    "UPDATE config_kv SET value_json = :value WHERE service = :service AND key = :key",
                    service=service,
                    key=key,
                    value=value,
                )
        sql = (
            "SELECT id, key, old_json, new_json FROM config_history WHERE service = :service AND id > :after"
            " ORDER BY id LIMIT :limit"
        )
        for entry, key, old, new in self._portions(sql, service):
            was, became = changed(key, old), changed(key, new)
            if (was, became) != (old, new):
                self._do(
                    "UPDATE config_history SET old_json = :old, new_json = :new WHERE id = :id",
                    id=entry,
                    old=was,
                    new=became,
                )

    def rewrite_replies(self, service: str, change: Callable[[Any], Any]) -> None:
        """Change the stored replies that speak of a service."""
        sql = (
            "SELECT rowid, reply FROM command_log WHERE rowid > :after AND instr(reply, :service)"
            " ORDER BY rowid LIMIT :limit"
        )
        for row, payload in self._portions(sql, strictjson.dumps(service).encode()):
            before = stored_json(payload.decode())
            reply = change(before)
            if reply != before:
                self._do(
                    "UPDATE command_log SET reply = :reply WHERE rowid = :row",
                    row=row,
                    reply=strictjson.dumps(reply).encode(),
                )

    def _portions(self, sql: str, service: str | bytes) -> Iterator[Any]:
        """Go through rows whose first column orders them, some at a time: they are changed meanwhile."""
        after = 0
        while rows := self._all(sql, service=service, after=after, limit=_PORTION).fetchall():
            yield from rows
            after = rows[-1][0]
