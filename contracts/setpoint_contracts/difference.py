"""How one config follows from another. Pure functions.

Differences for people (wire section 5), and JSON Merge Patch (RFC 7396).

Two values are the same when they are the same JSON: numbers count by their value, and true is no number, although
Python's ``==`` takes it for 1. Arrays are compared and replaced whole, and so is what stands for a secret.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from setpoint_contracts.pointers import Step, escaped
from setpoint_contracts.redaction import is_secret

Json = Any
Object = Mapping[str, Json]
OpenSecret = Callable[[tuple[Step, ...], Json], Json]
# Two values of one of these types are the same JSON exactly when they are equal; most values are.
_PLAIN = frozenset({str, int, float, bool, type(None)})
_NUMBERS = frozenset({int, float})


def changed_keys(old: Object, new: Object) -> list[str]:
    """List the top-level keys that differ, in their order."""
    changed = [key for key, value in old.items() if key not in new or not _same(value, new[key])]
    changed.extend(new.keys() - old.keys())
    return sorted(changed)


def differences(old: Object, new: Object, keys: list[str] | None = None) -> list[dict[str, Json]]:
    """List what makes ``new`` out of ``old``, as ``{"op","path","old","new"}`` in the order of the keys.

    ``keys``: the ``changed_keys``, where they are known already.
    """
    return list(_differences("", old, new, changed_keys(old, new) if keys is None else keys))


def _differences(path: str, old: Object, new: Object, keys: list[str]) -> Iterator[dict[str, Json]]:
    for key in keys:
        here = f"{path}/{escaped(key)}"
        if key not in old:
            yield {"op": "add", "path": here, "new": new[key]}
        elif key not in new:
            yield {"op": "remove", "path": here, "old": old[key]}
        elif _is_object(was := old[key]) and _is_object(will := new[key]):
            yield from _differences(here, was, will, changed_keys(was, will))
        else:
            yield {"op": "replace", "path": here, "old": old[key], "new": new[key]}


def _is_object(value: Json) -> bool:
    return isinstance(value, dict) and not is_secret(value)  # what stands for a secret is one value


def _same(one: Json, other: Json) -> bool:
    kind, its = type(one), type(other)
    if kind in _PLAIN or its in _PLAIN:
        return bool(one == other) and (kind is its or (kind in _NUMBERS and its in _NUMBERS))
    if kind is not its or len(one) != len(other):
        return False
    if kind is list:
        return all(map(_same, one, other))
    return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())


def merge_patch(target: Json, patch: Json, open_secret: OpenSecret | None = None, path: tuple[Step, ...] = ()) -> Json:
    """Apply a JSON Merge Patch (RFC 7396 section 2); the target is left as it was.

    What stands for a secret is one value. ``open_secret`` gives what it is, when the patch changes something inside.
    """
    if not isinstance(patch, dict) or is_secret(patch):
        return patch
    if open_secret is not None and is_secret(target):
        target = open_secret(path, target)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value, open_secret, (*path, key))
    return merged
