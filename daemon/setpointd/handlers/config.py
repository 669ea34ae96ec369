"""Commands on the config of a service (wire sections 5 and 6)."""

from collections.abc import Callable
from itertools import islice

from setpoint_contracts import Change, Code
from setpoint_contracts.config import Apply, Delete, Get, List, Patch, Set
from setpointd.call import Call
from setpointd.difference import merge_patch
from setpointd.errors import Rejected
from setpointd.handlers.reading import then
from setpointd.handlers.writing import Cause, expected, living, put, remove
from setpointd.records import Document
from setpointd.render import Result
from setpointd.store import Snapshot, Tx


def get(snapshot: Snapshot, _call: Call, command: Get) -> Result:
    """Read a config, now or as it was."""
    document = _find(snapshot, command)
    if command.key is None:
        return Result(document)
    if document.config is None or command.key not in document.config:
        raise Rejected(Code.NOT_FOUND, f"{command.service} has no key {command.key} at version {document.version}")
    return Result(document, value=document.config[command.key])


def _find(snapshot: Snapshot, command: Get) -> Document:
    document, when = then(snapshot, command.service, command), ""
    if command.version is not None and document is not None:
        return document  # a tombstone too
    if command.revision is not None:
        when = f" at revision {command.revision}"
    elif command.time is not None:
        when = f" at {command.time}"
    return living(command.service, document, when)


def list_services(snapshot: Snapshot, call: Call, command: List) -> Result:
    """List the services that the caller sees."""
    listed = (
        (document, keys)
        for document, keys in snapshot.config.services(command.prefix, command.after)
        if call.who.sees(document.service)
    )
    page = list(islice(listed, command.limit + 1))
    services = [{**document.head(), "keys": keys} for document, keys in page[: command.limit]]
    return Result(services=services, next=services[-1]["service"] if len(page) > command.limit else None)


def set_config(tx: Tx, call: Call, command: Set) -> Result:
    """Replace a config."""
    return _set(tx, call, command, _cause(command))


def patch_config(tx: Tx, call: Call, command: Patch) -> Result:
    """Change parts of a config."""
    return _patch(tx, call, command, _cause(command))


def delete_config(tx: Tx, call: Call, command: Delete) -> Result:
    """Make a tombstone."""
    return Result(_delete(tx, call, command, _cause(command)).document)


def apply(tx: Tx, call: Call, command: Apply) -> Result:
    """Carry out changes of several services, all or none of them."""
    results = []
    for index, item in enumerate(command.changes):
        change = item.change()
        try:
            results.append(_CHANGES[type(change)](tx, call, change, Cause(change.name, command.reason)))
        except Rejected as refusal:
            refusal.details["index"] = index
            raise
    return Result(results=results)


def _set(tx: Tx, call: Call, command: Set, cause: Cause) -> Result:
    before = expected(tx, call, command.service, command.expected_version)
    return put(tx, call, command.service, before, command.config, cause)


def _patch(tx: Tx, call: Call, command: Patch, cause: Cause) -> Result:
    before = living(command.service, expected(tx, call, command.service, command.expected_version))
    return put(tx, call, command.service, before, merge_patch(before.config, command.patch), cause)


def _delete(tx: Tx, call: Call, command: Delete, cause: Cause) -> Result:
    return remove(tx, living(command.service, expected(tx, call, command.service, command.expected_version)), cause)


_CHANGES: dict[type[Change], Callable[..., Result]] = {Set: _set, Patch: _patch, Delete: _delete}


def _cause(command: Set | Patch | Delete) -> Cause:
    return Cause(command.name, command.reason)
