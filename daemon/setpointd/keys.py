"""The daemon's own keys: one seals secrets at rest, one signs what the daemon publishes.

Both are JWK files (RFC 7517) in the data directory, mode 0600: ``seal.jwk`` (32 random bytes) and ``signing.jwk``
(Ed25519). The secret of a token is sealed as compact JWE (``dir``, ``A256GCM``) whose protected header names the token;
a secret value of a config, of which there are many, as plain AES-256-GCM bound to its service and tag.
"""

import contextlib
import hmac
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Any, Self, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from setpoint_contracts import Token, sealing, sign_detached, strictjson, verify_detached
from setpoint_contracts.keys import Key, Secret, private_key, public_key, secret_key, thumbprint, to_jwk
from setpoint_contracts.signing import VerifyingKey
from setpointd.errors import OperatorError, UnreadableError
from setpointd.messages import Outbound

SEAL_FILE = "seal.jwk"
SIGNING_FILE = "signing.jwk"
_KID_LENGTH = 16
_KEYS_READ = 8
_NONCE_BYTES = 12
_KEY_BYTES = 32
_KEY_LENGTH = 43  # in base64url
K = TypeVar("K", Secret, Ed25519PrivateKey)


@dataclass(frozen=True, slots=True)
class Keys:
    """Both keys, and the public id of the signing one (the start of its RFC 7638 thumbprint)."""

    seal: Secret
    signing: VerifyingKey
    kid: str

    @classmethod
    def create(cls, data_dir: Path) -> Self:
        """Make both files; refuses to overwrite."""
        write_private(data_dir / SEAL_FILE, _dump(Secret(os.urandom(_KEY_BYTES))))
        write_private(data_dir / SIGNING_FILE, _dump(Ed25519PrivateKey.generate()))
        return cls.load(data_dir)

    @classmethod
    def load(cls, data_dir: Path) -> Self:
        """Read both files; raises ``OperatorError`` when one is missing or broken."""
        seal = _read(data_dir / SEAL_FILE, "k", secret_key)
        signing = _read(data_dir / SIGNING_FILE, "d", private_key)
        return cls(seal, VerifyingKey("Ed25519", signing), thumbprint(signing.public_key())[:_KID_LENGTH])

    def signed(self, topic: str, payload: bytes, *, retain: bool) -> Outbound:
        """Make a message that carries the daemon's own signature; an empty one, which clears a topic, carries none."""
        jws = sign_detached(payload, topic, self.kid, self.signing) if payload else None
        return Outbound(topic, payload, jws, retain)

    def made(self, topic: str, payload: bytes, jws: str) -> bool:
        """Whether a detached signature is the daemon's own, over just this payload on this topic."""
        return verify_detached(payload, topic, jws, self.kid, self.signing)

    def public_jwks(self) -> bytes:
        """The JWK Set (RFC 7517 section 5) that lets others check the daemon's signatures."""
        jwk = to_jwk(self.signing.key)
        public = {name: jwk[name] for name in ("crv", "x", "kty")}
        return strictjson.dumps({"keys": [{**public, "kid": self.kid, "alg": "Ed25519", "use": "sig"}]}).encode()

    def store_form(self, token: Token) -> str:
        """What the store keeps of a token's key: a sealed secret, or a public JWK."""
        if token.k is None:
            return strictjson.dumps(token.public().jwk())
        return sealing.seal(self.seal.raw_value, token.k.encode(), token.kid)

    def restore(self, row: dict[str, Any]) -> Token:
        """Make the token of a row of the store. ``OperatorError``: its key was sealed by another daemon, or moved."""
        fields = {name: row[name] for name in ("kid", "name", "role", "services", "alg", "expires_at", "revoked_at")}
        try:
            if row["alg"] != "HS256":
                return Token.model_validate({**strictjson.loads(row["key"].encode()), **fields})
            secret, kid = sealing.unseal(self.seal.raw_value, row["key"])
            if kid == row["kid"]:
                return Token.model_validate({"kty": "oct", "k": secret.decode(), **fields})
        except ValueError:
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
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if (jwk["kty"], jwk["crv"]) == ("OKP", "Ed25519") and isinstance(jwk["kid"], str):
                keys[jwk["kid"]] = VerifyingKey("Ed25519", public_key(str(jwk["x"])))
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


def _dump(key: Key) -> bytes:
    return strictjson.dumps(to_jwk(key)).encode() + b"\n"


def _read(path: Path, member: str, read: Callable[[str], K]) -> K:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        msg = f"{path} is missing: make a store with `setpointd init --data-dir {path.parent}`"
        raise OperatorError(msg) from None
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise OperatorError(msg) from None
    key = _made_here(content, member, read)
    if key is None:
        msg = f"{path} is not the key that `setpointd init` made"
        raise OperatorError(msg)
    return key


def _made_here(content: bytes, member: str, read: Callable[[str], K]) -> K | None:
    """Read what ``_dump`` wrote; None: it is something else, or parts of it do not belong together."""
    try:
        jwk = strictjson.loads(content)
        secret = str(jwk[member])
        key = read(secret)
    except (ValueError, TypeError, KeyError):
        return None
    return key if len(secret) == _KEY_LENGTH and to_jwk(key).items() <= jwk.items() else None
