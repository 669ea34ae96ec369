"""What a command must be before it may run: rows 4, 5, 8, 9, 10 and 12 of wire section 3. Pure, in their order."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from setpoint_contracts import Claims, Code, Command
from setpoint_contracts.envelope import ParsedClaims
from setpoint_contracts.misfits import line, misfits
from setpoint_contracts.system import Limits
from setpoint_contracts.timestamps import rfc3339
from setpointd.address import ReturnAddress
from setpointd.auth import Principal
from setpointd.errors import BadRequest, Rejected
from setpointd.messages import Inbound

# So that no reply is many times as large as its command.
MAX_ERRORS = 100
# Times in claims are doubles: a lifetime of exactly the limit may come out a little above it.
_ROUNDING_S = 0.001


def read_claims(parsed: ParsedClaims, who: Principal, limits: Limits) -> Claims:
    """Row 4: take the claims, or say what is wrong with them."""
    if parsed.refusal is not None:
        raise BadRequest("", f"the claims are refused: {parsed.refusal}", "json_invalid")
    if not isinstance(parsed.members, dict):
        raise BadRequest("", "the claims must be a JSON object", "dict_type")
    try:
        claims = Claims.model_validate(parsed.members)
    except ValidationError as error:
        raise _misfit("the claims", error) from None
    if claims.exp <= claims.iat:
        raise BadRequest("exp", "must be later than iat", "too_early")
    if claims.exp - claims.iat > limits.max_command_lifetime_s + _ROUNDING_S:
        excess = f"is more than {limits.max_command_lifetime_s} s after iat; sign for a shorter time"
        raise BadRequest("exp", excess, "too_late")
    if claims.sub is not None and claims.sub != who.name:
        raise BadRequest("sub", f"is not the token's name, {who.name}; leave it out", "wrong_name")
    return claims


def check_topic(claims: Claims, message: Inbound) -> None:
    """Row 5: signed for this topic and no other."""
    if claims.aud != message.topic:
        text = f"aud must be the topic that the command is published to, {message.topic}"
        raise Rejected(Code.WRONG_TOPIC, text)


def check_times(claims: Claims, message: Inbound, now: float, limits: Limits) -> None:
    """Row 8: neither too old nor from the future. The daemon's time goes along, to set the caller's clock by."""
    check_expiry(claims, message, now)
    if max(claims.iat, claims.nbf or 0) > now + limits.max_clock_skew_s:
        text = "iat or nbf is in the future; set your clock, then sign again"
        raise Rejected(Code.CLOCK_SKEW, text, server_time=rfc3339(now))


def check_expiry(claims: Claims, message: Inbound, now: float) -> None:
    """Row 8, its first half; a write that had to wait for its turn is looked at again then.

    The MQTT message expiry counts from when the message was received.
    """
    if claims.exp <= now or (message.expiry_s is not None and now - message.received_at > message.expiry_s):
        raise Rejected(Code.EXPIRED, "the command has expired; sign it again", server_time=rfc3339(now))


def check_reply_topic(address: ReturnAddress) -> None:
    """Row 9: replies go below the caller's own prefix only."""
    if address.refusal is not None:
        raise Rejected(Code.BAD_REPLY_TOPIC, address.refusal)


def read_params(model: type[Command], params: Mapping[str, Any]) -> Command:
    """Row 12: parameters that fit."""
    try:
        return model.model_validate(params)
    except ValidationError as error:
        raise _misfit("the parameters", error) from None


def _misfit(what: str, error: ValidationError) -> Rejected:
    errors = misfits(error, MAX_ERRORS)
    return Rejected(Code.BAD_REQUEST, f"{what} do not fit: {line(errors[0])}", errors=errors)
