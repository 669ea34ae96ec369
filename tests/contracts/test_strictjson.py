"""Reading and writing JSON strictly."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import strictjson

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


def typed(value: Any) -> Any:
    """Spell out types, because Python takes 1, 1.0 and True for equal, and 0.0 for -0.0."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return type(value), repr(value)


@given(VALUES)
def test_what_is_written_reads_back(value: Any) -> None:
    """Every JSON value comes back the same, types and order of keys included."""
    back = strictjson.loads(strictjson.dumps(value).encode())
    assert typed(back) == typed(value)
    assert json.dumps(back) == json.dumps(value)


@given(VALUES, VALUES)
def test_canonical_text_decides_sameness(one: Any, other: Any) -> None:
    """Two values have one canonical text exactly when they are the same JSON."""
    assert (strictjson.canonical(one) == strictjson.canonical(other)) == (typed(one) == typed(other))
    assert typed(strictjson.loads(strictjson.canonical(one).encode())) == typed(one)


def test_canonical_text_ignores_the_order_of_keys_only() -> None:
    """Keys are sorted at every level; arrays keep their order."""
    assert strictjson.canonical({"b": {"d": 1, "c": 2}, "a": [2, 1]}) == '{"a":[2,1],"b":{"c":2,"d":1}}'


def test_canonical_text_keeps_equal_numbers_apart() -> None:
    """1, 1.0 and true are three values."""
    assert len({strictjson.canonical(value) for value in (1, 1.0, True)}) == 3


@given(st.binary())
def test_any_bytes_read_or_are_refused(data: bytes) -> None:
    """Whatever the bytes are, there is a value or an InvalidJsonError with a message of one line."""
    message = ""
    try:
        strictjson.loads(data)
    except strictjson.InvalidJsonError as error:
        message = error.args[0]
    assert "\n" not in message


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":1,"\\u0061":2}', "twice"),
        (b'[{"x":{"b":1,"b":2}}]', "twice"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"1e400", "too large"),
        (b"-1e400", "too large"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b'"\xff"', "UTF-8"),
        (b"\xef\xbb\xbf1", "not JSON"),
        (b"", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"1 2", "not JSON"),
        (b"01", "not JSON"),
        (b'"\n"', "not JSON"),
        (b"1" * 5000, "digits"),
    ],
)
def test_refuses_what_readers_could_understand_differently(data: bytes, rule: str) -> None:
    """Each rule refuses its case, and the message names the rule."""
    with pytest.raises(strictjson.InvalidJsonError, match=rule):
        strictjson.loads(data)


@pytest.mark.parametrize("levels", [33, 100, 600, 990, 1_100, 20_000, 100_000])
@pytest.mark.parametrize(("opening", "inner", "closing"), [("[", "", "]"), ('{"a":', "1", "}")])
def test_refuses_more_than_32_levels(levels: int, opening: str, inner: str, closing: str) -> None:
    """Too many levels are refused by that rule, however many they are."""
    with pytest.raises(strictjson.InvalidJsonError, match="more than 32 levels"):
        strictjson.loads((opening * levels + inner + closing * levels).encode())


def test_takes_32_levels_and_any_number_of_brackets() -> None:
    """32 levels are allowed; brackets side by side or in a string do not count."""
    strictjson.loads(b"[" * 32 + b"]" * 32)
    strictjson.loads(b'{"a":' * 32 + b"1" + b"}" * 32)
    assert strictjson.loads(b"[" + b"[]," * 100 + b'"' + b"[" * 100 + b'"]')[100] == "[" * 100


def test_a_surrogate_pair_is_a_character() -> None:
    """Both halves together, escaped, are one character beyond the basic plane."""
    assert strictjson.loads(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


def test_messages_hold_nothing_of_the_text() -> None:
    """What was refused may be secret, so a message never repeats it."""
    for text in ('{"hunter2"', '{"hunter2":1,"hunter2":2}', '"hunter2\\ud800"', "hunter2"):
        with pytest.raises(strictjson.InvalidJsonError) as caught:
            strictjson.loads(text.encode())
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_never_writes_what_is_not_json(number: float) -> None:
    """NaN and infinities cannot be written either."""
    with pytest.raises(ValueError, match="JSON compliant"):
        strictjson.dumps([number])
    with pytest.raises(ValueError, match="JSON compliant"):
        strictjson.canonical([number])


def test_lenient_reading_takes_more_and_still_never_overflows() -> None:
    """For answering a sender, duplicates and NaN are read; what is too deep for the json module is a ValueError."""
    assert strictjson.loads_leniently(b'{"a":1,"a":2}') == {"a": 2}
    with pytest.raises(ValueError, match="levels"):
        strictjson.loads_leniently(b"[" * 100_000)
