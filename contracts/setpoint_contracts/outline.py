"""The top level of a JSON text of any depth, without recursion.

For claims that are nested deeper than the json module reads: their sender still learns what is wrong with them. The
whole text is held to the grammar of RFC 8259, with NaN and Infinity let in as the json module does.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

# White space, then a string, another scalar, or a mark. The possessive repeats keep it linear.
_TOKEN = re.compile(
    r'[ \t\n\r]*+(?:("(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+")'
    r"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null|NaN|-?Infinity)"
    r"|([\[\]{},:]))",
)
_KINDS = ("", "string", "scalar", "")
_VALUES = {"string": "after", "scalar": "after", "[": "item or end", "{": "key or end"}
# What may come in which place, and the place behind it. Behind a comma it is a value or a key, as the container has it.
_NEXT: dict[str, dict[str, str]] = {
    "value": _VALUES,
    "item or end": {**_VALUES, "]": "after"},
    "key": {"string": "colon"},
    "key or end": {"string": "colon", "}": "after"},
    "colon": {":": "value"},
    "after": {",": "comma", "]": "after", "}": "after"},
    "end": {},
}
_BEHIND_COMMA = {"[": "value", "{": "key"}
_OPENING = {"]": "[", "}": "{"}
_UNREAD: tuple[()] = ()


def read(text: str) -> dict[str, Any]:
    """Read the members of an object: strings and null as they are, anything else as an empty tuple.

    A text that is not an object has no members. Raises ValueError when it is not JSON.
    """
    found: dict[str, Any] = {}
    opened: list[str] = []
    place, key = "value", ""
    for kind, said in _tokens(text):
        if kind not in _NEXT[place]:
            raise ValueError(place)
        place = _NEXT[place][kind]
        if kind in _BEHIND_COMMA:
            opened.append(kind)
        elif kind in _OPENING and (not opened or opened.pop() != _OPENING[kind]):
            raise ValueError(place)
        elif place == "comma":
            place = _BEHIND_COMMA[opened[-1]] if opened else "end"
        if len(opened) == 1 and opened[0] == "{":
            if place == "colon":
                key = json.loads(said)
            elif place == "after":
                found[key] = _value(kind, said)
    if place != "after" or opened:
        raise ValueError(place)
    return found


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(text.rstrip(" \t\n\r"))
    while at < end:
        token = _TOKEN.match(text, at)  # not finditer, which looks again for every blank that leads nowhere
        if token is None:
            raise ValueError(at)
        kind = token.lastindex or 0
        said = token[kind]
        yield _KINDS[kind] or said, said
        at = token.end()


def _value(kind: str, said: str) -> Any:
    if kind == "string":
        return json.loads(said)
    return None if said == "null" else _UNREAD
