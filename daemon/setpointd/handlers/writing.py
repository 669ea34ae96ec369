"""What every write of a config goes through, be it of one service or of many.

No command makes a version by another way, so whatever a config must be is looked at here.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from setpoint_contracts import Code, Permission, strictjson
from setpoint_contracts.audit import Action
from setpoint_contracts.config import MAX_CONFIG_KEYS
from setpoint_contracts.difference import changed_keys, differences
from setpoint_contracts.redaction import MEMBER, secrets_in
from setpoint_contracts.system import Limits
from setpointd.call import Call
from setpointd.errors import BadRequest, Rejected, VersionConflict
from setpointd.handlers.secret_values import Path, SecretValues, check_count
from setpointd.records import Document
from setpointd.render import Result
from setpointd.schema import Schema, schema_invalid
from setpointd.store import Tx

QUICK_KEYS, QUICK_BYTES, QUICK_SECRETS = 100, 16_384, 20
"""With no more, a config takes some milliseconds; the largest, all of it new, takes 24 to 45."""


@dataclass(slots=True)
class Cause:
    """Why a version is made: ``op`` stands with the version, the rest in the audit event.

    ``action`` None: that of writing, or of deleting, a config.
    """

    op: str
    reason: str | None
    action: Action | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def expected(tx: Tx, call: Call, service: str, version: int | None) -> Document | None:
    """Return the newest version of a service, once it is the one that the caller expects."""
    current = tx.config.current(service)
    if version is None:
        if call.limits.require_expected_version:
            raise BadRequest("expected_version", "is required here; 0 means that the service is new", "missing")
        return current
    absent = current is None or current.deleted
    at = 0 if current is None else current.version
    if version != at and not (version == 0 and absent):
        raise VersionConflict(service, version, current)
    return current


def living(service: str, document: Document | None, when: str = "") -> Document:
    """Return a document that has a config; ``when`` says of which moment it is told that there is none."""
    if document is None:
        raise Rejected(Code.NOT_FOUND, f"there is no service {service}{when}")
    if document.deleted:
        raise Rejected(Code.NOT_FOUND, f"{service} is deleted{when}", current=document)
    return document


def put(
    tx: Tx,
    call: Call,
    service: str,
    before: Document | None,
    config: dict[str, Any],
    cause: Cause,
    *,
    restored: bool = False,
) -> Result:
    """Make a config the newest version of a service, unless it is that already; what is, is not judged again.

    Secrets in it are those of the newest version, or, when it is ``restored``, any that the service ever had.
    """
    schema = schema_of(tx, call, service)
    values = SecretValues(tx, call, service)
    old = (before and before.config) or {}
    if max(len(old), len(config)) > QUICK_KEYS or (schema is not None and schema.marks_secrets):
        tx.takes_long()
    field = "patch" if cause.op == "patch" else "config"
    content = _content(tx, values, schema, config, None if restored else old, field)
    _check_size(content.clear, content.text, call.limits)
    if len(content.text) > QUICK_BYTES or (schema is not None and not schema.is_quick(content.text)):
        tx.takes_long()
    keys = changed_keys(old, content.shown)
    if before is not None and before.config is not None and not keys:
        return Result(before, changed=False, diff=[])
    if schema is not None and (failing := schema.failing(content.clear, content.text, content.places)):
        raise schema_invalid(service, failing)
    values.keep(tx)
    document = _write(tx, service, before, content.shown, cause, keys, content.shown_text)
    return Result(document, changed=True, diff=differences(old, content.shown, keys))


def schema_of(tx: Tx, call: Call, service: str) -> Schema | None:
    """Return the schema that the configs of a service have to fit, if it has one."""
    text = tx.schemas.text(service)
    if text is None:
        return None
    if not call.daemon.schemas.knows(text):
        tx.takes_long()
    return call.daemon.schemas.of(text)


class _Content(NamedTuple):
    """A config in clear and as it is shown and stored, each as JSON too; ``places`` are those of its secrets."""

    clear: dict[str, Any]
    text: str
    places: Collection[Path]
    shown: dict[str, Any]
    shown_text: str


def _content(
    tx: Tx, values: SecretValues, schema: Schema | None, config: dict[str, Any], old: dict[str, Any] | None, field: str
) -> _Content:
    """Open the secrets of a config, which are those of ``old`` unless that is None, and conceal what is secret."""
    text = strictjson.dumps(config)
    places: set[Path] = set()
    if f'"{MEMBER}"' in text:
        config, places = values.opened(config, None if old is None else secrets_in(strictjson.dumps(old)), field)
        text = strictjson.dumps(config)
        if strictjson.is_too_deep(config):
            raise BadRequest(field, f"has more than {strictjson.MAX_DEPTH} levels, its secrets included", "too_deep")
    if schema is not None:
        places |= schema.secret_places(values.service, config)
    check_count(places)
    if len(places) > QUICK_SECRETS:
        tx.takes_long()
    if not places:
        return _Content(config, text, places, config, text)
    shown = values.concealed(config, places)
    return _Content(config, text, places, shown, strictjson.dumps(shown))


def remove(tx: Tx, before: Document, cause: Cause) -> Result:
    """Make a tombstone of a service that lives."""
    old = before.config or {}
    if len(old) > QUICK_KEYS:
        tx.takes_long()
    keys = changed_keys(old, {})
    return Result(_write(tx, before.service, before, None, cause, keys), changed=True, diff=differences(old, {}, keys))


def become(tx: Tx, call: Call, service: str, config: dict[str, Any] | None, cause: Cause) -> Result | None:
    """Bring a service to a config, or delete it (None), whatever it is now; None when it is so already.

    The caller needs the right for just what is done; ``FORBIDDEN`` otherwise.
    """
    current = tx.config.current(service)
    if config is not None:
        call.needs(Permission.WRITE, service)
        result = put(tx, call, service, current, config, cause, restored=True)
        return result if result.members["changed"] else None
    call.needs(Permission.DELETE if current is not None and not current.deleted else Permission.WRITE, service)
    return None if current is None or current.deleted else remove(tx, current, cause)


def become_all(tx: Tx, call: Call, contents: Mapping[str, dict[str, Any] | None], cause: Cause) -> Result:
    """Bring services to what they are to be, all or none of them, by ``become``; a refusal names its service."""
    results = []
    for service, config in sorted(contents.items()):
        try:
            result = become(tx, call, service, config, cause)
        except Rejected as refusal:
            refusal.details["service"] = service
            raise
        if result is not None and result.document is not None:
            gone: dict[str, Any] = {"deleted": True} if result.document.deleted else {}
            results.append(Result(**result.document.head(), **gone, diff=result.members["diff"]))
    return Result(results=results, unchanged=len(contents) - len(results))


def _write(
    tx: Tx,
    service: str,
    before: Document | None,
    config: dict[str, Any] | None,
    cause: Cause,
    keys: list[str],
    text: str | None = None,
) -> Document:
    return tx.config.write_version(
        service,
        before,
        config,
        op=cause.op,
        reason=cause.reason,
        action=cause.action,
        text=text,
        changed=keys,
        **cause.details,
    )


def _check_size(config: dict[str, Any], text: str, limits: Limits) -> None:
    size = len(text.encode())
    if size > limits.max_config_bytes:
        message = f"the config has {size} bytes; at most {limits.max_config_bytes} are allowed"
        raise Rejected(Code.TOO_LARGE, message, bytes=size, max_bytes=limits.max_config_bytes)
    if len(config) > MAX_CONFIG_KEYS:
        message = f"the config has {len(config)} top-level keys; at most {MAX_CONFIG_KEYS} are allowed"
        raise Rejected(Code.TOO_LARGE, message, keys=len(config), max_keys=MAX_CONFIG_KEYS)
