"""Reading and writing JSON strictly."""

import json
import math
from collections.abc import Callable
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import outline, strictjson

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


def typed(value: Any) -> Any:
    """Spell out types, because Python takes 1 and True for equal; integral numbers up to 64 bits are integers."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and -(2**63) <= value < 2**63:
        value = int(value)
    return type(value), repr(value)


@given(VALUES)
def test_what_is_written_reads_back(value: Any) -> None:
    """Every JSON value comes back the same, order of keys included; what was read is written as it was read."""
    text = strictjson.dumps(value)
    back = strictjson.loads(text.encode())
    assert typed(back) == typed(value)
    assert list(json.dumps(back)) == list(json.dumps(strictjson.loads_stored(text)))
    assert strictjson.loads(strictjson.dumps(back).encode()) == back


@given(VALUES, VALUES)
def test_canonical_text_decides_sameness(one: Any, other: Any) -> None:
    """Two values have one canonical text exactly when they are the same JSON."""
    assert (strictjson.canonical(one) == strictjson.canonical(other)) == (typed(one) == typed(other))
    assert typed(strictjson.loads(strictjson.canonical(one).encode())) == typed(one)


def test_canonical_text_ignores_the_order_of_keys_only() -> None:
    """Keys are sorted at every level; arrays keep their order."""
    assert strictjson.canonical({"b": {"d": 1, "c": 2}, "a": [2, 1]}) == '{"a":[2,1],"b":{"c":2,"d":1}}'


def test_canonical_text_goes_by_the_value_of_numbers() -> None:
    """However a number is spelled, its value decides; `true` is no number, and a string that looks like one neither."""
    assert {strictjson.canonical(value) for value in (1, 1.0)} == {"1"}
    assert strictjson.canonical([-0.0, 1e3, {"a": 2.0, "b": "1.0e+3"}]) == '[0,1000,{"a":2,"b":"1.0e+3"}]'
    assert strictjson.canonical([True, 1e19]) == "[true,1e+19]"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.0", 1),
        ("1e3", 1000),
        ("10e-1", 1),
        ("-0", 0),
        ("-0.0", 0),
        ("1e-400", 0),
        ("9007199254740993", 9007199254740993),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775808.0", -(2**63)),
        ("9223372036854775807.0", 2.0**63),
        ("1e19", 1e19),
        ("1.5", 1.5),
        ("true", True),
    ],
)
def test_numbers_are_read_by_their_value(text: str, value: object) -> None:
    """An integral number within 64 bits is an integer, however it is spelled; so is one that was stored before."""
    for found in (strictjson.loads(text.encode()), strictjson.loads_stored(text)):
        assert (type(found), found) == (type(value), value)


def test_what_was_stored_is_never_refused() -> None:
    """A row of before the rules on numbers still reads: 1.0 is 1, an integer beyond 64 bits stays."""
    assert strictjson.loads_stored('{"a":[1.0,18446744073709551616]}') == {"a": [1, 2**64]}


@pytest.mark.parametrize("text", ["", "{", '{"a":1}}', "1 2", '"a" "b"'])
def test_what_was_damaged_is_not_half_read(text: str) -> None:
    """Of a stored text that is more or less than one JSON text, nothing is read."""
    with pytest.raises(ValueError, match=r"(Expecting|Extra data)"):
        strictjson.loads_stored(text)


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
        (b"9223372036854775808", "beyond 64 bits"),
        (b"-9223372036854775809", "beyond 64 bits"),
        (b"[" + b"1" * 5000 + b"]", "beyond 64 bits"),
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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":1,"a":"2"}', {"a": "2"}),
        ('{"a":[NaN,-Infinity],"b":"x"}', {"a": ANY, "b": "x"}),
        ('{"a":"\\ud800"}', {"a": "\ud800"}),
        ('{"a":' + "1" * 5000 + "}", {"a": math.inf}),
        ('{"a":' + "[" * 700 + "]" * 700 + "}", {"a": ANY}),
    ],
)
def test_lenient_reading_takes_what_any_reader_could_read(text: str, value: object) -> None:
    """Where the grammar holds, the other rules may be broken."""
    assert strictjson.loads_leniently(text.encode()) == value


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"a":1,}', b'{"a":"\xff"}', b"\xef\xbb\xbf{}", b"{} {}", b"[" * 100_000, b'{"a":01}']
)
def test_lenient_reading_takes_nothing_else(data: bytes) -> None:
    """What is not JSON in UTF-8 is refused, however deep it is."""
    with pytest.raises(strictjson.InvalidJsonError, match="not JSON"):
        strictjson.loads_leniently(data)


DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":"x","b":' + DEEP + ',"c":null,"d":1e5}', {"a": "x", "b": (), "c": None, "d": ()}),
        (' {"a\\u0062":"\\n" , "b":{"ab":' + DEEP + "}} ", {"ab": "\n", "b": ()}),
        ('{"a":"x","b":' + DEEP + ',"a":"y"}', {"a": "y", "b": ()}),
        (DEEP, {}),
    ],
)
def test_the_top_level_of_any_depth_is_read(text: str, value: object) -> None:
    """What is nested too deep for any recursion still gives its top-level strings."""
    assert strictjson.loads_leniently(text.encode()) == value


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "rest", [" " * 150_000, "\t" * 150_000 + "x", '"' + "a" * 150_000, "1" * 150_000, '"\\' * 75_000]
)
def test_the_outline_takes_linear_time(rest: str) -> None:
    """No text, however it goes on behind the depth, keeps the reader busy for long."""
    text = "[" * 2_000 + "]" * 2_000 + rest
    assert accepts(outline.read, text) == (not rest.strip())
    assert not accepts(outline.read, "[" * 2_000 + rest)


@given(VALUES)
def test_the_outline_is_what_the_json_module_reads(value: Any) -> None:
    """Reading the outline agrees with the json module: strings and null are the same, the rest stands there unread."""
    shown = {k: v if v is None or isinstance(v, str) else () for k, v in value.items()} if type(value) is dict else {}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert outline.read(text) == shown


@given(VALUES, st.data())
def test_the_outline_refuses_what_the_json_module_refuses(value: Any, data: st.DataObject) -> None:
    """A text with a character put in or taken out is JSON for both readers or for neither."""
    text = json.dumps(value)
    at = data.draw(st.integers(0, len(text)))
    broken = text[:at] + data.draw(st.sampled_from(["", *'[]{},:"0-.e\\ nt\0'])) + text[at + data.draw(st.booleans()) :]
    assert accepts(outline.read, broken) == accepts(json.loads, broken)


def accepts(read: Callable[[str], Any], text: str) -> bool:
    """Whether a reader takes a text."""
    try:
        read(text)
    except ValueError:
        return False
    return True
