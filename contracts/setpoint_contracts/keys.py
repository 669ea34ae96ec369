"""Keys as signing takes them, and as a JWK holds them: the secret of an HS256 token, and Ed25519 (RFC 8037).

The two kinds of the wire, and no others: a library of JOSE loads all that there are.
"""

import binascii
import hashlib
import json
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_TO_STANDARD, _TO_URL = bytes.maketrans(b"-_", b"+/"), bytes.maketrans(b"+/", b"-_")

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Secret:
    """A key that both sides have. ``repr`` does not show it."""

    raw_value: bytes = field(repr=False)


Key = Secret | Ed25519PrivateKey | Ed25519PublicKey


def secret_key(k: str) -> Secret:
    """Read the member ``k`` of a JWK, 32 bytes as the other two. Raises ``ValueError``, as they do."""
    secret = from_base64url(k.encode())
    if len(secret) != _KEY_BYTES:
        msg = f"a secret has {_KEY_BYTES} bytes"
        raise ValueError(msg)
    return Secret(secret)


def private_key(d: str) -> Ed25519PrivateKey:
    """Read the member ``d`` of a JWK."""
    return Ed25519PrivateKey.from_private_bytes(from_base64url(d.encode()))


def public_key(x: str) -> Ed25519PublicKey:
    """Read the member ``x`` of a JWK."""
    return Ed25519PublicKey.from_public_bytes(from_base64url(x.encode()))


def to_jwk(key: Key) -> dict[str, str]:
    """Return the JWK of a key, with its private half if it has one."""
    if isinstance(key, Secret):
        return {"k": to_base64url(key.raw_value).decode(), "kty": "oct"}
    if isinstance(key, Ed25519PublicKey):
        return {"crv": "Ed25519", "x": to_base64url(key.public_bytes_raw()).decode(), "kty": "OKP"}
    return {**to_jwk(key.public_key()), "d": to_base64url(key.private_bytes_raw()).decode()}


def thumbprint(key: Ed25519PublicKey) -> str:
    """Return the thumbprint of a public key (RFC 7638), in base64url."""
    members = json.dumps(to_jwk(key), sort_keys=True, separators=(",", ":"))
    return to_base64url(hashlib.sha256(members.encode()).digest()).decode()


def to_base64url(data: bytes) -> bytes:
    """Encode as JOSE does, without padding."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL)


def from_base64url(text: bytes) -> bytes:
    """Decode what ``to_base64url`` made; raises ``ValueError`` for every other spelling."""
    data = binascii.a2b_base64(text.translate(_TO_STANDARD) + b"=" * (-len(text) % 4))
    if to_base64url(data) != text:
        msg = "base64url has one spelling"
        raise ValueError(msg)
    return data
