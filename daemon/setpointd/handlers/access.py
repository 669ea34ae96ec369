"""Commands on tokens (wire sections 2 and 6)."""

from typing import Any

from setpoint_contracts import Code, Role, Token
from setpoint_contracts.access import PublicJwk, TokenCreate, TokenInfo, TokenList, TokenRevoke, TokenRotate
from setpoint_contracts.sealing import TOKEN_INFO
from setpoint_contracts.timestamps import rfc3339, seconds
from setpointd.call import Call
from setpointd.errors import BadRequest, Rejected
from setpointd.keys import holder
from setpointd.render import Result
from setpointd.store import Snapshot, Tx

Row = dict[str, Any]

ADMIN_LEFT_S = 3600
"""For how long there must be an admin token beside one that is revoked, unless that one ends before, in seconds."""


def list_tokens(snapshot: Snapshot, _call: Call, _command: TokenList) -> Result:
    """List all tokens, without their keys."""
    return Result(tokens=[_info(row) for row in snapshot.tokens.all()])


def create(tx: Tx, call: Call, command: TokenCreate) -> Result:
    """Make a token."""
    expires_at = None if command.ttl_s is None else rfc3339(call.now + command.ttl_s)
    about = {
        "name": command.principal,
        "role": command.role,
        "services": command.services,
        "expires_at": expires_at,
    }
    token = _make(call, command.public_jwk, about)
    sealed = _sealed(call, token, "alg")
    _check_new(tx, call, token)
    tx.tokens.add(token, call.seal(token))
    row = _known(tx, token.kid)
    call.learn(row)
    return Result(**_info(row), **sealed)


def revoke(tx: Tx, call: Call, command: TokenRevoke) -> Result:
    """Revoke a token; one that is revoked stays as it is."""
    row = _known(tx, command.kid)
    if row["revoked_at"] is None:
        _check_admin_left(tx, call, row)
        tx.tokens.revoke(command.kid)
        row = _known(tx, command.kid)
        call.learn(row)
    return Result(**_info(row))


def rotate(tx: Tx, call: Call, command: TokenRotate) -> Result:
    """Make a token like another, which ends after a while."""
    old = _known(tx, command.kid)
    if by := tx.tokens.ended(command.kid, call.at):
        how, kind = {"revoked_at": ("was revoked", "revoked"), "expires_at": ("has expired", "expired")}[by]
        raise BadRequest("kid", f"token {command.kid} {how}, and is not renewed: make one with token/create", kind)
    if old["alg"] == "HS256" and command.public_jwk is not None:
        raise BadRequest("public_jwk", f"is for Ed25519, and {command.kid} is an HS256 token", "not_for_hs256")
    if old["alg"] != "HS256" and command.public_jwk is None:
        raise BadRequest("public_jwk", f"is needed: {command.kid} is an Ed25519 token", "missing")
    about = {name: old[name] for name in ("name", "role", "services")} | {"expires_at": _renewed(old, call.now)}
    token = _make(call, command.public_jwk, about)
    sealed = _sealed(call, token, "kid")
    _check_new(tx, call, token)
    ends_at = rfc3339(call.now + command.grace_s)
    tx.tokens.rotate(command.kid, token, call.seal(token), min(ends_at, old["expires_at"] or ends_at))
    new, old = _known(tx, token.kid), _known(tx, command.kid)
    call.learn(new, old)
    return Result(**_info(new), **sealed, replaced=_info(old))


def _info(row: Row) -> Row:
    return {field: row[field] for field in TokenInfo.model_fields}


def _known(tx: Tx, kid: str) -> Row:
    row = tx.tokens.one(kid)
    if row is None:
        raise Rejected(Code.NOT_FOUND, f"there is no token with the kid {kid}; see token/list")
    return row


def _make(call: Call, public: PublicJwk | None, about: Row) -> Token:
    if public is None:
        return Token.of_secret(call.fresh_secret(), call.fresh_kid(), **about)
    key = {"kty": public.kty, "crv": public.crv, "alg": "Ed25519", "x": public.x}
    return Token.model_validate({**key, "kid": public.kid or call.fresh_kid(), **about})


def _sealed(call: Call, token: Token, field: str) -> dict[str, Any]:
    """Return what of a new token only its maker may read: the whole of it with a secret, nothing of a public key."""
    if token.k is None:
        return {}
    sealed = call.seal_for_caller(TOKEN_INFO, token.dump())
    if sealed is None:
        text = (
            "the new secret is sent encrypted with the caller's own, and an Ed25519 token has none: send it with an"
            " HS256 admin token, ask for Ed25519, or use `setpointd token create`"
        )
        raise BadRequest(field, text, "needs_hs256_caller")
    return {"token_jwe": sealed}


def _check_new(tx: Tx, call: Call, token: Token) -> None:
    """Refuse a kid that is taken, and a public key that has one. A fresh secret cannot be there."""
    if tx.tokens.one(token.kid) is not None:
        text = f"there is a token with the kid {token.kid} already; give another, or none"
        raise Rejected(Code.ALREADY_EXISTS, text, kid=token.kid)
    if token.k is None:
        others = (call.restore(row) for row in tx.tokens.all() if row["alg"] == token.alg)
        if kid := holder(token, others):
            text = f"token {kid} has this key already, and a key has one kid: make a new pair"
            raise Rejected(Code.ALREADY_EXISTS, text, kid=kid)


def _renewed(old: Row, now: float) -> str | None:
    """When the successor of a token ends: it lives as long as that one was to, and at least as long as it still has."""
    if old["expires_at"] is None:
        return None
    ends, made = seconds(old["expires_at"]), seconds(old["created_at"])
    return rfc3339(max(now + round(ends - made, 3), ends))


def _check_admin_left(tx: Tx, call: Call, row: Row) -> None:
    """Refuse to revoke the last admin token: then nobody could make another.

    Beside one that works there must be one that works as long, or for an hour. A scope does not matter: it does not
    narrow the right to manage.
    """
    if not _is_admin(row, call.at):
        return
    until = rfc3339(call.now + ADMIN_LEFT_S)
    until = min(until, row["expires_at"] or until)
    if not any(_is_admin(other, until) for other in tx.tokens.all() if other["kid"] != row["kid"]):
        text = (
            f"{row['kid']} is the last admin token (any other ends within an hour, and before it): make another first,"
            " or use `setpointd token revoke`"
        )
        raise BadRequest("kid", text, "last_admin")


def _is_admin(row: Row, at: str) -> bool:
    ends = row["expires_at"]
    return row["role"] == Role.ADMIN and row["revoked_at"] is None and (ends is None or ends >= at)
