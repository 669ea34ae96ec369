"""The daemon's own keys: one seals secrets at rest, one signs what the daemon publishes.

Both are JWK files (RFC 7517) in the data directory, mode 0600: ``seal.jwk`` (32 random bytes) and ``signing.jwk``
(Ed25519). The secret of a token is sealed as compact JWE (``dir``, ``A256GCM``) whose protected header names the token;
a secret value of a config, of which there are many, as plain AES-256-GCM bound to its service and tag.
"""

import contextlib
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Any, Self, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey, OKPKey

from setpoint_contracts import Token, sign_detached, strictjson, verify_detached
from setpoint_contracts.signing import VerifyingKey
from setpointd.errors import OperatorError, UnreadableError
from setpointd.messages import Outbound

SEAL_FILE = "seal.jwk"
SIGNING_FILE = "signing.jwk"
_KID_LENGTH = 16
_KEYS_READ = 8
_FORMS = {OctKey: ("oct", None, "k"), OKPKey: ("OKP", "Ed25519", "d")}
_SECRET_LENGTH = 43  # 32 bytes as base64url
_NONCE_BYTES = 12
K = TypeVar("K", OctKey, OKPKey)


@dataclass(frozen=True, slots=True)
class Keys:
    """Both keys, and the public id of the signing one (the start of its RFC 7638 thumbprint)."""

    seal: OctKey
    signing: VerifyingKey
    kid: str

    @classmethod
    def create(cls, data_dir: Path) -> Self:
        """Make both files; refuses to overwrite."""
        write_private(data_dir / SEAL_FILE, _dump(OctKey.generate_key(256)))
        write_private(data_dir / SIGNING_FILE, _dump(OKPKey.generate_key("Ed25519")))
        return cls.load(data_dir)

    @classmethod
    def load(cls, data_dir: Path) -> Self:
        """Read both files; raises ``OperatorError`` when one is missing or broken."""
        seal = _read(data_dir / SEAL_FILE, OctKey)
        signing = _read(data_dir / SIGNING_FILE, OKPKey)
        return cls(seal, VerifyingKey("Ed25519", signing), signing.thumbprint()[:_KID_LENGTH])

    def signed(self, topic: str, payload: bytes, *, retain: bool) -> Outbound:
        """Make a message that carries the daemon's own signature; an empty one, which clears a topic, carries none."""
        jws = sign_detached(payload, topic, self.kid, self.signing) if payload else None
        return Outbound(topic, payload, jws, retain)

    def made(self, topic: str, payload: bytes, jws: str) -> bool:
        """Whether a detached signature is the daemon's own, over just this payload on this topic."""
        return verify_detached(payload, topic, jws, self.kid, self.signing)

    def public_jwks(self) -> bytes:
        """The JWK Set (RFC 7517 section 5) that lets others check the daemon's signatures."""
        public = self.signing.key.as_dict(private=False)
        return strictjson.dumps({"keys": [{**public, "kid": self.kid, "alg": "Ed25519", "use": "sig"}]}).encode()

    def store_form(self, token: Token) -> str:
        """What the store keeps of a token's key: a sealed secret, or a public JWK."""
        if token.k is None:
            return strictjson.dumps(token.public().jwk())
        return jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM", "kid": token.kid}, token.k, self.seal)

    def restore(self, row: dict[str, Any]) -> Token:
        """Make the token of a row of the store. ``OperatorError``: its key was sealed by another daemon, or moved."""
        fields = {name: row[name] for name in ("kid", "name", "role", "services", "alg", "expires_at", "revoked_at")}
        try:
            if row["alg"] != "HS256":
                return Token.model_validate({**strictjson.loads(row["key"].encode()), **fields})
            opened = jwe.decrypt_compact(row["key"], self.seal)
            if opened.plaintext is not None and opened.headers().get("kid") == row["kid"]:
                return Token.model_validate({"kty": "oct", "k": opened.plaintext.decode(), **fields})
        except (JoseError, ValueError):
            pass  # told below, without what is in it
        msg = f"{SEAL_FILE} does not open token {row['kid']}: it belongs to another store"
        raise OperatorError(msg)

    def secret_digest(self, service: str, text: str) -> bytes:
        """Return the 32 bytes by which a secret value of a service, as canonical JSON, is known in this store."""
        return hmac.digest(self.seal.raw_value, f"setpoint/secret\0{service}\0{text}".encode(), "sha256")

    def seal_value(self, service: str, tag: str, text: str) -> bytes:
        """Return what the store keeps of a secret value: nonce and AES-256-GCM, which opens as this one only."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self.seal.raw_value).encrypt(nonce, text.encode(), f"{service}\0{tag}".encode())

    def open_value(self, service: str, tag: str, sealed: bytes) -> str:
        """Return what ``seal_value`` sealed for this service and tag. Raises ``UnreadableError``."""
        nonce, content = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return AESGCM(self.seal.raw_value).decrypt(nonce, content, f"{service}\0{tag}".encode()).decode()
        except (InvalidTag, ValueError):
            text = "a row of the store cannot be read: a secret does not open with the key of this store"
            raise UnreadableError(text) from None


def holder(token: Token, others: Iterable[Token]) -> str | None:
    """Find another token with the same key, by its kid.

    One key must not have two: whoever holds it could speak for both, and it would outlive a revocation.
    """
    for other in others:
        for member in ("k", "x"):
            own, its = getattr(token, member), getattr(other, member)
            if own is not None and its is not None and other.kid != token.kid and compare_digest(own, its):
                return other.kid
    return None


def read_jwks(payload: bytes) -> dict[str, VerifyingKey]:
    """Read the Ed25519 keys of a JWK Set, by kid; what is none is left out, and so is all beyond a few."""
    try:
        jwks = strictjson.loads(payload)["keys"][:_KEYS_READ]
    except (ValueError, TypeError, KeyError):
        return {}
    keys = {}
    for jwk in jwks:
        with contextlib.suppress(ValueError, TypeError, KeyError, JoseError):
            if (jwk["kty"], jwk["crv"]) == _FORMS[OKPKey][:2]:
                public = OKPKey.import_key({name: jwk[name] for name in ("kty", "crv", "x")})
                keys[str(jwk["kid"])] = VerifyingKey("Ed25519", public)
    return keys


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read; ``OperatorError`` when it is there already or cannot be made."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        msg = f"{path} is there already, and is not overwritten"
        raise OperatorError(msg) from None
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise OperatorError(msg) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # the disk is full: no half of a key stays behind
        path.unlink()
        msg = f"{path} cannot be written: {error.strerror}"
        raise OperatorError(msg) from None


def _dump(key: OctKey | OKPKey) -> bytes:
    return strictjson.dumps(key.as_dict(private=True)).encode() + b"\n"


def _read(path: Path, kind: type[K]) -> K:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        msg = f"{path} is missing: make a store with `setpointd init --data-dir {path.parent}`"
        raise OperatorError(msg) from None
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise OperatorError(msg) from None
    try:
        found = strictjson.loads(content)
        key = kind.import_key(found) if _is_of_ours(found, kind) else None
    except (ValueError, JoseError):
        key = None
    if key is None:
        msg = f"{path} is not the key that `setpointd init` made"
        raise OperatorError(msg)
    return key


def _is_of_ours(found: Any, kind: type[OctKey | OKPKey]) -> bool:
    kty, crv, secret = _FORMS[kind]
    return (
        isinstance(found, dict)
        and (found.get("kty"), found.get("crv")) == (kty, crv)
        and len(str(found.get(secret))) == _SECRET_LENGTH
    )
