"""How ``setpointd token`` learns that the daemon has taken a change of tokens in.

The daemon compares the store's tokens with those that it goes by, again and again, and names the latter in the file
``tokens.loaded``. Whoever has changed them waits until that is the name of what the store holds. Nothing has to be
handed over, so a change is taken in also when its maker was killed right after the commit.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from setpoint_contracts import strictjson
from setpointd import locks

DAEMON_LOCK = "daemon.lock"
_FILE = "tokens.loaded"
_POLL_S = 0.02
_NOT_TOLD = ("last_used_at",)  # it changes all the time, and decides nothing


def digest(tokens: Iterable[dict[str, Any]]) -> str:
    """Name a state of the token table."""
    rows = [{name: value for name, value in token.items() if name not in _NOT_TOLD} for token in tokens]
    return hashlib.sha256(strictjson.canonical(rows).encode()).hexdigest()


def tell(data_dir: Path, name: str) -> None:
    """Name the tokens that the daemon goes by from now on. Raises ``OSError``."""
    temporary = data_dir / f"{_FILE}.new"
    temporary.write_text(name)
    temporary.replace(data_dir / _FILE)


def wait(data_dir: Path, stored: Callable[[], str], wait_s: float) -> Literal["loaded", "no daemon", "not noticed"]:
    """Wait until the daemon that runs on a store goes by its tokens.

    ``stored`` names those that the store holds. It is asked each time: of two changes that come together, the daemon
    may never have gone by the first alone.
    """
    deadline = time.monotonic() + wait_s
    while is_running(data_dir):
        # A name that an earlier daemon left is as good: the one that runs has read the store after it.
        if _told(data_dir) == stored().encode():
            return "loaded"
        if time.monotonic() > deadline:
            return "not noticed"
        time.sleep(_POLL_S)
    return "no daemon"


def is_running(data_dir: Path) -> bool:
    """Whether a daemon runs on a store."""
    return locks.is_held(data_dir / DAEMON_LOCK)


def _told(data_dir: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return (data_dir / _FILE).read_bytes()
    return None
