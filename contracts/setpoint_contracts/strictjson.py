"""JSON as Setpoint reads and writes it (wire section 2).

Rules for reading, all of them about texts that two readers could understand differently, or that cannot be stored:

- UTF-8 only; no byte order mark.
- No key twice in one object, at any depth.
- No NaN, no Infinity, and no number so large that a double turns it into one.
- No lone surrogate, escaped or not.
- At most ``MAX_DEPTH`` levels of arrays and objects.
"""

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 32


class InvalidJsonError(ValueError):
    """The text is not JSON that Setpoint accepts; the message says which rule it breaks, and nothing of the text."""


def loads(data: bytes) -> Any:
    """Read one JSON text; raises ``InvalidJsonError``, whatever the bytes are."""
    try:
        text = data.decode("utf-8")
        value = _DECODER.decode(text)
    except InvalidJsonError:
        raise
    except UnicodeDecodeError:
        msg = "not UTF-8"
        raise InvalidJsonError(msg) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        # JSONDecodeError.msg is a fixed phrase of the json module; its str() would carry more.
        msg = f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else "a number has too many digits"
        raise InvalidJsonError(msg) from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _is_too_deep(value):
        raise _too_deep()
    if b"\\u" in data:  # surrogates cannot come unescaped: the text was UTF-8
        _no_surrogates(value)
    return value


def dumps(value: Any) -> str:
    """Write compact JSON, keys in the order given. What ``loads`` read, this writes."""
    return _ENCODER.encode(value)


def canonical(value: Any) -> str:
    """Write JSON so that two values are the same text exactly when they are the same JSON.

    Keys are sorted, and 1, 1.0 and true are three values (Python's ``==`` takes them for one).
    """
    return _CANONICAL.encode(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a key stands twice in one object"
        raise InvalidJsonError(msg)
    return found


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise InvalidJsonError(msg)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        msg = "a number is too large"
        raise InvalidJsonError(msg)
    return number


def _too_deep() -> InvalidJsonError:
    return InvalidJsonError(f"more than {MAX_DEPTH} levels of arrays and objects")


# Made once: json.dumps and json.loads with arguments make a new one at every call.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_CANONICAL = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)


def _is_too_deep(value: Any) -> bool:
    # Level by level: the json module reads deeper values than Python code can recurse into.
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        children = (child for node in level for child in (node.values() if isinstance(node, dict) else node))
        level = [child for child in children if isinstance(child, dict | list)]
    return bool(level)


def _no_surrogates(value: Any) -> None:
    try:
        dumps(value).encode("utf-8")
    except UnicodeEncodeError:
        msg = "a lone surrogate stands in a string"
        raise InvalidJsonError(msg) from None


def loads_leniently(data: bytes) -> Any:
    """Read what the json module reads, duplicate keys and NaN included; ValueError for the rest."""
    try:
        return json.loads(data)
    except RecursionError:
        raise _too_deep() from None
