"""The daemon's modes, as a table: mode, event, next mode, and what is said of it.

``starting`` and ``standby`` go by what the broker shows (wire section 7). ``read_only`` for ``superseded``,
``stale_store`` or ``foreign_store`` ends by a decision only: ``epoch/advance``. (Or by a new start, to which the broker
shows something else.) What is not in the table changes nothing. MQTT reason 0x8E ends the daemon in every mode.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from setpoint_contracts.system import Mode
from setpointd.log import logger
from setpointd.runtime import Runtime

Listener = Callable[[], None]
Event = Literal["clear", "alive", "stale_store", "foreign_store", "superseded", "advanced"]


@dataclass(frozen=True, slots=True)
class Transition:
    """``says``: whether the change is published on the health topic. A standby is silent: the topic is another's."""

    mode: Mode
    event: Event
    next: Mode
    says: bool


TRANSITIONS = (
    Transition("starting", "clear", "active", says=True),
    Transition("starting", "alive", "standby", says=False),
    Transition("starting", "stale_store", "read_only", says=True),
    Transition("starting", "foreign_store", "read_only", says=True),
    Transition("standby", "clear", "active", says=True),
    Transition("standby", "alive", "standby", says=False),
    Transition("standby", "stale_store", "read_only", says=True),
    Transition("standby", "foreign_store", "read_only", says=True),
    Transition("active", "superseded", "read_only", says=True),
    Transition("read_only", "advanced", "active", says=True),
)
_TABLE = {(row.mode, row.event): row for row in TRANSITIONS}


class Modes:
    """Moves ``runtime`` from mode to mode. ``active`` is set while this daemon is the writer.

    ``on_change`` are called after a change that is to be said.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.active = asyncio.Event()
        self.on_change: list[Listener] = []
        self._runtime = runtime

    def on(self, event: Event, reason: str | None = None) -> None:
        """Take note of an event; ``reason`` is for people, and the event's own name unless given."""
        row = _TABLE.get((self._runtime.mode, event))
        if row is None:
            return
        reason = None if row.next == "active" else reason or event
        if (row.next, reason) == (self._runtime.mode, self._runtime.reason):
            return
        self._runtime.mode, self._runtime.reason = row.next, reason
        logger().info("mode", mode=row.next, reason=reason)
        if row.next == "active":
            self.active.set()
        else:
            self.active.clear()
        if row.says:
            for listener in self.on_change:
                listener()
