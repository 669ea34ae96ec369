"""Claims of a `get` by alice, and the message that carries them."""

import json
from typing import Any

from setpoint_contracts import Topics
from setpoint_contracts.envelope import ParsedClaims
from setpoint_contracts.signing import VerifyingKey
from setpointd.address import ReturnAddress
from setpointd.messages import Inbound
from tests.calls import ALICE, KEYS, NOW

TOPICS = Topics("site1/")
OWN = "site1/config/reply/alice/"
KEY = VerifyingKey("HS256", KEYS.seal)


def claims(**changed: object) -> dict[str, Any]:
    """Make claims that are fine now, for `get`, with some of them changed; ``...`` leaves one out."""
    fine = {"jti": "j-1", "aud": "site1/config/cmd/get", "iat": NOW - 1, "exp": NOW + 60, "params": {"service": "stt"}}
    return {name: value for name, value in {**fine, **changed}.items() if value is not ...}


def parsed(content: object) -> ParsedClaims:
    """Read claims as the pipeline does."""
    return ParsedClaims.of(encoded(content))


def encoded(content: object) -> bytes:
    """Write claims; bytes are what they are."""
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def message(command: str = "get", received_at: float = NOW, **properties: Any) -> Inbound:
    """Make a message on a command's topic."""
    return Inbound(TOPICS.command(command), b"a.b.c", retain=False, received_at=received_at, **properties)


def address(content: object, key: VerifyingKey = KEY, **properties: Any) -> ReturnAddress:
    """Read the return address off a message with these claims."""
    return ReturnAddress.of(message(**properties), ALICE, key, parsed(content).readable, TOPICS)
