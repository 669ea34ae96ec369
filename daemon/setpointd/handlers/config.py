"""Commands on the config of a service (wire sections 5 and 6)."""

from itertools import islice
from typing import Any

from setpoint_contracts import Code, strictjson
from setpoint_contracts.config import MAX_CONFIG_KEYS, Delete, Get, List, Patch, Set
from setpoint_contracts.system import Limits
from setpointd.call import Call
from setpointd.difference import differences, merge_patch
from setpointd.errors import BadRequest, Rejected, VersionConflict
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
    service = command.service
    if command.version is not None:
        if document := snapshot.config.at_version(service, command.version):
            return document
        raise Rejected(Code.NOT_FOUND, f"{service} has no version {command.version}")
    if command.revision is not None:
        document, when = snapshot.config.at_revision(service, command.revision), f" at revision {command.revision}"
    elif command.time is not None:
        document, when = snapshot.config.at_time(service, command.time), f" at {command.time}"
    else:
        document, when = snapshot.config.current(service), ""
    return _living(service, document, when)


def _living(service: str, document: Document | None, when: str = "") -> Document:
    if document is None:
        raise Rejected(Code.NOT_FOUND, f"there is no service {service}{when}")
    if document.deleted:
        raise Rejected(Code.NOT_FOUND, f"{service} is deleted{when}", current=document)
    return document


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
    before = _expected(tx, call, command)
    return _write(tx, call, command, before, command.config)


def patch_config(tx: Tx, call: Call, command: Patch) -> Result:
    """Change parts of a config."""
    before = _living(command.service, _expected(tx, call, command))
    return _write(tx, call, command, before, merge_patch(before.config, command.patch))


def delete_config(tx: Tx, call: Call, command: Delete) -> Result:
    """Make a tombstone."""
    before = _living(command.service, _expected(tx, call, command))
    document = tx.config.write_version(command.service, before, None, op=command.name, reason=command.reason)
    return Result(document)


def _expected(tx: Tx, call: Call, command: Set | Patch | Delete) -> Document | None:
    """The newest version of the service, once it is the one that the caller expects."""
    current = tx.config.current(command.service)
    expected = command.expected_version
    if expected is None:
        if call.limits.require_expected_version:
            raise BadRequest("expected_version", "is required here; 0 means that the service is new", "missing")
        return current
    absent = current is None or current.deleted
    at = 0 if current is None else current.version
    if expected != at and not (expected == 0 and absent):
        raise VersionConflict(command.service, expected, current)
    return current


def _write(tx: Tx, call: Call, command: Set | Patch, before: Document | None, config: dict[str, Any]) -> Result:
    _check_size(config, call.limits)
    old = before.config if before is not None else None
    diff = differences(old or {}, config)
    if old is not None and before is not None and not diff:
        return Result(before, changed=False, diff=[])
    document = tx.config.write_version(command.service, before, config, op=command.name, reason=command.reason)
    return Result(document, changed=True, diff=diff)


def _check_size(config: dict[str, Any], limits: Limits) -> None:
    size = len(strictjson.dumps(config).encode())
    if size > limits.max_config_bytes:
        message = f"the config has {size} bytes; at most {limits.max_config_bytes} are allowed"
        raise Rejected(Code.TOO_LARGE, message, bytes=size, max_bytes=limits.max_config_bytes)
    if len(config) > MAX_CONFIG_KEYS:
        message = f"the config has {len(config)} top-level keys; at most {MAX_CONFIG_KEYS} are allowed"
        raise Rejected(Code.TOO_LARGE, message, keys=len(config), max_keys=MAX_CONFIG_KEYS)
