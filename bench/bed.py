"""What every part of a run works with: how much is measured, where, and on which broker."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sizes:
    """How much is measured. What has seconds beside a number of commands ends with whichever comes first."""

    fsyncs: int = 300
    turns: int = 3
    warm_up: int = 50
    alone: int = 400
    alone_s: float = 1.5
    in_flight: int = 100
    commands: int = 6000
    seconds: float = 1.5
    services: int = 50
    other_services: tuple[int, ...] = (1, 5000)
    history_rows: tuple[int, ...] = (0, 100_000, 1_000_000)
    history_turns: int = 3
    full_load: int = 20_000
    full_load_s: float = 5.0
    steady_per_s: int = 300
    steady: int = 900
    steady_turns: int = 3
    wear_alone: int = 300
    wear_loaded: int = 3000
    queued: int = 5000
    starts: int = 3
    large_services: int = 10_000
    large_config_bytes: int = 1000


QUICK = Sizes(
    fsyncs=20,
    turns=1,
    warm_up=5,
    alone=20,
    commands=200,
    seconds=0.5,
    services=10,
    other_services=(1,),
    history_rows=(0, 1000),
    history_turns=1,
    full_load=200,
    full_load_s=0.5,
    steady=60,
    steady_turns=1,
    wear_alone=10,
    wear_loaded=100,
    queued=100,
    starts=1,
    large_services=100,
)


@dataclass(frozen=True)
class Bed:
    """``directory`` holds what is made for one run, ``kept`` the stores that later runs use again."""

    sizes: Sizes
    directory: Path
    kept: Path
    port: int
    broker_pid: int

    @property
    def log(self) -> Path:
        """Where the daemons log."""
        return self.directory / "setpointd.log"


def say(words: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"bench: {words}", file=sys.stderr, flush=True)
