"""The claims of a command and the reply to it (wire sections 2 and 4)."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from setpoint_contracts import strictjson
from setpoint_contracts.errors import Code
from setpoint_contracts.model import Model
from setpoint_contracts.names import Jti
from setpoint_contracts.numbers import Integer
from setpoint_contracts.timestamps import Timestamp

NumericDate = Annotated[float, Field(strict=True, ge=0, le=253402300799)]
"""Seconds since the epoch, with or without a fraction (RFC 7519 section 2); until the year 9999."""


class Claims(Model):
    """What a signed command says. Unknown claims are refused; ``reply_to`` set to null asks for no reply."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    jti: Jti
    aud: Annotated[str, Field(strict=True)]
    iat: NumericDate
    exp: NumericDate
    params: dict[str, Any] = Field(default={})
    reply_to: Annotated[str | None, Field(strict=True)] = None
    sub: Annotated[str, Field(strict=True)] | None = None
    iss: Annotated[str, Field(strict=True)] | None = None
    nbf: NumericDate | None = None


class ErrorBody(Model):
    """Why a command was refused."""

    model_config = ConfigDict(extra="forbid")

    code: Code
    message: str
    retryable: bool
    details: dict[str, Any] = Field(default={})


class Reply(Model):
    """The answer to a command: ``result`` when ``ok``, else ``error``."""

    model_config = ConfigDict(extra="forbid")

    id: Jti | None = Field(description="The command's jti; null when it had none that can be used.")
    command: str
    ok: bool
    result: dict[str, Any] | None = None
    error: ErrorBody | None = None
    revision: Integer
    epoch: Integer
    ts: Timestamp


_JTI = TypeAdapter(Jti)
_FOR_ANSWERING = ("jti", "reply_to")


@dataclass(slots=True)
class ParsedClaims:
    """Signed claims as JSON, read once: ``members``, or which rule of JSON they break.

    ``readable``: the ``jti`` and the ``reply_to`` at their top, if any, for the one purpose of answering them.
    """

    members: Any
    refusal: str | None
    readable: dict[str, Any]

    @classmethod
    def of(cls, claims: bytes) -> "ParsedClaims":
        """Read claims, whatever they hold."""
        try:
            members = strictjson.loads(claims)
        except strictjson.InvalidJsonError as error:
            return cls(None, str(error.args[0]), readable_claims(claims))
        return cls(members, None, _for_answering(members))


def readable_claims(claims: bytes) -> dict[str, Any]:
    """Read what is needed to answer claims that are refused.

    The sender is known by then, so it should learn where it waits what is wrong with its claims. They need not be
    acceptable, and the members may hold anything; but what no reader of JSON can read gives nothing.
    """
    try:
        return _for_answering(strictjson.loads_leniently(claims))
    except strictjson.InvalidJsonError:
        return {}


def _for_answering(members: Any) -> dict[str, Any]:
    if not isinstance(members, dict):
        return {}
    return {name: members[name] for name in _FOR_ANSWERING if name in members}


def usable_jti(claims: dict[str, Any]) -> str | None:
    """Return the jti of readable claims, when it can stand in a topic."""
    try:
        return _JTI.validate_python(claims.get("jti"))
    except ValidationError:
        return None
