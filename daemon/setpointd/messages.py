"""What comes from the broker and what goes to it, as plain values."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple


class Inbound(NamedTuple):
    """A message that arrived. ``received_at`` is in POSIX seconds, ``expiry_s`` the MQTT 5 message expiry left then.

    ``jws`` is the user property of that name: a detached signature, if its sender is a daemon.
    """

    topic: str
    payload: bytes
    retain: bool
    received_at: float
    response_topic: str | None = None
    correlation_data: bytes | None = None
    expiry_s: int | None = None
    jws: str | None = None


@dataclass(slots=True)
class Outbound:
    """A message to publish at QoS 1. ``jws`` is the detached signature over topic and payload (wire section 4)."""

    topic: str
    payload: bytes
    jws: str | None = None
    retain: bool = False
    correlation_data: bytes | None = None


Handle = Callable[[Inbound], Awaitable[Outbound | None]]
"""What makes a reply of a message, or none."""
