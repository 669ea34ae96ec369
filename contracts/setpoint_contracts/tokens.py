"""Tokens: a JWK with a name and a role (wire section 2), and what a role may do (section 6)."""

import os
import re
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from setpoint_contracts import strictjson
from setpoint_contracts.keys import Key, Secret, private_key, public_key, secret_key, to_jwk
from setpoint_contracts.misfits import line, misfits
from setpoint_contracts.model import Model
from setpoint_contracts.names import Kid, PrincipalName, ServiceGlob
from setpoint_contracts.timestamps import Timestamp

_KEY_BYTES = 32
_KEY_LENGTH = 43  # in base64url
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# 43 characters hold two bits more than 32 bytes have: they are zero, or one key would have four spellings.
KEY_PATTERN = r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"
Base64Url32 = Annotated[str, StringConstraints(strict=True, pattern=KEY_PATTERN)]
"""32 bytes as base64url: a key."""


class Permission(StrEnum):
    """What a command needs."""

    READ = "config.read"
    WRITE = "config.write"
    DELETE = "config.delete"
    MANAGE = "admin.manage"


class Role(StrEnum):
    """What a token may do; each role holds the permissions of the one before."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def permissions(self) -> frozenset[Permission]:
        """The permissions of this role."""
        return _PERMISSIONS[self]


_PERMISSIONS = {
    Role.VIEWER: frozenset({Permission.READ}),
    Role.OPERATOR: frozenset({Permission.READ, Permission.WRITE}),
    Role.ADMIN: frozenset(Permission),
}

Algorithm = Literal["HS256", "Ed25519"]


class TokenFileError(ValueError):
    """A token file cannot be read; the message is one line for people and holds nothing of the key."""


def _printable(name: str) -> str:
    # The name is the file's own, and could hold anything: also the key, where name and value were swapped.
    return name if _PLAIN_NAME.fullmatch(name) and len(name) != _KEY_LENGTH else "there"


class Token(Model):
    """A token as its file holds it: RFC 7517 with ``name`` and ``role``, perhaps ``services`` and ``expires_at``.

    ``d`` is there when the holder can sign with an Ed25519 token, and never on the daemon's side.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kty: Literal["oct", "OKP"]
    kid: Kid
    alg: Algorithm
    name: PrincipalName
    role: Role
    services: tuple[ServiceGlob, ...] | None = None
    expires_at: Timestamp | None = None
    revoked_at: Timestamp | None = None
    crv: Literal["Ed25519"] | None = None
    k: Base64Url32 | None = Field(default=None, repr=False)
    x: Base64Url32 | None = None
    d: Base64Url32 | None = Field(default=None, repr=False)

    @field_validator("services")
    @classmethod
    def _some_services(cls, services: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if services is not None and not services:
            msg = "an empty list would match no service; leave it out to match all"
            raise ValueError(msg)
        return services

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> Self:
        secret = self.kty == "oct" and self.alg == "HS256" and self.k and not (self.x or self.d or self.crv)
        pair = self.kty == "OKP" and self.alg == "Ed25519" and self.x and self.crv and not self.k
        if not (secret or pair):
            msg = 'a token is {"kty":"oct","alg":"HS256","k":…} or {"kty":"OKP","crv":"Ed25519","alg":"Ed25519","x":…}'
            raise ValueError(msg)
        if self.d and not self._is_pair():
            msg = "x is not the public half of d"
            raise ValueError(msg)
        return self

    def _is_pair(self) -> bool:
        return to_jwk(self.signing_key())["x"] == self.x

    @classmethod
    def new(cls, alg: Algorithm, kid: str, name: str, role: Role, **more: Any) -> Self:
        """Make a token with a fresh key; ``more`` may hold ``services`` and ``expires_at``."""
        key = Secret(secrets.token_bytes(_KEY_BYTES)) if alg == "HS256" else Ed25519PrivateKey.generate()
        return cls.model_validate({**to_jwk(key), "kid": kid, "alg": alg, "name": name, "role": role, **more})

    @classmethod
    def of_secret(cls, secret: bytes, kid: str, name: str, role: Role, **more: Any) -> Self:
        """Make an HS256 token of 32 random bytes; ``more`` as for ``new``."""
        key = to_jwk(Secret(secret))
        return cls.model_validate({**key, "kid": kid, "alg": "HS256", "name": name, "role": role, **more})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a token from the bytes of its file; raises ``TokenFileError``."""
        try:
            return cls.model_validate(strictjson.loads(data))
        except ValidationError as error:
            first = misfits(error, 1)[0]
            if first["type"] == "extra_forbidden":
                msg = f"{_printable(first['field'])} is a member that no token has"
            else:
                msg = line(first)
            raise TokenFileError(msg) from None
        except strictjson.InvalidJsonError as error:
            raise TokenFileError(error.args[0]) from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a token from its file; raises ``TokenFileError`` or ``OSError``."""
        return cls.parse(Path(path).read_bytes())

    def dump(self) -> bytes:
        """Write the token as its file holds it: one line of JSON, secret included."""
        return strictjson.dumps(self.model_dump(mode="json", exclude_none=True)).encode() + b"\n"

    def public(self) -> Self:
        """Return the same token without the private half of an Ed25519 key: what the daemon keeps."""
        return self.model_copy(update={"d": None})

    def jwk(self) -> dict[str, str]:
        """Return the key alone, as RFC 7517 has it: no name, role or times."""
        return {
            field: value for field in ("kty", "kid", "alg", "crv", "k", "x", "d") if (value := getattr(self, field))
        }

    def signing_key(self) -> Key:
        """Return the key for signing and verifying, as ``VerifyingKey`` takes it."""
        if self.k:
            return secret_key(self.k)
        return private_key(self.d) if self.d else public_key(self.x or "")
