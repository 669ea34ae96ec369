"""The log's lines: their shape, what they leave out, and that they never stop the daemon."""

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest
import structlog

from setpointd import log


@pytest.fixture(autouse=True)
def _process_logging_restored() -> Iterator[None]:
    """Take back what ``configure`` does to the whole process."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    logging.captureWarnings(capture=False)
    logging.getLogger("mqtt").setLevel(logging.NOTSET)
    root.setLevel(level)
    root.handlers[:] = handlers
    structlog.reset_defaults()


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Claim to be one."""
        return True


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """Read back what was logged as JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(level: str = "info") -> io.StringIO:
    """Set logging up for JSON; pytest's own handlers, which fail on a malformed record, step aside for this test."""
    stream = io.StringIO()
    logging.getLogger().handlers.clear()
    log.configure(fmt="json", level=level, stream=stream)
    return stream


def fail(value: str) -> None:
    """Raise with a message that quotes the value."""
    raise ValueError(f"cannot use {value}")


def test_an_event_is_one_json_line_with_time_level_and_event_first() -> None:
    """The keys come in a fixed order, and the time is RFC 3339 in UTC with milliseconds."""
    stream = configured()
    log.logger().info("command", request_id="r-1", duration_ms=1.5, note="two\nlines")
    (event,) = lines(stream)
    assert list(event) == ["ts", "level", "event", "request_id", "duration_ms", "note"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(event["ts"]))
    assert (event["level"], event["event"], event["note"]) == ("info", "command", "two\nlines")


def test_a_field_cannot_take_the_place_of_a_standard_key() -> None:
    """A field that happens to be called ``ts`` does not hide the time."""
    stream = configured()
    log.logger().info("command", ts="mine", level="mine")
    (event,) = lines(stream)
    assert event["level"] == "info"
    assert event["ts"] != "mine"


def test_events_below_the_level_are_left_out() -> None:
    """At ``warning`` an info event is not written, whichever way it comes."""
    stream = configured("WARNING")
    log.logger().info("quiet")
    logging.getLogger("other").info("quiet")
    log.logger().warning("loud")
    logging.getLogger("other").warning("loud, too")
    assert [event["event"] for event in lines(stream)] == ["loud", "loud, too"]


def test_an_unknown_level_is_refused() -> None:
    """A level that does not exist is a ValueError, not a silent default."""
    with pytest.raises(ValueError, match="no such log level: loud"):
        log.configure(fmt="json", level="loud", stream=io.StringIO())


def test_auto_is_json_unless_the_stream_is_a_terminal() -> None:
    """People get columns, everything else gets JSON."""
    stream, terminal = io.StringIO(), Terminal()
    log.configure(fmt="auto", level="info", stream=stream)
    log.logger().info("command", code="ok")
    log.configure(fmt="auto", level="info", stream=terminal)
    log.logger().info("command", code="ok")
    assert lines(stream)[0]["code"] == "ok"
    assert not terminal.getvalue().startswith("{")
    assert "command" in terminal.getvalue()


def test_a_value_cannot_forge_lines_or_colours_on_a_console() -> None:
    """Line breaks and escape sequences in values, and in messages of other libraries, are written escaped."""
    stream = io.StringIO()
    log.configure(fmt="console", level="info", stream=stream)
    log.logger().info("command", topic="a\n2026 [info] forged \x1b[31m")
    logging.getLogger("other").warning("first \x1b[31m\nsecond")
    assert len(stream.getvalue().splitlines()) == 2
    assert "\x1b[31m" not in stream.getvalue()
    assert r"a\n2026" in stream.getvalue()


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_an_exception_is_its_class_and_its_place_without_its_message(fmt: str) -> None:
    """The message of an exception and of its cause are left out, because they quote values; the frames are there."""
    stream = io.StringIO()
    log.configure(fmt="json" if fmt == "json" else "console", level="info", stream=stream)
    try:
        try:
            fail("hunter2")
        except ValueError as exc:
            raise RuntimeError("hunter2") from exc
    except RuntimeError:
        log.logger().exception("write_failed")
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "Traceback" not in text
    assert len(text.splitlines()) == 1
    assert "RuntimeError" in text
    assert "ValueError" in text


def test_the_frames_are_file_line_and_function_and_bounded() -> None:
    """``where`` holds basenames only, outermost first, and at most the twelve innermost frames."""

    def dig(depth: int) -> None:
        if depth:
            dig(depth - 1)
        fail("hunter2")

    stream = configured()
    try:
        dig(40)
    except ValueError as exc:
        log.logger().error("write_failed", exc_info=exc)
    where = lines(stream)[0]["where"]
    assert isinstance(where, list)
    assert len(where) == log.MAX_FRAMES
    assert re.fullmatch(r"test_log\.py:\d+ fail", where[-1])


