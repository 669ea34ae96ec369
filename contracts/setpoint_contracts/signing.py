"""Signing and verifying (wire sections 2 and 4): compact JWS for commands, detached JWS for what the daemon publishes.

Rules:

- The bytes received are the bytes verified; JSON is never written again to check a signature.
- The algorithm is the token's own, never the header's choice.
- A header has ``alg`` and ``kid``, may have ``typ``, and nothing else; so a detached signature, whose header has
  ``topic``, can never pass for a command.
- One signature has one spelling: no padding, no stray bits in the last character.
"""

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from joserfc import errors as jose
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey
from joserfc.util import urlsafe_b64decode

from setpoint_contracts import strictjson
from setpoint_contracts.tokens import Token
from setpoint_contracts.topics import Topics

ALGORITHMS = ("HS256", "Ed25519")
JWS_USER_PROPERTY = "jws"
DEFAULT_LIFETIME_S = 60.0

_COMPACT = re.compile(rb"[A-Za-z0-9_-]{1,1024}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{1,128}")
_COMMAND_HEADER = frozenset({"alg", "kid", "typ"})
_DEFAULT = object()
T = TypeVar("T")


class _Registry(jws.JWSRegistry):
    # joserfc's own limits are below ours, and it knows no ``topic`` member; sizes and headers are checked here instead.
    max_header_length = 2048
    max_payload_length = 1 << 30


_REGISTRY = _Registry(algorithms=ALGORITHMS, strict_check_header=False)


class NotSignedError(ValueError):
    """The message is not a command signed with a known token; the message of the error is a stable slug for metrics."""


@dataclass(frozen=True, slots=True)
class Signed(Generic[T]):
    """A message whose signature holds: who signed it, and the exact bytes of its claims."""

    signer: T
    claims: bytes


def sign_command(
    token: Token,
    command: str,
    params: dict[str, Any] | None = None,
    *,
    jti: str | None = None,
    reply_to: object = _DEFAULT,
    issued_at: float | None = None,
    lifetime_s: float = DEFAULT_LIFETIME_S,
    topics: Topics | None = None,
) -> str:
    """Sign one command for publishing to ``Topics.command(command)``.

    ``jti`` is the idempotency key: give it when the command may be sent again. ``reply_to`` names the reply topic, or
    is None for no reply; left out, the daemon answers on ``config/reply/{name}/{jti}``. Times are POSIX seconds.
    """
    now = time.time() if issued_at is None else issued_at
    claims: dict[str, Any] = {
        "jti": jti or secrets.token_hex(16),
        "aud": (topics or Topics()).command(command),
        "iat": round(now, 3),
        "exp": round(now + lifetime_s, 3),
        "params": params or {},
    }
    if reply_to is not _DEFAULT:
        claims["reply_to"] = reply_to
    header = {"alg": token.alg, "kid": token.kid}
    return jws.serialize_compact(header, strictjson.dumps(claims), token.signing_key(), registry=_REGISTRY)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key ready for use, with the one algorithm it is for."""

    alg: str
    key: OctKey | OKPKey


def verify_command(payload: bytes, max_bytes: int, find: Callable[[str], tuple[VerifyingKey, T] | None]) -> Signed[T]:
    """Verify the compact JWS in an MQTT payload; ``find`` maps a ``kid`` to its key and its owner.

    Raises ``NotSignedError``: ``too_large``, ``not_jws``, ``bad_header``, ``unknown_kid``, ``alg_eddsa`` (RFC 9864 has
    that name no more: write ``Ed25519``), ``wrong_alg`` or ``bad_signature``.
    """
    compact = payload.strip(b" \t\r\n\v\f")
    if len(compact) > max_bytes:
        raise NotSignedError("too_large")
    if not _COMPACT.fullmatch(compact):
        raise NotSignedError("not_jws")
    head, body, _ = compact.split(b".")
    # What costs little goes first: anybody can send what will be dropped.
    try:
        header = strictjson.loads(urlsafe_b64decode(head))
    except ValueError:
        raise NotSignedError("not_jws") from None
    if not _is_command_header(header):
        raise NotSignedError("bad_header")
    found = find(header["kid"])
    if found is None:
        raise NotSignedError("unknown_kid")
    verifying, owner = found
    if header["alg"] != verifying.alg:
        raise NotSignedError("alg_eddsa" if header["alg"] == "EdDSA" else "wrong_alg")
    try:
        claims = urlsafe_b64decode(body)
    except ValueError:
        raise NotSignedError("not_jws") from None
    if not _verifies(compact, verifying, None):
        raise NotSignedError("bad_signature")
    return Signed(owner, claims)


def sign_detached(payload: bytes, topic: str, kid: str, signing: VerifyingKey) -> str:
    """Sign what is published to ``topic``: a detached compact JWS (RFC 7515, appendix F), for the user property."""
    header = {"alg": signing.alg, "kid": kid, "topic": topic}
    return jws.detach_content(jws.serialize_compact(header, payload, signing.key, registry=_REGISTRY))


def verify_detached(payload: bytes, topic: str, signature: str, kid: str, verifying: VerifyingKey) -> bool:
    """Check a ``jws`` user property: signed by ``kid`` with its algorithm, over exactly this payload on this topic."""
    try:
        compact = signature.encode("ascii")
        head, dots, _ = compact.partition(b"..")
        header = strictjson.loads(urlsafe_b64decode(head))
    except ValueError:
        return False
    expected = {"alg": verifying.alg, "kid": kid, "topic": topic}
    return bool(dots) and header == expected and _verifies(compact, verifying, payload)


def _is_command_header(header: object) -> bool:
    return (
        isinstance(header, dict)
        and header.keys() <= _COMMAND_HEADER
        and all(isinstance(value, str) for value in header.values())
        and {"alg", "kid"} <= header.keys()
    )


def _verifies(compact: bytes, verifying: VerifyingKey, detached: bytes | None) -> bool:
    try:
        jws.deserialize_compact(compact, verifying.key, registry=_REGISTRY, payload=detached)
    except (jose.JoseError, ValueError):
        return False
    return True
