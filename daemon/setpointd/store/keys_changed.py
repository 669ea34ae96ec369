"""Which top-level keys differ between two configs, as the history keeps them."""

from setpoint_contracts import strictjson
from setpoint_contracts.difference import Object, changed_keys
from setpointd.records import KeyChange


def key_changes(old: Object, new: Object, keys: list[str] | None = None) -> list[KeyChange]:
    """List the top-level keys that differ, with both values as JSON text; ``keys``: which, if that is known already."""
    changes = []
    for key in changed_keys(old, new) if keys is None else keys:
        was = strictjson.canonical(old[key]) if key in old else None
        will = strictjson.canonical(new[key]) if key in new else None
        op = "add" if was is None else "remove" if will is None else "replace"
        changes.append(KeyChange(key, op, was, will))
    return changes
