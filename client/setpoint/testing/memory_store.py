"""Configs in memory, with the behaviour of the daemon: for tests of a service that are to take no time.

It has the commands in ``_HANDLERS``. What it answers, and what it refuses, is checked against the daemon by
the same tests (tests/client/test_conformance.py).
"""

import copy
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from setpoint.errors import SetpointError, error_of
from setpoint_contracts import COMMANDS, Code, Command, config, history, search, strictjson, system
from setpoint_contracts.difference import differences, merge_patch
from setpoint_contracts.misfits import misfits
from setpoint_contracts.timestamps import rfc3339
from setpoint_contracts.tokens import Role

Json = dict[str, Any]

_MAX_CONFIG_BYTES = 131_072  # max_config_bytes (wire section 2)
_NEVER = {"version": 0, "revision": 0, "updated_at": None, "updated_by": None}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a service; ``config`` is None in a tombstone."""

    version: int
    revision: int
    at: str
    by: str
    config: Json | None
    reason: str | None
    request: str


@dataclass(slots=True)
class MemoryStore:
    """All versions of all services. ``published`` is called with each new document, as followers would get it."""

    principal: str
    published: Callable[[Json], None]
    revision: int = 0
    epoch: int = field(default_factory=lambda: int(time.time()))
    services: dict[str, list[Version]] = field(default_factory=dict)

    def answer(self, name: str, params: Mapping[str, Any]) -> Json:
        """Answer a command; the ``result``. Raises the error of its code."""
        if name not in COMMANDS:
            raise refusal(Code.UNKNOWN_COMMAND, f"there is no command {name}", known=sorted(_HANDLERS))
        if name not in _HANDLERS:
            text = f"there is no {name} in memory; test it with the fixture setpoint_server, on a real daemon"
            raise refusal(Code.UNKNOWN_COMMAND, text, known=sorted(_HANDLERS))
        try:
            command = COMMANDS[name].model_validate(strictjson.loads(strictjson.dumps(dict(params)).encode()))
        except ValidationError as error:
            raise refusal(Code.BAD_REQUEST, "the parameters do not fit", errors=misfits(error, 100)) from None
        return copy.deepcopy(_HANDLERS[name](self, command))

    def newest(self, service: str) -> Version | None:
        """Return the newest version, a tombstone too."""
        return self.services[service][-1] if service in self.services else None

    def living(self) -> Iterator[tuple[str, Version]]:
        """Go through the services that are there, by name."""
        for service in sorted(self.services):
            if (newest := self.services[service][-1]).config is not None:
                yield service, newest

    def at(self, service: str, point: Any) -> Version | None:
        """Return the version of a service at a point, as ``get`` and ``diff`` take it; the newest without one."""
        versions = self.services.get(service, [])
        if point.version is not None:
            versions = [one for one in versions if one.version == point.version]
        elif point.revision is not None:
            versions = [one for one in versions if one.revision <= point.revision]
        elif point.time is not None:
            versions = [one for one in versions if one.at <= point.time]
        return versions[-1] if versions else None

    def document(self, service: str, version: Version | None) -> Json:
        """Write a version as its document (wire section 5)."""
        if version is None:
            return {"service": service, **_NEVER, "epoch": self.epoch, "deleted": True}
        head = {"service": service, "version": version.version, "revision": version.revision, "epoch": self.epoch}
        about = {"updated_at": version.at, "updated_by": version.by}
        return {**head, **about, **({"deleted": True} if version.config is None else {"config": version.config})}

    def found(self, service: str, version: Version | None) -> Version:
        """Return a version that has a config; raises ``NotFound``."""
        if version is None:
            raise refusal(Code.NOT_FOUND, f"there is no service {service}")
        if version.config is None:
            text = f"there is no service {service}: it is deleted"
            raise refusal(Code.NOT_FOUND, text, current=self.document(service, version))
        return version

    def expect(self, service: str, expected: int | None) -> None:
        """Check that a service is at the version that a caller expects; raises ``VersionConflict``."""
        newest = self.newest(service)
        at = newest.version if newest else 0
        absent = newest is None or newest.config is None
        if expected is None or expected == at or (expected == 0 and absent):
            return
        text = f"{service} is at version {at}, not version {expected}"
        raise refusal(Code.VERSION_CONFLICT, text, current=self.document(service, newest))

    def commit(self, made: list[tuple[str, Version]]) -> None:
        """Make new versions count, all at once."""
        if made:
            self.revision += 1
        for service, version in made:
            self.services.setdefault(service, []).append(version)
        for service, version in made:
            self.published(copy.deepcopy(self.document(service, version)))


def refusal(code: Code, message: str, **details: Any) -> SetpointError:
    """Make the exception of a code."""
    return error_of({"code": code, "message": message, "retryable": code.retryable, "details": details})


@dataclass(slots=True)
class _Change:
    """What one ``set``, ``patch`` or ``delete`` makes; ``made`` is None when the config was the same already."""

    document: Json
    made: Version | None


def _changed(store: MemoryStore, command: Any) -> _Change:
    service, new = command.service, None
    store.expect(service, command.expected_version)
    before = store.newest(service)
    if isinstance(command, config.Set):
        new = dict(command.config)
    else:
        before = store.found(service, before)
        new = merge_patch(before.config, command.patch) if isinstance(command, config.Patch) else None
    old = before.config if before else None
    if new is not None and (size := len(strictjson.dumps(new).encode())) > _MAX_CONFIG_BYTES:
        raise refusal(Code.TOO_LARGE, f"the config has {size} bytes", bytes=size, max_bytes=_MAX_CONFIG_BYTES)
    diff = differences(old or {}, new or {})
    if old is not None and new is not None and not diff:
        return _Change({**store.document(service, before), "changed": False, "diff": []}, None)
    number = (before.version if before else 0) + 1
    now, request = rfc3339(time.time()), uuid.uuid4().hex
    made = Version(number, store.revision + 1, now, store.principal, new, command.reason, request)
    return _Change({**store.document(service, made), "changed": True, "diff": diff}, made)


def _finish(store: MemoryStore, changes: list[_Change], *, dry_run: bool) -> Json:
    """Make changes count, unless they are only tried; what the answer says of a trial."""
    if dry_run:
        return {"dry_run": True}
    store.commit([(change.document["service"], change.made) for change in changes if change.made is not None])
    return {}


def _change(store: MemoryStore, command: Any) -> Json:
    change = _changed(store, command)
    document = change.document
    if isinstance(command, config.Delete):
        document = _without(document, "changed", "diff")
    return {**document, **_finish(store, [change], dry_run=command.dry_run)}


def _apply(store: MemoryStore, command: config.Apply) -> Json:
    changes = []
    for index, one in enumerate(command.changes):
        try:
            changes.append(_changed(store, one.change().model_copy(update={"reason": command.reason})))
        except SetpointError as error:
            details = {**error.details, "index": index}
            raise error_of({"code": error.code, "message": error.message, "details": details}) from None
    results = [change.document for change in changes]
    return {"results": results, **_finish(store, changes, dry_run=command.dry_run)}


def _get(store: MemoryStore, command: config.Get) -> Json:
    found = store.at(command.service, command)
    if command.version is None or found is None:  # a version that is named may be a tombstone
        found = store.found(command.service, found)
    document, values = store.document(command.service, found), found.config or {}
    if command.key is None:
        return document
    if command.key not in values:
        raise refusal(Code.NOT_FOUND, f"{command.service} has no key {command.key} at version {found.version}")
    return {**document, "value": values[command.key]}


def _list(store: MemoryStore, command: config.List) -> Json:
    found = [
        {**_without(store.document(name, one), "config"), "keys": len(one.config or ())}
        for name, one in store.living()
        if name.startswith(command.prefix) and (command.after is None or name > command.after)
    ]
    page = found[: command.limit]
    return {"services": page, "next": page[-1]["service"] if len(found) > len(page) else None}


def _search(store: MemoryStore, command: search.Search) -> Json:
    text = command.query.casefold()
    matches = [
        {"service": name, "key": key, "value": value}
        for name, one in store.living()
        if command.service in {None, name}
        for key, value in sorted((one.config or {}).items())
        if text in key.casefold() or text in strictjson.dumps(value).casefold()
    ]
    return {"matches": matches[: command.limit]}


def _diff(store: MemoryStore, command: history.Diff) -> Json:
    service, points = command.service, (command.from_, command.to)
    if service not in store.services:
        raise refusal(Code.NOT_FOUND, f"there is no service {service}")
    before, after = (store.at(service, point) for point in points)
    for point, one in zip(points, (before, after), strict=True):
        if one is None and point.version is not None:
            raise refusal(Code.NOT_FOUND, f"{service} has no version {point.version}")
    old, new = ((one.config if one else None) or {} for one in (before, after))
    return {"service": service, "from": _compared(before), "to": _compared(after), "diff": differences(old, new)}


def _compared(version: Version | None) -> Json:
    if version is None:
        return {"version": 0, "revision": 0, "deleted": True}
    deleted = {"deleted": True} if version.config is None else {}
    return {"version": version.version, "revision": version.revision, **deleted}


def _versions(store: MemoryStore, command: history.HistoryVersions) -> Json:
    if command.service not in store.services:
        raise refusal(Code.NOT_FOUND, f"there is no service {command.service}")
    found = [
        {**_compared(one), "updated_at": one.at, "updated_by": one.by, "reason": one.reason, "request_id": one.request}
        for one in reversed(store.services[command.service])
        if command.before is None or one.version < command.before
    ]
    page = found[: command.limit]
    return {"versions": page, "next": page[-1]["version"] if len(found) > len(page) else None}


def _info(store: MemoryStore, _: Command) -> Json:
    limits = dict.fromkeys(system.Limits.model_fields, 0) | {
        "max_config_bytes": _MAX_CONFIG_BYTES,
        "max_packet_bytes": None,
        "require_expected_version": False,
    }
    return {
        "product": system.PRODUCT,
        "version": "memory",
        "protocol": system.PROTOCOL,
        "server_time": rfc3339(time.time()),
        "commands": sorted(_HANDLERS),
        "limits": limits,
        "principal": store.principal,
        "role": Role.ADMIN,
        "services": None,
    }


def _without(document: Json, *names: str) -> Json:
    return {name: value for name, value in document.items() if name not in names}


_HANDLERS: dict[str, Callable[[MemoryStore, Any], Json]] = {
    "apply": _apply,
    "delete": _change,
    "diff": _diff,
    "get": _get,
    "history/versions": _versions,
    "info": _info,
    "list": _list,
    "patch": _change,
    "search": _search,
    "set": _change,
}
