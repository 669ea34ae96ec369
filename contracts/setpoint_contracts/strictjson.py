"""JSON as Setpoint reads and writes it (wire section 2).

Rules for reading, all of them about texts that two readers could understand differently, or that cannot be stored:

- UTF-8 only; no byte order mark.
- No key twice in one object, at any depth.
- No NaN, no Infinity, and no number so large that a double turns it into one.
- No integer beyond 64 bits (signed).
- No lone surrogate, escaped or not.
- At most ``MAX_DEPTH`` levels of arrays and objects.

Numbers count by their value, not by their spelling: 1, 1.0 and 1e0 are the integer 1, and -0.0 is 0. What has a
fraction or an exponent is first of all the nearest double; if that is integral and within 64 bits, it is read as an
integer. A boolean is no number.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from setpoint_contracts import outline

MAX_DEPTH = 32
_INT64 = range(-(2**63), 2**63)
_INT64_DIGITS = 20  # with a sign
# Without so many digits in a row, no integer is beyond 64 bits; and Python's own reader of integers is the faster one.
_LONG_NUMBER = re.compile(rb"[0-9]{19}")


class InvalidJsonError(ValueError):
    """The text is not JSON that Setpoint accepts; the message says which rule it breaks, and nothing of the text."""


def loads(data: bytes) -> Any:
    """Read one JSON text; raises ``InvalidJsonError``, whatever the bytes are."""
    try:
        text = data.decode("utf-8")
        value = (_CAREFUL if _LONG_NUMBER.search(data) else _DECODER).decode(text)
    except UnicodeDecodeError:
        msg = "not UTF-8"
        raise InvalidJsonError(msg) from None
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        # JSONDecodeError.msg is a fixed phrase of the json module; its str() would carry more.
        msg = f"not JSON: {error.msg}"
        raise InvalidJsonError(msg) from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and is_too_deep(value):
        raise _too_deep()
    if b"\\u" in data:  # surrogates cannot come unescaped: the text was UTF-8
        _no_surrogates(value)
    return value


def loads_stored(text: str) -> Any:
    """Read JSON that ``dumps`` wrote at some time: numbers count by value, and nothing is refused that was taken once.

    Texts of before that rule may hold 1.0, which is read as 1, and integers beyond 64 bits, which stay what they are.
    """
    value, end = _STORED.raw_decode(text)
    return value if end == len(text) else _STORED.decode(text)  # it says what is wrong with the rest


def dumps(value: Any) -> str:
    """Write compact JSON, keys in the order given. What ``loads`` read, this writes, up to the spelling of numbers."""
    return _write(value)


def canonical(value: Any) -> str:
    """Write JSON so that two values are the same text exactly when they are the same JSON.

    Keys are sorted. 1 and 1.0 are the same, and true is neither (Python's ``==`` takes all three for one).
    """
    text = _write_sorted(value)
    if ".0" in text or "e+" in text:  # so Python spells every integral float
        text = _write_sorted(_STORED.decode(text))
    return text


def loads_leniently(data: bytes) -> Any:
    """Read what any reader of JSON could read: the grammar and UTF-8 must hold, every other rule may be broken.

    Of a key given twice the last one counts. A text that is nested too deep for the json module gives its top-level
    members, with nothing inside those that are arrays or objects. Raises ``InvalidJsonError`` for the rest.
    """
    try:
        text = data.decode("utf-8")
        try:
            return _LENIENT.decode(text)
        except RecursionError:
            return outline.read(text)
    except ValueError:
        msg = "not JSON"
        raise InvalidJsonError(msg) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a key stands twice in one object"
        raise InvalidJsonError(msg)
    return found


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise InvalidJsonError(msg)


def _integer(text: str) -> int:
    # Python refuses to read very many digits, with a message of its own.
    number = int(text) if len(text) <= _INT64_DIGITS else _INT64.stop
    if number not in _INT64:
        msg = "an integer is beyond 64 bits"
        raise InvalidJsonError(msg)
    return number


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() and int(number) in _INT64 else number


def _finite(text: str) -> int | float:
    number = _number(text)
    if not math.isfinite(number):
        msg = "a number is too large"
        raise InvalidJsonError(msg)
    return number


def _too_deep() -> InvalidJsonError:
    return InvalidJsonError(f"more than {MAX_DEPTH} levels of arrays and objects")


def writer(encoder: json.JSONEncoder) -> Callable[[Any], str]:
    """Return what an encoder's ``encode`` does, but that what it makes for each text is made once.

    It writes no indentation, and looks for no circles: whoever calls it has none.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # not CPython
        return encoder.encode
    parts = make(
        None,
        encoder.default,
        json.encoder.encode_basestring_ascii if encoder.ensure_ascii else json.encoder.encode_basestring,
        None,
        encoder.key_separator,
        encoder.item_separator,
        encoder.sort_keys,
        encoder.skipkeys,
        encoder.allow_nan,
    )
    return lambda value: "".join(parts(value, 0))


def _compact(*, sort_keys: bool) -> Callable[[Any], str]:
    return writer(
        json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys, check_circular=False
        )
    )


# Made once: json.dumps and json.loads with arguments make a new one at every call.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
_CAREFUL = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
)
_STORED = json.JSONDecoder(parse_float=_number)
_LENIENT = json.JSONDecoder(parse_int=float)  # int() refuses very many digits
_write = _compact(sort_keys=False)
_write_sorted = _compact(sort_keys=True)


def is_too_deep(value: Any) -> bool:
    """Whether a value has more than ``MAX_DEPTH`` levels of arrays and objects."""
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
