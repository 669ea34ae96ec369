"""The daemon's modes: which event leads where, and what is said of it (wire section 7)."""

from typing import get_args

import pytest

from setpoint_contracts.system import Mode
from setpointd.broker.modes import TRANSITIONS, Event, Modes
from setpointd.runtime import Runtime
from tests.calls import new_runtime

MODES: tuple[Mode, ...] = get_args(Mode)
EVENTS: tuple[Event, ...] = get_args(Event)
PATHS: dict[tuple[Mode, Event], Mode] = {
    ("starting", "clear"): "active",
    ("starting", "alive"): "standby",
    ("starting", "stale_store"): "read_only",
    ("starting", "foreign_store"): "read_only",
    ("standby", "clear"): "active",
    ("standby", "alive"): "standby",
    ("standby", "stale_store"): "read_only",
    ("standby", "foreign_store"): "read_only",
    ("active", "superseded"): "read_only",
    ("read_only", "advanced"): "active",
}


def at(mode: Mode, reason: str | None = None) -> tuple[Modes, Runtime, list[str]]:
    """Make a daemon in a mode; gives the modes, what it knows of itself, and what it has said."""
    runtime, said = new_runtime(mode=mode), list[str]()
    runtime.reason = reason
    modes = Modes(runtime)
    modes.on_change.append(lambda: said.append(f"{runtime.mode}: {runtime.reason}"))
    return modes, runtime, said


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("event", EVENTS)
def test_an_event_leads_where_the_table_says_and_else_nowhere(mode: Mode, event: Event) -> None:
    """Every mode and every event; what leads nowhere changes nothing and is not said."""
    modes, runtime, said = at(mode, "as it was")
    modes.on(event)
    if (mode, event) not in PATHS:
        assert (runtime.mode, runtime.reason, said) == (mode, "as it was", [])
        return
    following = PATHS[mode, event]
    assert (runtime.mode, runtime.reason) == (following, None if following == "active" else event)
    assert modes.active.is_set() == (following == "active")


def test_each_mode_and_event_stand_once() -> None:
    """The table is a function."""
    assert len({(row.mode, row.event) for row in TRANSITIONS}) == len(TRANSITIONS) == len(PATHS)


@pytest.mark.parametrize("reason", ["superseded", "stale_store", "foreign_store"])
def test_read_only_ends_by_a_decision_only(reason: str) -> None:
    """Whatever the broker shows next, it stays; `epoch/advance` ends it."""
    modes, runtime, said = at("read_only", reason)
    for event in EVENTS:
        if event != "advanced":
            modes.on(event)
    assert (runtime.mode, runtime.reason, said) == ("read_only", reason, [])
    modes.on("advanced")
    assert (runtime.mode, runtime.reason, said) == ("active", None, ["active: None"])


def test_a_standby_is_silent() -> None:
    """The health topic is another's; that it took over, or may only read, is said."""
    modes, runtime, said = at("starting")
    modes.on("alive", "instance 1 is alive")
    assert (runtime.mode, runtime.reason, said) == ("standby", "instance 1 is alive", [])
    modes.on("alive", "instance 2 is alive")
    assert (runtime.reason, said) == ("instance 2 is alive", [])
    modes.on("clear")
    modes.on("superseded")
    assert said == ["active: None", "read_only: superseded"]


def test_what_is_already_so_is_not_said_again() -> None:
    """An active daemon that advances its epoch was the writer before; two claims supersede it once."""
    modes, _, said = at("active")
    modes.on("advanced")
    assert said == []
    modes.on("superseded")
    modes.on("superseded")
    assert said == ["read_only: superseded"]
