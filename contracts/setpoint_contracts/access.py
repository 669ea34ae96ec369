"""Tokens as the daemon shows them, and the commands on them (wire section 6)."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StrictInt, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from setpoint_contracts.audit import Action
from setpoint_contracts.commands import Command, Result
from setpoint_contracts.errors import Code
from setpoint_contracts.model import Model
from setpoint_contracts.names import Kid, PrincipalName, ServiceGlob
from setpoint_contracts.numbers import INTEGRAL
from setpoint_contracts.sealing import COMPACT_JWE
from setpoint_contracts.timestamps import Timestamp
from setpoint_contracts.tokens import Algorithm, Base64Url32, Permission, Role

MAX_TTL_S = 100 * 365 * 86_400
"""The longest life that can be asked for a token, in seconds: a hundred years."""
MAX_GLOBS = 100
DEFAULT_GRACE_S = 300


class PublicJwk(Model):
    """An Ed25519 public key (RFC 8037)."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: Base64Url32
    kid: Kid | None = Field(default=None, description="Of a new token: its kid. Absent: one is made up.")
    alg: Literal["Ed25519"] | None = None
    use: Literal["sig"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_public(cls, value: Any) -> Any:
        if isinstance(value, dict) and "d" in value:
            text = "has a private key, d, in it, which now is no secret: make a new pair, and send its public half only"
            raise PydanticCustomError("private_key", text)
        return value


class TokenInfo(Result):
    """A token without its key."""

    kid: Kid
    name: PrincipalName
    role: Role
    services: list[ServiceGlob] | None
    alg: Algorithm
    created_at: Timestamp
    created_by: str
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    last_used_at: Timestamp | None = Field(
        description="When a message signed with it last came, be it refused; up to a minute behind."
    )


class NewToken(TokenInfo):
    """A token that was just made."""

    token_jwe: str | None = Field(
        default=None,
        pattern=COMPACT_JWE,
        description="HS256: the token file, as compact JWE (dir, A256GCM). The key is HKDF-SHA256 of the caller's own"
        " HS256 secret, no salt, info setpoint/token.",
    )


class SuccessorToken(NewToken):
    """A token that takes the place of another."""

    replaced: TokenInfo = Field(description="The old one, with the time at which it ends now.")


class TokenListResult(Result):
    """All tokens, in the order of their making; never a secret."""

    tokens: list[TokenInfo]


class TokenList(Command):
    """List all tokens."""

    name: ClassVar[str] = "token/list"
    needs: ClassVar[Permission] = Permission.MANAGE
    result: ClassVar[type[Result]] = TokenListResult


class TokenCreate(Command):
    """Make a token, of HS256 with a fresh secret, of Ed25519 for the public key that is given."""

    name: ClassVar[str] = "token/create"
    needs: ClassVar[Permission] = Permission.MANAGE
    result: ClassVar[type[Result]] = NewToken
    errors: ClassVar[tuple[Code, ...]] = (Code.ALREADY_EXISTS,)
    actions: ClassVar[tuple[Action, ...]] = (Action.CREATE_TOKEN,)

    principal: PrincipalName = Field(alias="name", description="The principal that it speaks for.")
    role: Role
    services: Annotated[tuple[ServiceGlob, ...], Field(min_length=1, max_length=MAX_GLOBS)] | None = Field(
        default=None,
        description="Globs of the services that it may touch. Absent: all.",
    )
    ttl_s: Annotated[StrictInt, Field(ge=1, le=MAX_TTL_S), INTEGRAL] | None = Field(
        default=None,
        description="For how many seconds it is valid. Absent: until it is revoked.",
    )
    alg: Algorithm = "HS256"
    public_jwk: PublicJwk | None = Field(
        default=None,
        validate_default=True,
        description="The owner's public key: for Ed25519, and needed there.",
    )

    @field_validator("public_jwk")
    @classmethod
    def _fits_algorithm(cls, key: PublicJwk | None, info: ValidationInfo) -> PublicJwk | None:
        if info.data.get("alg") == "Ed25519" and key is None:
            raise PydanticCustomError("missing", "is needed for Ed25519: the daemon makes no private keys for others")
        if info.data.get("alg") == "HS256" and key is not None:
            raise PydanticCustomError("not_for_hs256", 'is for Ed25519: add "alg":"Ed25519", or leave it out')
        return key


class TokenRevoke(Command):
    """Revoke a token for good."""

    name: ClassVar[str] = "token/revoke"
    needs: ClassVar[Permission] = Permission.MANAGE
    result: ClassVar[type[Result]] = TokenInfo
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND,)
    actions: ClassVar[tuple[Action, ...]] = (Action.REVOKE_TOKEN,)

    kid: Kid


class TokenRotate(Command):
    """Put a new token in the place of one, which goes on for a while."""

    name: ClassVar[str] = "token/rotate"
    needs: ClassVar[Permission] = Permission.MANAGE
    result: ClassVar[type[Result]] = SuccessorToken
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND, Code.ALREADY_EXISTS)
    actions: ClassVar[tuple[Action, ...]] = (Action.ROTATE_TOKEN,)

    kid: Kid
    grace_s: Annotated[StrictInt, Field(ge=0, le=MAX_TTL_S), INTEGRAL] = Field(
        default=DEFAULT_GRACE_S,
        description="For how many seconds the old one still counts, unless it ends earlier.",
    )
    public_jwk: PublicJwk | None = Field(
        default=None,
        description="The owner's new public key: for an Ed25519 token, and needed there.",
    )
