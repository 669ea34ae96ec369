"""What the running daemon knows of itself; the one mutable thing that several parts look at."""

from dataclasses import dataclass

from setpoint_contracts.system import Limits, Mode


@dataclass(slots=True)
class Runtime:
    """What one run of the daemon is. ``reason`` says why ``mode`` is not active; ``started_at`` is in POSIX seconds."""

    version: str
    instance: str
    started_at: float
    limits: Limits
    mode: Mode = "starting"
    reason: str | None = None
    connected: bool = False
