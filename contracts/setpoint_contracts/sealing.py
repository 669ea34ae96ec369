"""Secrets on their way to one caller: compact JWE under a key that comes from the caller's own HS256 secret (wire §6).

``alg`` is ``dir``, ``enc`` is ``A256GCM``. The key is HKDF-SHA256 (RFC 5869) of the 32 bytes of the secret, without
salt; ``info`` says what for, so that what was sealed for one purpose does not open for another.
"""

import hmac

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

TOKEN_INFO = "setpoint/token"  # noqa: S105 - a label
"""The ``info`` of ``token_jwe``: a whole new token."""
SECRETS_INFO = "setpoint/secrets"
"""The ``info`` of ``secrets_jwe``: an object of JSON Pointer to value."""
COMPACT_JWE = r"^[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{22}$"
"""A compact JWE of this kind: ``dir`` has no encrypted key."""

_HEADER = {"alg": "dir", "enc": "A256GCM"}


class _Registry(jwe.JWERegistry):
    # joserfc's own limit is below the largest config.
    max_ciphertext_length = 1 << 30


_REGISTRY = _Registry(algorithms=tuple(_HEADER.values()))


class NotSealedError(ValueError):
    """It was not sealed with this secret for this purpose, or something was changed since."""


def seal_for(token_key: OctKey | bytes, info: str, plaintext: bytes) -> str:
    """Encrypt something for the holder of an HS256 token; ``token_key`` is its secret, ``info`` the purpose."""
    return jwe.encrypt_compact(dict(_HEADER), plaintext, _derive(token_key, info), registry=_REGISTRY)


def open_sealed(token_key: OctKey | bytes, info: str, sealed: str) -> bytes:
    """Decrypt what ``seal_for`` made with the same secret and purpose. Raises ``NotSealedError``."""
    try:
        opened = jwe.decrypt_compact(sealed, _derive(token_key, info), registry=_REGISTRY).plaintext
    except (JoseError, ValueError):
        opened = None
    if opened is None:
        msg = "this was not sealed with this secret, or not for this purpose"
        raise NotSealedError(msg)
    return opened


def _derive(token_key: OctKey | bytes, info: str) -> OctKey:
    """HKDF for 32 bytes: one block of the hash, so one step of extracting and one of expanding."""
    secret = token_key if isinstance(token_key, bytes) else token_key.raw_value
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return OctKey.import_key(hmac.digest(extracted, info.encode() + b"\x01", "sha256"))
