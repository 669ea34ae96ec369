"""Who sent a command, and may they? Pure: everything that is looked at is passed in (wire sections 2, 3 and 6)."""

import re
from collections.abc import Collection, Iterable
from fnmatch import translate
from typing import Literal, NamedTuple

from setpoint_contracts import Code, Command, Permission, Role, Token
from setpoint_contracts.signing import VerifyingKey
from setpoint_contracts.timestamps import seconds
from setpointd.errors import Rejected


class Principal(NamedTuple):
    """The holder of one token. Times are POSIX seconds."""

    kid: str
    name: str
    role: Role
    services: tuple[str, ...] | None
    expires_at: float | None
    revoked_at: float | None
    scope: re.Pattern[str] | None

    def sees(self, service: str) -> bool:
        """Whether a service is in this principal's scope."""
        return self.scope is None or self.scope.fullmatch(service) is not None


class Keyring:
    """The tokens that the daemon knows, each with its key ready for use. It changes as they do."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._known: dict[str, tuple[VerifyingKey, Principal]] = {}
        for token in tokens:
            self.learn(token)

    def learn(self, token: Token) -> None:
        """Go by a token as it is now."""
        self._known[token.kid] = (VerifyingKey(token.alg, token.signing_key()), principal_of(token))

    def forget(self, kid: str) -> None:
        """Know a token no more, if it was known."""
        self._known.pop(kid, None)

    def find(self, kid: str) -> tuple[VerifyingKey, Principal] | None:
        """Return the key and the holder of a token; None when it is not known."""
        return self._known.get(kid)

    def key(self, kid: str) -> VerifyingKey:
        """Return the key of a token that is known."""
        return self._known[kid][0]


def principal_of(token: Token) -> Principal:
    """Return the holder of a token."""
    return Principal(
        kid=token.kid,
        name=token.name,
        role=token.role,
        services=token.services,
        expires_at=None if token.expires_at is None else seconds(token.expires_at),
        revoked_at=None if token.revoked_at is None else seconds(token.revoked_at),
        scope=None if token.services is None else re.compile("|".join(map(translate, token.services))),
    )


def check_token(who: Principal, now: float) -> None:
    """Refuse a token that was revoked or has run out (wire section 3, row 3)."""
    if who.revoked_at is not None:
        raise token_ended(who.kid, "revoked_at")
    if who.expires_at is not None and who.expires_at <= now:
        raise token_ended(who.kid, "expires_at")


def token_ended(kid: str, by: Literal["revoked_at", "expires_at"]) -> Rejected:
    """Say that a token does not count, and by which of its times."""
    if by == "revoked_at":
        return Rejected(Code.TOKEN_REVOKED, f"token {kid} was revoked; ask for a new one")
    return Rejected(Code.TOKEN_EXPIRED, f"token {kid} has expired; ask for a new one")


def authorise(who: Principal, command: Command) -> None:
    """Refuse a command that the role or the scope does not allow (wire section 3, row 13)."""
    for permission, service in command.asks():
        check_right(who, command.name, permission, service)


def check_right(who: Principal, command: str, permission: Permission, service: str | None) -> None:
    """Refuse what a principal may not do; a scope narrows every permission but that to manage (wire section 6)."""
    named = {} if service is None else {"service": service}
    if permission not in who.role.permissions:
        message = f"{command} needs {permission}, which role {who.role} does not have"
        raise Rejected(Code.FORBIDDEN, message, needs=permission, **named)
    if service is not None and permission is not Permission.MANAGE and not who.sees(service):
        message = f"token {who.kid} has {permission} for other services only, not for {service}"
        raise Rejected(Code.FORBIDDEN, message, needs=permission, service=service)


def check_rights(who: Principal, command: str, permission: Permission, services: Collection[str]) -> None:
    """Refuse what a principal may not do to every one of some services.

    It did not name them, so one that it does not see is not named to it either.
    """
    if services:
        check_right(who, command, permission, None)
    if not all(map(who.sees, services)):
        message = f"{command} would touch services for which token {who.kid} does not have {permission}"
        raise Rejected(Code.FORBIDDEN, message, needs=permission)
