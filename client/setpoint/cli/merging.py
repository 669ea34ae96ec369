"""Two changes of one config put together, as far as they do not touch the same place."""

from typing import Any

Json = dict[str, Any]
_MISSING = object()


def merge(base: Json, mine: Json, theirs: Json) -> tuple[Json, list[str]]:
    """Put what ``mine`` changed of ``base`` into ``theirs``.

    Objects are merged member by member, everything else is one place. Returns the result, and the JSON Pointers of the
    places that both changed, and differently: there ``mine`` stands.
    """
    both: list[str] = []
    return _merged(base, mine, theirs, "", both), both


def _merged(base: Json, mine: Json, theirs: Json, path: str, both: list[str]) -> Json:
    found: Json = {}
    for key in [*theirs, *(key for key in mine if key not in theirs)]:
        values = (base.get(key, _MISSING), mine.get(key, _MISSING), theirs.get(key, _MISSING))
        place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        value = _one(*values, place, both)
        if value is not _MISSING:
            found[key] = value
    return found


def _one(base: Any, mine: Any, theirs: Any, place: str, both: list[str]) -> Any:
    if _unchanged(base, mine) or _unchanged(mine, theirs):
        return theirs
    if _unchanged(base, theirs):
        return mine
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return _merged(base if isinstance(base, dict) else {}, mine, theirs, place, both)
    both.append(place)
    return mine


def _unchanged(one: Any, other: Any) -> bool:
    if one is _MISSING or other is _MISSING:
        return one is other
    return same(one, other)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON."""
    from setpoint_contracts import strictjson

    return strictjson.canonical(one) == strictjson.canonical(other)
