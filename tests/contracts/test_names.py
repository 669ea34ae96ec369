"""Names and times of the wire."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from setpoint_contracts import names, timestamps

NEVER_A_NAME = ["", " ", "a/b", "+", "#", "a\n", "a\0", "é", "a b", "\N{FULLWIDTH DIGIT ONE}", 1, None, True, ["a"]]


def takes(kind: Any, value: object) -> bool:
    """Whether a value is one of this kind."""
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (names.Jti, ["a", "A.b_c-9", "-", ".", "x" * 64], ["x" * 65, "a:b"]),
        (names.Kid, ["tok_1", "x" * 64], ["x" * 65, "a:b"]),
        (names.ServiceName, ["a", "0", "stt", "a.b_c-d", "x" * 63], ["x" * 64, "A", "-a", ".a", "_a", "$SYS"]),
        (names.PrincipalName, ["admin", "stt-service", "x" * 63], ["x" * 64, "Admin", "-a", ".a", "_a"]),
        (names.ServiceGlob, ["*", "tts*", "a?c", "[a-c]*", "[!x]"], ["x" * 65, "A*", "{a,b}"]),
        (names.ConfigKey, ["a", "_", "A.b-c_9", "x" * 128], ["x" * 129, "9a", "-a", ".a", "$schema"]),
    ],
)
def test_names(kind: Any, good: list[str], bad: list[str]) -> None:
    """Each kind of name takes its alphabet and length only: no wildcard, no line break, no other script."""
    assert [name for name in good if not takes(kind, name)] == []
    assert [name for name in [*bad, *NEVER_A_NAME] if takes(kind, name)] == []


@given(st.characters(codec="utf-8"))
def test_a_profile_is_named_with_any_character_but_a_control_character(character: str) -> None:
    """Whatever is not of Unicode's category Cc, by itself and up to a hundred times."""
    good = unicodedata.category(character) != "Cc"
    assert takes(names.ProfileName, character) == takes(names.ProfileName, character * 100) == good
    assert not takes(names.ProfileName, character * 101)


@pytest.mark.parametrize("control", [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))])
def test_no_control_character_is_in_the_name_of_a_profile(control: str) -> None:
    """Neither alone nor at any place."""
    assert [name for name in (control, f"a{control}", f"{control}a") if takes(names.ProfileName, name)] == []


@pytest.mark.parametrize("value", ["", 1, None, True, ["a"], b"a", "\ud800"])
def test_the_name_of_a_profile_is_text(value: object) -> None:
    """And not empty."""
    assert not takes(names.ProfileName, value)


def test_reason_is_at_most_500_characters() -> None:
    """A reason is free text of bounded length."""
    assert takes(names.Reason, "é" * 500)
    assert not takes(names.Reason, "x" * 501)


@given(st.floats(min_value=0, max_value=253402300799, allow_nan=False))
def test_a_timestamp_reads_back_to_the_millisecond(moment: float) -> None:
    """Writing a POSIX time and reading it again loses less than a millisecond, whatever the time."""
    written = timestamps.rfc3339(moment)
    assert takes(timestamps.Timestamp, written)
    assert -0.000_1 < moment - timestamps.seconds(written) < 0.001_1


@given(st.lists(st.integers(0, 253402300799), min_size=2, max_size=5))
def test_timestamps_sort_as_text(moments: list[int]) -> None:
    """The order of the texts is the order of the times."""
    assert [timestamps.rfc3339(moment) for moment in sorted(moments)] == sorted(map(timestamps.rfc3339, moments))


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T10:00:00Z",
        "2026-11-23T10:00:00.123+00:00",
        "2026-11-23 10:00:00.123Z",
        "2026-02-30T10:00:00.123Z",
        "2026-11-23T24:30:00.123Z",
        "２０２６-11-23T10:00:00.123Z",  # noqa: RUF001 - digits of another script are the case
        "2026-11-23T10:00:00.123Z\n",
        1795428000,
    ],
)
def test_a_timestamp_has_one_form(text: object) -> None:
    """Only UTC with milliseconds and Z is a timestamp, and only of a day and hour that exist."""
    assert not takes(timestamps.Timestamp, text)


@pytest.mark.parametrize(
    ("given_time", "meant"),
    [
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000Z"),
        ("2026-11-23T10:00:00.123456789Z", "2026-11-23T10:00:00.123Z"),
        ("2026-11-23T10:00:00.9+02:00", "2026-11-23T08:00:00.900Z"),
        ("2026-11-23T23:30:00-01:00", "2026-11-24T00:30:00.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
    ],
)
def test_a_callers_time_becomes_a_timestamp(given_time: str, meant: str) -> None:
    """A caller may write any RFC 3339 time; it is the same moment in the wire's own form."""
    assert TypeAdapter(timestamps.TimeParam).validate_python(given_time) == meant


@pytest.mark.parametrize(
    "given_time",
    [
        "2026-11-23T10:00:00",
        "2026-11-23",
        "2026-11-23T10:00Z",
        "1795428000",
        1795428000,
        1795428000.5,
        True,
        "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_refuses_a_callers_time_that_could_mean_another(given_time: object) -> None:
    """No offset, no seconds, a number, a day that is not, or outside the calendar in UTC: refused."""
    assert not takes(timestamps.TimeParam, given_time)
