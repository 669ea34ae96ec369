"""Commands on the config of a service (wire sections 5 and 6)."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

from setpoint_contracts import Change, Code, strictjson
from setpoint_contracts.config import Apply, Delete, Get, List, Patch, Set
from setpoint_contracts.difference import merge_patch
from setpoint_contracts.sealing import SECRETS_INFO
from setpointd.call import Call
from setpointd.errors import BadRequest, Rejected
from setpointd.handlers.reading import then
from setpointd.handlers.secret_values import Path, SecretValues
from setpointd.handlers.writing import Cause, expected, living, put, remove, schema_of
from setpointd.records import Document
from setpointd.render import Result
from setpointd.store import Snapshot, Tx


def get(snapshot: Snapshot, call: Call, command: Get) -> Result:
    """Read a config, now or as it was."""
    document = _find(snapshot, command)
    result = Result(document)
    if command.key is not None:
        if document.config is None or command.key not in document.config:
            raise Rejected(Code.NOT_FOUND, f"{command.service} has no key {command.key} at version {document.version}")
        result.members["value"] = document.config[command.key]
    if command.reveal:
        result.members["secrets_jwe"] = _revealed(snapshot, call, document)
    return result


def _revealed(snapshot: Snapshot, call: Call, document: Document) -> str:
    """Return the secrets of a document for the caller's eyes only."""
    found = SecretValues(snapshot, call, document.service).revealed(document.config or {})
    sealed = call.seal_for_caller(SECRETS_INFO, strictjson.dumps(found).encode())
    if sealed is None:
        text = "secrets are sent encrypted with the caller's own, and an Ed25519 token has none: ask with an HS256 one"
        raise BadRequest("reveal", text, "needs_hs256_caller")
    return sealed


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
    config = merge_patch(before.config, command.patch, partial(_open_marked, tx, call, before))
    return put(tx, call, command.service, before, config, cause)


def _open_marked(tx: Tx, call: Call, document: Document, path: Path, secret: Any) -> Any:
    """Open a secret to change something inside; one that is not marked any more would then stand in clear."""
    tx.takes_long()
    schema = schema_of(tx, call, document.service)
    if schema is None or path not in schema.secret_places(document.service, document.config or {}):
        where = ".".join(map(str, ("patch", *path)))
        text = "is a secret that the schema does not mark any more; set the whole of it, with null first"
        raise BadRequest(where, text, "unmarked_secret")
    return SecretValues(tx, call, document.service).shown_value(secret)


def _delete(tx: Tx, call: Call, command: Delete, cause: Cause) -> Result:
    return remove(tx, living(command.service, expected(tx, call, command.service, command.expected_version)), cause)


_CHANGES: dict[type[Change], Callable[..., Result]] = {Set: _set, Patch: _patch, Delete: _delete}


def _cause(command: Set | Patch | Delete) -> Cause:
    return Cause(command.name, command.reason)
