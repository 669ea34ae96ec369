"""A command as it is sent."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SignedCommand:
    """A command as it is sent. It is no secret, but whoever has it can send it until ``expires_at`` (POSIX seconds)."""

    name: str
    jti: str
    topic: str
    payload: bytes = field(repr=False)
    reply_topic: str
    expires_at: float
    has_effect: bool = True
    """Whether it is to change something: no command that reads, and none that is only tried (``dry_run``)."""
