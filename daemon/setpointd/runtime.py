"""What the running daemon knows of itself; the one mutable thing that several parts look at."""

from collections.abc import Callable
from dataclasses import dataclass, field

from setpoint_contracts.system import Limits, Mode
from setpointd.records import DocumentKind


@dataclass(slots=True)
class Runtime:
    """One run of the daemon.

    ``reason`` says why ``mode`` is not active, ``broker_problem`` why there is no connection (None: there is one).
    ``max_packet_bytes`` is what the broker takes (None: anything), ``oversized`` are the updates and schemas that are
    larger. ``uptime`` gives seconds, and ``oldest_job_s`` those for which the oldest write has been waiting.
    """

    version: str
    instance: str
    limits: Limits
    uptime: Callable[[], float]
    oldest_job_s: Callable[[], float] = lambda: 0.0
    mode: Mode = "starting"
    reason: str | None = None
    broker_problem: str | None = "not connected yet"
    max_packet_bytes: int | None = None
    oversized: set[tuple[DocumentKind, str]] = field(default_factory=set)
