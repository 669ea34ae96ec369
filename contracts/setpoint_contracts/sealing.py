"""Secrets on their way to one caller: compact JWE under a key that comes from the caller's own HS256 secret (wire §6).

``alg`` is ``dir``, ``enc`` is ``A256GCM``. The key is HKDF-SHA256 (RFC 5869) of the 32 bytes of the secret, without
salt; ``info`` says what for, so that what was sealed for one purpose does not open for another.

A JWE of this one kind is put together and taken apart here; the cipher, and whether it was changed, is
``cryptography``'s.
"""

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from setpoint_contracts import strictjson
from setpoint_contracts.keys import Key, Secret, from_base64url, to_base64url

TOKEN_INFO = "setpoint/token"  # noqa: S105 - a label
"""The ``info`` of ``token_jwe``: a whole new token."""
SECRETS_INFO = "setpoint/secrets"
"""The ``info`` of ``secrets_jwe``: an object of JSON Pointer to value."""
COMPACT_JWE = r"^[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{22}$"
"""A compact JWE of this kind: ``dir`` has no encrypted key."""

_KIND = {"alg": "dir", "enc": "A256GCM"}
_NONCE_BYTES = 12
_TAG_BYTES = 16
_KEY_BYTES = 32


class NotSealedError(ValueError):
    """It was not sealed with this secret for this purpose, or something was changed since."""


def seal_for(token_key: Key | bytes, info: str, plaintext: bytes) -> str:
    """Encrypt something for the holder of an HS256 token; ``token_key`` is its secret, ``info`` the purpose.

    Raises ``TypeError`` when the token has no secret, as Ed25519.
    """
    return seal(_derive(token_key, info), plaintext)


def open_sealed(token_key: Key | bytes, info: str, sealed: str) -> bytes:
    """Decrypt what ``seal_for`` made with the same secret and purpose.

    Raises ``NotSealedError``, and ``TypeError`` as that does.
    """
    plaintext, _ = unseal(_derive(token_key, info), sealed)
    return plaintext


def seal(key: bytes, plaintext: bytes, kid: str | None = None) -> str:
    """Encrypt with a key of 32 bytes, else ``ValueError``; ``kid`` can be read by anybody, and not be changed."""
    head, nonce = to_base64url(strictjson.dumps(_header(kid)).encode()), os.urandom(_NONCE_BYTES)
    sealed = _cipher(key).encrypt(nonce, plaintext, head)
    parts = (nonce, sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:])
    return b".".join((head, b"", *map(to_base64url, parts))).decode()


def unseal(key: bytes, sealed: str) -> tuple[bytes, str | None]:
    """Decrypt what ``seal`` made with this key; the plaintext, and the ``kid``. Raises ``NotSealedError``."""
    try:
        head, no_key, *parts = sealed.encode().split(b".")  # RFC 7516 section 3.1
        nonce, ciphertext, tag = map(from_base64url, parts)
        header = strictjson.loads(from_base64url(head))
        if isinstance(header, dict) and (no_key, len(nonce), len(tag)) == (b"", _NONCE_BYTES, _TAG_BYTES):
            kid = header.get("kid")
            if isinstance(kid, str | None) and header == _header(kid):
                return _cipher(key).decrypt(nonce, ciphertext + tag, head), kid
    except (InvalidTag, ValueError):
        pass  # told below, in one way
    msg = "this was not sealed with this secret, or not for this purpose"
    raise NotSealedError(msg)


def _header(kid: str | None) -> dict[str, str]:
    return _KIND if kid is None else {**_KIND, "kid": kid}


def _cipher(key: bytes) -> AESGCM:
    if len(key) != _KEY_BYTES:  # AES with another key is another ``enc``
        msg = f"the key has {len(key)} bytes; it must have {_KEY_BYTES}"
        raise ValueError(msg)
    return AESGCM(key)


def _derive(token_key: Key | bytes, info: str) -> bytes:
    """HKDF for 32 bytes: one block of the hash, so one step of extracting and one of expanding."""
    secret = token_key.raw_value if isinstance(token_key, Secret) else token_key
    if not isinstance(secret, bytes):
        msg = "only an HS256 token has a secret"
        raise TypeError(msg)
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, info.encode() + b"\x01", "sha256")
