"""What the running daemon knows of itself; the one mutable thing that several parts look at."""

from collections.abc import Callable
from dataclasses import dataclass

from setpoint_contracts.system import Limits, Mode


@dataclass(slots=True)
class Runtime:
    """One run of the daemon.

    ``reason`` says why ``mode`` is not active, ``broker_problem`` why there is no connection (None: there is one).
    ``uptime`` gives seconds.
    """

    version: str
    instance: str
    limits: Limits
    uptime: Callable[[], float]
    mode: Mode = "starting"
    reason: str | None = None
    broker_problem: str | None = "not connected yet"
