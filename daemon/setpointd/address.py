"""Where the reply to a command goes (wire sections 3, row 9, and 4). Pure."""

from dataclasses import dataclass
from typing import Any, Self

from setpoint_contracts import Topics
from setpoint_contracts.envelope import usable_jti
from setpoint_contracts.signing import VerifyingKey
from setpointd.auth import Principal
from setpointd.messages import Inbound


@dataclass(slots=True)
class ReturnAddress:
    """Whom to reply to, where, and under which id; known also when the claims turn out to be unacceptable.

    ``key`` is the one that the command was signed with. ``topic`` None: the caller wants no reply. ``refusal`` says why
    the wish was refused, if it was; then ``topic`` is the default one.
    """

    who: Principal
    key: VerifyingKey
    command: str
    jti: str | None
    topic: str | None
    refusal: str | None
    correlation: bytes | None

    @classmethod
    def of(cls, message: Inbound, who: Principal, key: VerifyingKey, readable: dict[str, Any], topics: Topics) -> Self:
        """Read it off a message whose signature holds, and off what is ``readable`` of its claims."""
        jti = usable_jti(readable)
        topic, refusal = _choose(readable, message, who, topics, jti or "invalid")
        return cls(who, key, topics.command_name(message.topic), jti, topic, refusal, message.correlation_data)


def _choose(
    readable: dict[str, Any],
    message: Inbound,
    who: Principal,
    topics: Topics,
    default: str,
) -> tuple[str | None, str | None]:
    fallback = topics.reply(who.name, default)
    wish = readable.get("reply_to", message.response_topic)
    if wish is None:
        return (None if "reply_to" in readable else fallback), None
    if not isinstance(wish, str):
        return fallback, None  # the claims will be refused for it
    if message.response_topic not in {None, wish}:
        return fallback, "reply_to and the MQTT 5 Response Topic differ; give one of them, or both alike"
    refusal = topics.reply_refusal(who.name, wish)
    return (wish if refusal is None else fallback), refusal
