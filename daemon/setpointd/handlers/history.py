"""Commands on what configs were (wire section 6)."""

from typing import Any

from setpoint_contracts import Code, Permission
from setpoint_contracts.audit import Action
from setpoint_contracts.difference import differences
from setpoint_contracts.history import POINTS, Diff, HistoryQuery, HistoryRestore, HistoryVersions, Point
from setpointd.call import Call
from setpointd.errors import BadRequest, Rejected
from setpointd.handlers.profiles import found
from setpointd.handlers.reading import then
from setpointd.handlers.writing import Cause, become_all
from setpointd.records import Document, HistoryFilter
from setpointd.render import Result
from setpointd.store import Snapshot, Tx


def query(snapshot: Snapshot, call: Call, command: HistoryQuery) -> Result:
    """List changes of keys of the services that the caller sees."""
    wanted = HistoryFilter(command.service, command.key, command.user, command.since, command.until, command.before)
    entries, further = snapshot.history.page(wanted, command.limit, call.who)
    return Result(entries=entries, next=further)


def versions(snapshot: Snapshot, _call: Call, command: HistoryVersions) -> Result:
    """List the versions of a service."""
    _check_known(snapshot, command.service)
    listed = snapshot.config.versions_of(command.service, command.before, command.limit + 1)
    page = listed[: command.limit]
    return Result(versions=page, next=page[-1]["version"] if len(listed) > command.limit else None)


def diff(snapshot: Snapshot, call: Call, command: Diff) -> Result:
    """Compare what a service was at two points."""
    _check_known(snapshot, command.service)
    old, new = (_side(snapshot, call, command.service, point) for point in (command.from_, command.to))
    result = Result(service=command.service)
    result.members |= {"from": _compared(old), "to": _compared(new)}  # `from` is a keyword
    result.members["diff"] = differences(old.config or {}, new.config or {})
    return result


def _side(snapshot: Snapshot, call: Call, service: str, point: Point) -> Document:
    if point.profile is None:
        document = then(snapshot, service, point)
    else:
        _, versions = found(snapshot, call, point.profile)
        document = snapshot.config.at_version(service, versions[service]) if service in versions else None
    return document or Document.absent(service)


def restore(tx: Tx, call: Call, command: HistoryRestore) -> Result:
    """Bring services back to what they were, in new versions; what was not there then is deleted."""
    revision = tx.identity.now().revision
    if command.revision is not None and command.revision > revision:
        text = f"the store is at revision {revision}; there is no later one to go back to"
        raise BadRequest("revision", text, "in_the_future", revision=revision)
    services = command.services or tx.config.names()
    moved = services
    if command.services is None:
        call.needs_all(Permission.WRITE, services)
        changed = tx.config.changed_since(command.revision, command.time)
        moved = [service for service in services if service in changed]  # the others need not be read
    for service in command.services or ():
        _check_known(tx, service)
    contents = {}
    for service in moved:
        document = then(tx, service, command)
        contents[service] = None if document is None else document.config
    point = {name: getattr(command, name) for name in POINTS if getattr(command, name) is not None}
    result = become_all(
        tx, call, contents, Cause("restore", command.reason, Action.RESTORE_CONFIG, {"restored": point})
    )
    result.members["unchanged"] += len(services) - len(moved)
    return result


def _check_known(snapshot: Snapshot, service: str) -> None:
    if snapshot.config.newest(service) is None:
        raise Rejected(Code.NOT_FOUND, f"there never was a service {service}", service=service)


def _compared(document: Document) -> dict[str, Any]:
    gone = {"deleted": True} if document.deleted else {}
    return {"version": document.version, "revision": document.revision, **gone}
