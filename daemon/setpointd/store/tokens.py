"""The tokens that the daemon knows: ``api_tokens``."""

import contextlib
import sqlite3
from typing import Any, Literal

from sqlite_utils import Database
from typing_extensions import override

from setpoint_contracts import Token, strictjson
from setpoint_contracts.audit import Action
from setpointd.errors import UnreadableError
from setpointd.store.audit import AuditWrites
from setpointd.store.known import Known
from setpointd.store.sql import Reading, Writing, stored_json


class TokenReads(Reading):
    """Reads of tokens."""

    def all(self) -> list[dict[str, Any]]:
        """All tokens in the order of their making; ``key`` is sealed or public, ``services`` a list or None.

        One whose row cannot be read is left out: it is unknown then, and the others go on.
        """
        tokens = []
        for row in self._all("SELECT * FROM api_tokens ORDER BY created_at, kid"):
            with contextlib.suppress(UnreadableError):
                tokens.append(_token(row))
        return tokens

    def one(self, kid: str) -> dict[str, Any] | None:
        """One token, as in ``all``."""
        row = self._one("SELECT * FROM api_tokens WHERE kid = :kid", kid=kid)
        return None if row is None else _token(row)

    def changes(self) -> int:
        """How often a token was added, changed or removed, by whomever; a use is no change."""
        return self._number("SELECT count FROM token_changes")

    def ended(self, kid: str, at: str) -> Literal["revoked_at", "expires_at"] | None:
        """Why a token does not count at a time: the column that says so, ``revoked_at`` or ``expires_at``."""
        revoked_at, expires_at = self._ends(kid)
        if revoked_at is not None:
            return "revoked_at"
        return "expires_at" if expires_at is not None and expires_at <= at else None

    def _ends(self, kid: str) -> tuple[str | None, str | None]:
        row = self._one("SELECT revoked_at, expires_at FROM api_tokens WHERE kid = :kid", kid=kid)
        return (None, None) if row is None else (row[0], row[1])


class TokenWrites(TokenReads, Writing):
    """Writes of tokens."""

    def __init__(self, db: Database, known: Known, audit: AuditWrites) -> None:
        super().__init__(db)
        self._audit = audit
        self._known = known

    def add(self, token: Token, key: str) -> None:
        """Add a token; ``key`` is its sealed secret or its public JWK. sqlite3.IntegrityError when the kid is there."""
        self._insert(token, key)
        self._audit.record(Action.CREATE_TOKEN, kid=token.kid, name=token.name, role=token.role, alg=token.alg)

    def rotate(self, kid: str, successor: Token, key: str, ends_at: str) -> None:
        """Add the successor of a token, as ``add`` does; the old one ends at a time."""
        self._insert(successor, key)
        self._do(
            "UPDATE api_tokens SET expires_at = :ends_at WHERE kid = :kid",
            kid=kid,
            ends_at=ends_at,
        )
        self._audit.record(Action.ROTATE_TOKEN, kid=kid, name=successor.name, ends_at=ends_at, successor=successor.kid)

    @override
    def _ends(self, kid: str) -> tuple[str | None, str | None]:
        ends = self._known.ends.get(kid)
        if ends is None:
            ends = self._known.ends[kid] = super()._ends(kid)
        return ends

    def _insert(self, token: Token, key: str) -> None:
        self._known.ends.clear()
        self._do(
            "INSERT INTO api_tokens (kid, name, role, services_json, alg, key, created_at, created_by, expires_at)"
            " VALUES (:kid, :name, :role, :services, :alg, :key, :at, :by, :expires_at)",
            kid=token.kid,
            name=token.name,
            role=token.role,
            services=None if token.services is None else strictjson.dumps(token.services),
            alg=token.alg,
            key=key,
            at=self._known.stamp.at,
            by=self._known.stamp.by,
            expires_at=token.expires_at,
        )

    def revoke(self, kid: str) -> bool:
        """Revoke a token; whether there was one that was not revoked yet."""
        self._known.ends.clear()
        revoked = self._do(
            "UPDATE api_tokens SET revoked_at = :at WHERE kid = :kid AND revoked_at IS NULL",
            kid=kid,
            at=self._known.stamp.at,
        )
        if revoked:
            self._audit.record(Action.REVOKE_TOKEN, kid=kid)
        return bool(revoked)

    def note_use(self, last_used: dict[str, str]) -> None:
        """Note when tokens were last used: kid → timestamp."""
        self._do_many(
            "UPDATE api_tokens SET last_used_at = :at WHERE kid = :kid",
            [{"kid": kid, "at": at} for kid, at in last_used.items()],
        )


def _token(row: sqlite3.Row) -> dict[str, Any]:
    token = dict(row)
    services = token.pop("services_json")
    return {**token, "services": None if services is None else stored_json(services)}
