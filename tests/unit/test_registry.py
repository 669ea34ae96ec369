"""Which function runs which command."""

import pytest

from setpoint_contracts import COMMANDS
from setpointd.handlers import HANDLERS
from setpointd.registry import check_complete, handles


def test_every_command_has_a_handler() -> None:
    """The commands of the contracts and the handlers are the same set."""
    assert HANDLERS.keys() == COMMANDS.keys()
    check_complete()


def test_a_missing_handler_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon refuses to start without a handler of a command, and names it."""
    monkeypatch.delitem(HANDLERS, "set")
    with pytest.raises(RuntimeError, match="differ: set"):
        check_complete()


def test_a_handler_without_command_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon refuses to start with a handler that no command of the contracts asks for."""
    monkeypatch.setitem(HANDLERS, "explode", HANDLERS["get"])
    with pytest.raises(RuntimeError, match="differ: explode"):
        check_complete()


def test_a_second_handler_is_refused() -> None:
    """One command, one handler: which one would run is never a matter of import order."""
    before = dict(HANDLERS)
    with pytest.raises(RuntimeError, match="get has two handlers"):
        handles(COMMANDS["get"])(HANDLERS["get"])
    assert before == HANDLERS
