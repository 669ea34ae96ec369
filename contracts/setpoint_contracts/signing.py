"""Signing and verifying (wire sections 2 and 4): compact JWS for commands, detached JWS for what the daemon publishes.

Rules:

- The bytes received are the bytes verified; JSON is never written again to check a signature.
- The algorithm is the token's own, never the header's choice.
- A header has ``alg`` and ``kid``, may have ``typ``, and nothing else; so a detached signature, whose header has
  ``topic``, can never pass for a command.
- One signature has one spelling: no padding, no stray bits in the last character.

The three parts are put together and taken apart here, which every message needs twice; Ed25519 is ``cryptography``'s,
HMAC the standard library's.
"""

import hmac
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from setpoint_contracts import strictjson
from setpoint_contracts.keys import Key, Secret
from setpoint_contracts.keys import from_base64url as _from_base64url
from setpoint_contracts.keys import to_base64url as _base64url
from setpoint_contracts.tokens import Token
from setpoint_contracts.topics import Topics

ALGORITHMS = ("HS256", "Ed25519")
JWS_USER_PROPERTY = "jws"
DEFAULT_LIFETIME_S = 60.0

_COMPACT = re.compile(rb"[A-Za-z0-9_-]{1,1024}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{1,128}")
_COMMAND_HEADER = frozenset({"alg", "kid", "typ"})
_DEFAULT = object()
T = TypeVar("T")

_text = json.encoder.encode_basestring_ascii
# Of headers, which are the same in all messages of a token; what anybody sends may stand here too, so not many.
_HEADERS_KEPT = 256


class NotSignedError(ValueError):
    """The message is not a command signed with a known token; the message of the error is a stable slug for metrics."""


@dataclass(slots=True)
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
    signed = _header(alg=token.alg, kid=token.kid) + b"." + _base64url(strictjson.dumps(claims).encode())
    return (signed + b"." + VerifyingKey(token.alg, token.signing_key()).sign(signed)).decode()


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key ready for use, with the one algorithm it is for."""

    alg: str
    key: Key
    _mac: hmac.HMAC | None = field(init=False, repr=False, compare=False)
    _public: Ed25519PublicKey | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        mac = public = None
        if isinstance(self.key, Secret):
            # The secret is worked in once; each message goes on from a copy.
            mac = hmac.new(self.key.raw_value, digestmod="sha256") if self.alg == "HS256" else None
        elif self.alg == "Ed25519":
            public = self.key.public_key() if isinstance(self.key, Ed25519PrivateKey) else self.key
        object.__setattr__(self, "_mac", mac)
        object.__setattr__(self, "_public", public)

    def sign(self, text: bytes) -> bytes:
        """Sign a text; the signature is in base64url. Raises ``ValueError`` when the key is not for its algorithm."""
        if self._mac is not None:
            mac = self._mac.copy()
            mac.update(text)
            return _base64url(mac.digest())
        if self._public is None or not isinstance(self.key, Ed25519PrivateKey):
            msg = f"this is no key to sign {self.alg} with"
            raise ValueError(msg)
        return _base64url(self.key.sign(text))

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Whether a signature, in base64url, is this key's over a text."""
        if self._mac is not None:
            return hmac.compare_digest(self.sign(text), signature)
        if self._public is None:
            return False
        try:
            self._public.verify(_from_base64url(signature), text)
        except (InvalidSignature, ValueError):
            return False
        return True


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
    signed, _, signature = compact.rpartition(b".")
    head, _, body = signed.partition(b".")
    # What costs little goes first: anybody can send what will be dropped.
    alg, kid = _command_header(head)
    found = find(kid)
    if found is None:
        raise NotSignedError("unknown_kid")
    verifying, owner = found
    if alg != verifying.alg:
        raise NotSignedError("alg_eddsa" if alg == "EdDSA" else "wrong_alg")
    try:
        claims = _from_base64url(body)
    except ValueError:
        raise NotSignedError("not_jws") from None
    if not verifying.verifies(signed, signature):
        raise NotSignedError("bad_signature")
    return Signed(owner, claims)


def sign_detached(payload: bytes, topic: str, kid: str, signing: VerifyingKey) -> str:
    """Sign what is published to ``topic``: a detached compact JWS (RFC 7515, appendix F), for the user property."""
    head = _header(alg=signing.alg, kid=kid, topic=topic)
    return (head + b".." + signing.sign(head + b"." + _base64url(payload))).decode()


def verify_detached(payload: bytes, topic: str, signature: str, kid: str, verifying: VerifyingKey) -> bool:
    """Check a ``jws`` user property: signed by ``kid`` with its algorithm, over exactly this payload on this topic."""
    try:
        head, dots, own = signature.encode("ascii").partition(b"..")
        header = strictjson.loads(_from_base64url(head))
    except ValueError:
        return False
    expected = {"alg": verifying.alg, "kid": kid, "topic": topic}
    return bool(dots) and header == expected and verifying.verifies(head + b"." + _base64url(payload), own)


def _header(alg: str, kid: str, topic: str | None = None) -> bytes:
    about = "" if topic is None else f',"topic":{_text(topic)}'
    return _base64url(f'{{"alg":"{alg}","kid":{_text(kid)}{about}}}'.encode())


@lru_cache(_HEADERS_KEPT)
def _command_header(head: bytes) -> tuple[str, str]:
    """Return algorithm and key id of a command's header, which is in base64url; raises ``NotSignedError``."""
    try:
        header = strictjson.loads(_from_base64url(head))
    except ValueError:
        raise NotSignedError("not_jws") from None
    if not (
        isinstance(header, dict)
        and header.keys() <= _COMMAND_HEADER
        and all(isinstance(value, str) for value in header.values())
        and {"alg", "kid"} <= header.keys()
    ):
        raise NotSignedError("bad_header")
    return header["alg"], header["kid"]
