"""How things are written: cells, tables, differences, times, errors."""

from datetime import UTC, datetime
from typing import Any

import pytest

from setpoint.cli import diffs, times, values
from setpoint.cli.exits import CODES, Exit, exit_code, told
from setpoint.cli.output import Table, cell, harmless, plain, typed
from setpoint_contracts import Code


@pytest.mark.parametrize("value", ["base", "80", "true", "", " x", 'say "hi"', 4, 0.5, True, None, [1, "a"], {"a": {}}])
def test_a_cell_is_what_would_be_typed(value: Any) -> None:
    """What a table shows of a value is read back as that value behind KEY=."""
    assert values.value(typed(value)) == value


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\rb", "\x9b31m", "\u202eright to left", "\x7f", "bell\x07"])
def test_nothing_in_a_table_steers_a_terminal(text: str) -> None:
    """Control characters, and such as turn the order of letters, are written as escapes."""
    for shown in (typed(text), cell(text), typed([text]), harmless(text), *plain(Table(("K",), [(text,)], text))):
        assert shown.isprintable()


def test_a_table_in_a_pipe_is_columns() -> None:
    """Columns are as wide as their widest cell counts on a terminal, without a blank at the end of a line."""
    table = Table(("NAME", "N"), [("stt", 1), ("道路", None), ("é", True)])
    assert plain(table) == ["NAME  N", "stt   1", "道路  -", "é     yes"]


def test_differences_have_what_was_and_what_is() -> None:
    """A removal is a line with a minus, an addition one with a plus, a replacement both."""
    found: list[dict[str, Any]] = [
        {"op": "add", "path": "/a", "new": 1},
        {"op": "remove", "path": "/b/c", "old": "80"},
        {"op": "replace", "path": "/d", "old": None, "new": [1]},
    ]
    assert diffs.lines(found) == ["+ /a: 1", '- /b/c: "80"', "- /d: null", "+ /d: [1]"]


def test_long_lists_and_texts_are_compared_line_by_line() -> None:
    """Of a long array, or a text of several lines, the lines that differ are shown, and those beside them."""
    old = [{"name": f"camera-{n}", "fps": 15} for n in range(9)]
    new = [{**camera, "fps": 25} if camera["name"] == "camera-4" else camera for camera in old]
    lines = diffs.lines([{"op": "replace", "path": "/cameras", "old": old, "new": new}])
    assert [line for line in lines if line[0] in "+-"] == ['-       "fps": 15', '+       "fps": 25']
    assert len(lines) == 5
    text = diffs.lines([{"op": "replace", "path": "/t", "old": "one\n--two\nthree", "new": "one\n2\nthree"}])
    assert text == ["  /t:", "    one", "-   --two", "+   2", "    three"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000Z"),
        ("2026-11-23T10:00:00.5+02:00", "2026-11-23T08:00:00.500Z"),
        ("2h", "2026-11-26T08:00:00.000Z"),
        ("90s", "2026-11-26T09:58:30.000Z"),
        ("1w", "2026-11-19T10:00:00.000Z"),
    ],
)
def test_times_are_read_as_people_write_them(text: str, moment: str) -> None:
    """RFC 3339 stands as it is; a number with a unit is so long ago."""
    assert times.read(text, datetime(2026, 11, 26, 10, tzinfo=UTC)) == moment


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2h ago", "2026-13-01", "999999999w", "-2h", "9999-12-31T23:59:59-10:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """Anything else is no time."""
    with pytest.raises(ValueError, match=r".*"):
        times.read(text, datetime(2026, 11, 26, tzinfo=UTC))


def test_local_times_and_durations_are_short() -> None:
    """What has no time is a dash; a duration has its two largest units."""
    assert times.local(None) == "-"
    shown = [times.duration(seconds) for seconds in (0.0021, 3.24, 75, 3600, 273_600)]
    assert shown == ["2.1 ms", "3.2 s", "1 min 15 s", "1 h 0 min", "3 d 4 h"]


def test_every_code_of_the_wire_has_an_exit_code() -> None:
    """No error of the wire ends as another by chance; a code of a later daemon ends as refused."""
    assert {code.value for code in Code} <= CODES.keys()
    assert exit_code("something_new") is Exit.REFUSED


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_error_is_told_with_what_to_do(code: str) -> None:
    """There is advice for each, without a gap in it; only bad parameters speak for themselves."""
    _, todo = told(code, "no", {})
    assert todo is not None or code in {"bad_request", "configuration"}
    assert "{" not in (todo or "")


def test_errors_name_what_does_not_fit() -> None:
    """The first three places are named, each once, and how many more there are."""
    errors = [{"pointer": f"/k{n}", "message": "is not an integer", "keyword": "type"} for n in range(5)]
    said = "stt does not fit its schema: /k0: is not an integer, and 4 more"
    message, todo = told("schema_invalid", said, {"errors": errors, "service": "stt"})
    assert message == f"{said}: /k1: is not an integer; /k2: is not an integer"
    assert todo == "`setpoint schema get stt` shows what it must fit"
    message, _ = told("bad_request", "x", {"errors": [{"field": "config", "message": "is needed"}]})
    assert message.endswith("config: is needed")


def test_a_conflict_tells_the_version_to_expect() -> None:
    """The advice has the version that the service is at now."""
    _, todo = told("version_conflict", "x", {"current": {"service": "stt", "version": 7}})
    assert todo is not None
    assert "--expect 7" in todo
