"""What a handler is called with, without a daemon around it."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from setpoint_contracts import Role, Token
from setpoint_contracts.applied import AppliedReport
from setpoint_contracts.keys import Secret
from setpoint_contracts.signing import VerifyingKey
from setpoint_contracts.system import Limits, Mode
from setpoint_contracts.timestamps import rfc3339
from setpointd.auth import Principal, principal_of
from setpointd.call import Call, Daemon
from setpointd.keys import Keys
from setpointd.records import Sighting
from setpointd.runtime import Runtime
from tests.limits import LIMITS

NOW = 1_767_225_600.0
"""The start of 2026 in POSIX seconds."""
INSTANCE = "6f7f4a1e-98ff-4a48-9d3f-8f2f5f3c8b11"
_TOKEN = Token.new("HS256", "tok_a", "alice", Role.ADMIN)
ALICE = principal_of(_TOKEN)
ALICES_KEY = VerifyingKey("HS256", _TOKEN.signing_key())


def new_keys(kid: str = "own-key") -> Keys:
    """Make a daemon's keys without their files."""
    return Keys(Secret(os.urandom(32)), VerifyingKey("Ed25519", Ed25519PrivateKey.generate()), kid)


KEYS = new_keys()


def new_runtime(limits: Limits = LIMITS, mode: Mode = "active", max_packet_bytes: int | None = None) -> Runtime:
    """Make what a running daemon knows of itself."""
    return Runtime("1.2.3", INSTANCE, limits, uptime=lambda: 1.0, mode=mode, max_packet_bytes=max_packet_bytes)


def lend(
    runtime: Runtime | None = None,
    *,
    seen: Sighting | None = None,
    activate: Callable[[], None] = lambda: None,
    learn: Callable[[Iterable[dict[str, Any]]], None] = lambda _: None,
    applied: Iterable[AppliedReport] = (),
) -> Daemon:
    """Make what a daemon lends to its handlers; nothing was seen on the broker unless told otherwise."""
    return Daemon(
        runtime=runtime or new_runtime(),
        keys=KEYS,
        fresh_id=lambda: "0123456789abcdef",
        fresh_secret=lambda: bytes(range(32)),
        sighting=lambda: seen or Sighting(),
        activate=activate,
        learn=learn,
        applied=lambda service: [report for report in applied if service in {None, report.service}],
    )


def make_call(
    daemon: Daemon | None = None, who: Principal = ALICE, now: float = NOW, key: VerifyingKey = ALICES_KEY
) -> Call:
    """Make one call, by an administrator unless told otherwise."""
    return Call("", who, key, now, rfc3339(now), daemon or lend())