def test_an_exception_group_names_the_exception_inside() -> None:
    """What a task group raises is traced to the first exception it holds."""
    stream = configured()
    try:
        fail("hunter2")
    except ValueError as exc:
        log.logger().error("stopped", exc_info=ExceptionGroup("hunter2", [exc]))
    (event,) = lines(stream)
    assert event["error"] == "ExceptionGroup: ValueError"
    assert re.search(r"test_log\.py:\d+ fail", str(event["where"]))


def test_asking_for_an_exception_where_there_is_none_is_harmless() -> None:
    """``exc_info=True`` outside an except clause writes the event alone."""
    stream = configured()
    log.logger().error("stopped", exc_info=True)
    logging.getLogger("other").error("stopped", exc_info=True)  # noqa: LOG014 - the very case
    assert [set(event) for event in lines(stream)] == [{"ts", "level", "event"}, {"ts", "level", "event", "logger"}]


def test_records_of_the_standard_library_take_the_same_shape() -> None:
    """A library's record becomes an event with the logger's name, and exceptions among its arguments a class name."""
    stream = configured()
    logging.getLogger("mqtt").error("Caught exception in on_message: %s", ValueError("hunter2"))
    logging.getLogger("other").log(25, "between two levels")
    logging.getLogger("other").warning("%d does not fit", "this")
    logging.getLogger("other").warning("")
    events = [(event["level"], event["event"], event["logger"]) for event in lines(stream)]
    assert events == [
        ("error", "Caught exception in on_message: ValueError", "mqtt"),
        ("info", "between two levels", "other"),
        ("warning", "%d does not fit", "other"),
        ("warning", "", "other"),
    ]


def test_warnings_are_events() -> None:
    """A warning of Python's own goes into the log, on one line."""
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    (event,) = lines(stream)
    assert event["logger"] == "py.warnings"
    assert "DeprecationWarning: old ways" in str(event["event"])


def test_the_mqtt_library_never_logs_its_packets() -> None:
    """At level ``debug`` the daemon's own debug events show, the MQTT library's, which quote packets, do not."""
    stream = configured("debug")
    log.logger().debug("mine")
    logging.getLogger("mqtt").debug("Received PUBLISH hunter2")
    logging.getLogger("mqtt").info("Received PUBLISH hunter2")
    logging.getLogger("mqtt").warning("There are 10 pending publish calls.")
    assert [event["event"] for event in lines(stream)] == ["mine", "There are 10 pending publish calls."]


def test_what_asyncio_reports_quotes_no_arguments_and_no_exception_messages() -> None:
    """An exception in a callback or a forgotten task is logged by class and place, without reprs."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(fail, "hunter2")
        loop.call_exception_handler(
            {"message": "Task exception was never retrieved", "exception": ValueError("hunter2")}
        )
        await asyncio.sleep(0)

    stream = configured()
    asyncio.run(scenario())
    assert "hunter2" not in stream.getvalue()
    assert [event["error"] for event in lines(stream)] == ["ValueError", "ValueError"]
    assert {event["event"] for event in lines(stream)} == {
        "Task exception was never retrieved",
        "Exception in callback fail",
    }


def test_configuring_twice_does_not_double_the_lines() -> None:
    """The second set-up replaces the first."""
    first, second = configured(), configured()
    log.logger().info("mine")
    logging.getLogger("other").info("theirs")
    assert first.getvalue() == ""
    assert [event["event"] for event in lines(second)] == ["mine", "theirs"]


def test_a_closed_stream_loses_lines_and_nothing_else() -> None:
    """Logging to a closed stream raises nothing, from either side."""
    stream = io.StringIO()
    stream.close()
    log.configure(fmt="auto", level="info", stream=stream)
    log.logger().info("lost")
    logging.getLogger("other").warning("lost")


@pytest.mark.parametrize("sink", ["broken pipe", "full disk", "none"])
def test_the_process_outlives_its_standard_error(sink: str) -> None:
    """With standard error broken, full or missing the process goes on and ends with its own exit code."""
    program = (
        "from setpointd import log\n"
        "log.configure(fmt='json', level='info')\n"
        "for _ in range(200): log.logger().info('lost', filler='x' * 100)\n"
        "print('alive')"
    )
    reader, writer = os.pipe()
    os.close(reader)
    if sink == "full disk":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    command = ["sh", "-c", f'exec "$0" "$@" {"2>&-" if sink == "none" else ""}', sys.executable, "-c", program]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, env=env, check=False, timeout=30)
    finally:
        os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"alive\n")
