"""Every command on one line: its model, its handler, and how it runs.

A handler is a plain function ``(snapshot or tx, call, command) -> Result`` that runs inside one snapshot (a read) or
one transaction (a write; the event loop runs it itself if it is quick). A scan is a read that may be long: its snapshot
is that of another thread. A write that is too long for one transaction is done in slices, each in one of its own: the
handler is ``(tx, call, command, so_far) -> Result or so far``, and is called again with what it returned until that is
its ``Result``. Or it is ``(call, command) -> Result`` and runs on a thread of its own (a job: what is long, or is no
transaction). No handler publishes, logs, commits, waits or looks at a clock. It refuses by raising ``Rejected``.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

from setpoint_contracts import COMMANDS, Change, Command
from setpoint_contracts.access import TokenCreate, TokenList, TokenRevoke, TokenRotate
from setpoint_contracts.applied import Applied
from setpoint_contracts.audit_log import AuditQuery
from setpoint_contracts.config import Apply, Delete, Get, List, Patch, Set
from setpoint_contracts.config_schema import SchemaDelete, SchemaGet, SchemaList, SchemaSet
from setpoint_contracts.history import Diff, HistoryQuery, HistoryRestore, HistoryVersions
from setpoint_contracts.profiles import ProfileDelete, ProfileGet, ProfileList, ProfileLoad, ProfileSave
from setpoint_contracts.retention import HistoryPrune
from setpoint_contracts.search import Search
from setpoint_contracts.system import EpochAdvance, Info, Status
from setpointd.call import Call
from setpointd.handlers import (
    access,
    applied,
    audit,
    config,
    epoch,
    history,
    profiles,
    retention,
    schemas,
    search,
    system,
)
from setpointd.render import Result
from setpointd.store import Snapshot, Tx

Kind = Literal["read", "scan", "write", "slices", "job"]
C = TypeVar("C", bound=Command)
D = TypeVar("D", bound=Change)
S = TypeVar("S")


class Entry(NamedTuple):
    """How a command runs.

    ``while_read_only``: it may run then. ``stored``: its reply is final, and repeated. ``explained``: it takes
    ``reason`` and ``dry_run``. ``quick``: a write that takes some milliseconds at most, or says in time that it takes
    more.
    """

    model: type[Command]
    handler: Callable[..., Any]
    kind: Kind
    while_read_only: bool
    stored: bool
    explained: bool
    quick: bool = False


def read(model: type[C], handler: Callable[[Snapshot, Call, C], Result]) -> Entry:
    """Make a command that reads: it runs whenever the daemon does, and is not stored."""
    return Entry(model, handler, "read", while_read_only=True, stored=False, explained=False)


def scan(model: type[C], handler: Callable[[Snapshot, Call, C], Result]) -> Entry:
    """Make a command that reads so much that the event loop must not wait for it."""
    return Entry(model, handler, "scan", while_read_only=True, stored=False, explained=False)


def write(
    model: type[C],
    handler: Callable[[Tx, Call, C], Result],
    *,
    while_read_only: bool = False,
) -> Entry:
    """Make a command that writes to the store: at most once, its reply stored with its effect."""
    return Entry(model, handler, "write", while_read_only=while_read_only, stored=True, explained=False)


def change(model: type[D], handler: Callable[[Tx, Call, D], Result], *, quick: bool = False) -> Entry:
    """Make a write that says why, and can be tried without an effect."""
    return Entry(model, handler, "write", while_read_only=False, stored=True, explained=True, quick=quick)


def slices(model: type[C], handler: Callable[[Tx, Call, C, S | None], Result | S]) -> Entry:
    """Make a write of many transactions: it may run partly, and again; its reply is stored with the last of them."""
    return Entry(model, handler, "slices", while_read_only=False, stored=True, explained=False)


def job(model: type[C], handler: Callable[[Call, C], Result], *, while_read_only: bool = True) -> Entry:
    """Make a command that is long, or no transaction."""
    return Entry(model, handler, "job", while_read_only=while_read_only, stored=False, explained=False)


def table(*entries: Entry) -> dict[str, Entry]:
    """Put entries under their names; ``RuntimeError`` when they are not exactly the commands of the contracts."""
    found = {entry.model.name: entry for entry in entries}
    if len(found) != len(entries) or found.keys() != COMMANDS.keys():
        names = sorted({entry.model.name for entry in entries} ^ COMMANDS.keys()) or "one of them twice"
        raise RuntimeError(f"contracts and table differ: {names}")
    return found


TABLE = table(
    read(Info, system.info),
    read(Status, system.status),
    read(Get, config.get),
    read(List, config.list_services),
    change(Set, config.set_config, quick=True),
    change(Patch, config.patch_config, quick=True),
    change(Delete, config.delete_config, quick=True),
    change(Apply, config.apply),
    scan(Search, search.search),
    read(Diff, history.diff),
    read(HistoryQuery, history.query),
    read(HistoryVersions, history.versions),
    change(HistoryRestore, history.restore),
    write(ProfileSave, profiles.save),
    read(ProfileList, profiles.list_profiles),
    read(ProfileGet, profiles.get),
    write(ProfileDelete, profiles.delete),
    change(ProfileLoad, profiles.load),
    write(SchemaSet, schemas.set_schema),
    read(SchemaGet, schemas.get_schema),
    read(SchemaList, schemas.list_schemas),
    write(SchemaDelete, schemas.delete_schema),
    slices(HistoryPrune, retention.prune),
    write(EpochAdvance, epoch.advance, while_read_only=True),
    write(TokenCreate, access.create),
    read(TokenList, access.list_tokens),
    write(TokenRevoke, access.revoke),
    write(TokenRotate, access.rotate),
    read(AuditQuery, audit.query),
    read(Applied, applied.list_applied),
)
