"""The table of commands: all of them, each with a handler of its kind, which mypy holds to what it may use."""

from pathlib import Path

import pytest
from mypy import api

from setpoint_contracts import COMMANDS, Change
from setpoint_contracts.config import Get, Set
from setpoint_contracts.retention import HistoryPrune
from setpoint_contracts.system import EpochAdvance
from setpointd.handlers import config, epoch, retention
from setpointd.render import Result
from setpointd.table import TABLE, Entry, change, job, read, scan, slices, table, write


def test_the_table_holds_exactly_the_contracts_commands() -> None:
    """The commands of the contracts and the lines of the table are the same set, each with its own model."""
    assert {name: entry.model for name, entry in TABLE.items()} == COMMANDS


def test_a_missing_command_is_noticed() -> None:
    """The daemon refuses to start without a line for a command, and names it."""
    with pytest.raises(RuntimeError, match=r"differ: \['set'\]"):
        table(*(entry for name, entry in TABLE.items() if name != "set"))


def test_a_command_without_contract_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon refuses to start with a line that no command of the contracts asks for."""
    monkeypatch.delitem(COMMANDS, "get")
    with pytest.raises(RuntimeError, match=r"differ: \['get'\]"):
        table(*TABLE.values())


def test_a_second_handler_is_refused() -> None:
    """One command, one handler: which one would run is never a matter of order."""
    with pytest.raises(RuntimeError, match="twice"):
        table(*TABLE.values(), TABLE["get"])


def test_what_changes_a_config_says_why() -> None:
    """Exactly the commands whose model takes a reason and a dry run are marked so."""
    assert {name for name, entry in TABLE.items() if entry.explained} == {
        name for name, model in COMMANDS.items() if issubclass(model, Change)
    }


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (read(Get, config.get), ("read", True, False, False)),
        (scan(Get, config.get), ("scan", True, False, False)),
        (write(EpochAdvance, epoch.advance), ("write", False, True, False)),
        (write(EpochAdvance, epoch.advance, while_read_only=True), ("write", True, True, False)),
        (change(Set, config.set_config), ("write", False, True, True)),
        (slices(HistoryPrune, retention.prune), ("slices", False, True, False)),
        (job(Get, lambda _call, _command: Result()), ("job", True, False, False)),
        (job(Get, lambda _call, _command: Result(), while_read_only=False), ("job", False, False, False)),
    ],
    ids=["read", "scan", "write", "write while read-only", "change", "slices", "job", "job while active only"],
)
def test_a_kind_says_how_a_command_runs(entry: Entry, expected: tuple[str, bool, bool, bool]) -> None:
    """Its kind, whether it runs while read-only, whether its reply is final, whether it says why."""
    assert (entry.kind, entry.while_read_only, entry.stored, entry.explained) == expected


PREAMBLE = """
from setpoint_contracts.config import Delete, Get, Set
from setpoint_contracts.system import EpochAdvance
from setpointd.call import Call
from setpointd.render import Result
from setpointd.store import Snapshot, Tx
from setpointd.table import change, job, read, scan, slices, write

def reads(snapshot: Snapshot, call: Call, command: Get) -> Result: return Result()
def writes(tx: Tx, call: Call, command: Get) -> Result: return Result()
def changes(tx: Tx, call: Call, command: Set) -> Result: return Result()
def goes_on(tx: Tx, call: Call, command: Get, so_far: int | None) -> Result | int: return 1
def works(call: Call, command: Get) -> Result: return Result()
def answers_text(snapshot: Snapshot, call: Call, command: Get) -> str: return ""
async def waits(snapshot: Snapshot, call: Call, command: Get) -> Result: return Result()

"""
FINE = (
    "read(Get, reads)",
    "scan(Get, reads)",
    "write(Get, writes)",
    "write(Get, reads)",
    "change(Set, changes)",
    "job(Get, works)",
    "slices(Get, goes_on)",
)
REFUSED = (
    "read(Get, writes)",
    "read(Set, reads)",
    "scan(Get, writes)",
    "read(Get, works)",
    "read(Get, answers_text)",
    "read(Get, waits)",
    "write(Set, writes)",
    "change(Get, writes)",
    "change(Delete, changes)",
    "job(Get, reads)",
    "slices(Get, writes)",
    "slices(Set, goes_on)",
)


def test_a_handler_may_use_what_its_kind_has_and_no_more(tmp_path: Path) -> None:
    """Mypy takes each handler on the line of its kind, and refuses a read that asks for a Tx, or any other mismatch."""
    program = tmp_path / "program.py"
    program.write_text(PREAMBLE + "\n".join(FINE + REFUSED) + "\n")
    first = PREAMBLE.count("\n") + len(FINE) + 1
    said, problems, _ = api.run(["--strict", "--no-error-summary", "--hide-error-context", str(program)])
    assert problems == ""
    refused = {int(line.split(":")[1]) for line in said.splitlines() if ": error: " in line}
    assert refused == set(range(first, first + len(REFUSED)))
