"""What a message asks for, once its signature holds: the checks of its claims (wire section 3, rows 4 to 12). Pure."""

import hashlib
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from setpoint_contracts import COMMANDS, Claims, Code, Command, Topics, strictjson
from setpoint_contracts.envelope import readable_claims, usable_jti
from setpoint_contracts.system import Limits
from setpoint_contracts.timestamps import rfc3339
from setpointd.auth import Principal
from setpointd.errors import Rejected
from setpointd.messages import Inbound

# So that no reply is many times as large as its command.
MAX_ERRORS = 100
# Times in claims are doubles: a lifetime of exactly the limit may come out a little above it.
_ROUNDING_S = 0.001


@dataclass(frozen=True, slots=True)
class Request:
    """A signed message and where its answer goes. ``reply_topic`` None: the caller wants no answer."""

    inbound: Inbound
    who: Principal
    claims: bytes
    digest: bytes
    command: str
    jti: str | None
    reply_topic: str | None
    reply_refusal: str | None

    @classmethod
    def read(cls, inbound: Inbound, who: Principal, claims: bytes, topics: Topics) -> Self:
        """Find out where to answer, also when the claims turn out to be unacceptable."""
        readable = readable_claims(claims)
        jti = usable_jti(readable)
        reply_topic, refusal = _reply_topic(readable, inbound, who, topics, jti or "invalid")
        return cls(
            inbound=inbound,
            who=who,
            claims=claims,
            digest=hashlib.sha256(inbound.payload.strip()).digest(),
            command=topics.command_name(inbound.topic),
            jti=jti,
            reply_topic=reply_topic,
            reply_refusal=refusal,
        )

    def accept_claims(self, limits: Limits) -> Claims:
        """Row 4: read the claims, or say what is wrong with them."""
        try:
            found = strictjson.loads(self.claims)
            if not isinstance(found, dict):
                raise Rejected(Code.BAD_REQUEST, "the claims are refused: they must be a JSON object")
            claims = Claims.model_validate(found)
        except strictjson.InvalidJsonError as error:
            raise Rejected(Code.BAD_REQUEST, f"the claims are refused: {error.args[0]}") from None
        except ValidationError as error:
            raise _misfit("the claims", error) from None
        if claims.exp <= claims.iat:
            raise Rejected(Code.BAD_REQUEST, "exp must be later than iat")
        if claims.exp - claims.iat > limits.max_command_lifetime_s + _ROUNDING_S:
            message = f"exp is more than {limits.max_command_lifetime_s} s after iat; sign for a shorter time"
            raise Rejected(Code.BAD_REQUEST, message)
        if claims.sub is not None and claims.sub != self.who.name:
            raise Rejected(Code.BAD_REQUEST, f"sub is not the token's name, {self.who.name}; leave it out")
        return claims

    def check_topic(self, claims: Claims) -> None:
        """Row 5: signed for this topic and no other."""
        if claims.aud != self.inbound.topic:
            message = f"aud must be the topic that the command is published to, {self.inbound.topic}"
            raise Rejected(Code.WRONG_TOPIC, message)

    def check_times(self, claims: Claims, now: float, limits: Limits) -> None:
        """Row 8: neither too old nor from the future. The daemon's time goes along, to set the caller's clock by."""
        server_time = rfc3339(now)
        waited = now - self.inbound.received_at
        if claims.exp <= now or (self.inbound.expiry_s is not None and waited > self.inbound.expiry_s):
            raise Rejected(Code.EXPIRED, "the command has expired; sign it again", server_time=server_time)
        if max(claims.iat, claims.nbf or 0) > now + limits.max_clock_skew_s:
            message = "iat or nbf is in the future; set your clock, then sign again"
            raise Rejected(Code.CLOCK_SKEW, message, server_time=server_time)

    def check_reply_topic(self) -> None:
        """Row 9: answers go below the caller's own prefix only."""
        if self.reply_refusal is not None:
            raise Rejected(Code.BAD_REPLY_TOPIC, self.reply_refusal)

    def parse(self, claims: Claims) -> Command:
        """Rows 10 and 12: a known command with parameters that fit."""
        model = COMMANDS.get(self.command)
        if model is None:
            raise Rejected(Code.UNKNOWN_COMMAND, "there is no such command", known=sorted(COMMANDS))
        try:
            return model.model_validate(claims.params)
        except ValidationError as error:
            raise _misfit("the parameters", error) from None


def _reply_topic(
    readable: dict[str, Any],
    inbound: Inbound,
    who: Principal,
    topics: Topics,
    default: str,
) -> tuple[str | None, str | None]:
    """Choose where to answer, and say why the wish was refused if it was (then the default is chosen)."""
    fallback = topics.reply(who.name, default)
    wish = readable.get("reply_to", inbound.response_topic)
    if wish is None:
        return (None if "reply_to" in readable else fallback), None
    if not isinstance(wish, str):
        return fallback, None  # the claims will be refused for it
    if inbound.response_topic not in {None, wish}:
        return fallback, "reply_to and the MQTT 5 Response Topic differ; give one of them, or both alike"
    refusal = topics.reply_refusal(who.name, wish)
    return (wish if refusal is None else fallback), refusal


def _misfit(what: str, error: ValidationError) -> Rejected:
    """Tell what does not fit, field by field up to ``MAX_ERRORS``, without repeating any value."""
    errors = [
        {"field": ".".join(map(str, found["loc"])), "message": found["msg"], "type": found["type"]}
        for found in error.errors(include_url=False, include_input=False, include_context=False)[:MAX_ERRORS]
    ]
    first = f"{errors[0]['field']}: {errors[0]['message']}".removeprefix(": ")
    return Rejected(Code.BAD_REQUEST, f"{what} do not fit: {first}", errors=errors)
