"""Logging: one event, one line, as JSON or for a terminal, and nothing in it that should stay inside.

Rules:

- Keys come as ``ts``, ``level``, ``event``, then the event's own fields.
- An exception is logged as its class and where it was raised. Its message is left out, because messages quote values.
- The standard library's logging (asyncio, warnings, the MQTT library) takes the same way, first lines only: the further
  lines of its messages are reprs and source text.
- A stream that is closed, broken or full loses lines. It never stops the daemon.
"""

import json
import logging
import re
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import PurePath
from traceback import walk_tb
from types import TracebackType
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from setpoint_contracts import strictjson
from setpoint_contracts.timestamps import rfc3339

MAX_FRAMES = 12
"""An exception is logged with at most so many frames, the innermost ones."""

# Where the text of a message with an exception begins to quote arguments and reprs, as asyncio's messages do.
_QUOTED = re.compile(r"[(<]")


def configure(
    *,
    fmt: Literal["auto", "json", "console"] = "auto",
    level: str = "info",
    stream: TextIO | None = None,
) -> None:
    """Set up structlog and the standard library's logging for the whole process; may be called again.

    ``auto`` is ``console`` when the stream is a terminal and ``json`` otherwise. ``stream`` defaults to standard error.
    ``level`` is the lowest level written (``debug`` … ``critical``, in any case); the MQTT library's own logger never
    goes below ``warning``, because it logs packets. Raises ValueError for a level that there is none of.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"no such log level: {level}")
    line = _Line(sys.stderr if stream is None else stream)
    structlog.configure(
        processors=[_hide_exception, _arrange, _renderer(fmt, terminal=line.terminal)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: line,
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.setLevel(threshold)
    root.addHandler(_BRIDGE)
    logging.getLogger("mqtt").setLevel(max(threshold, logging.WARNING))
    sys.excepthook = _crashed


def logger() -> FilteringBoundLogger:
    """Return a logger; made before ``configure``, it takes effect with its first event afterwards."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def _crashed(kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    """Tell of an exception that nobody caught as of any other: its kind and place, without its message."""
    logger().critical("crashed", exc_info=(kind, error, error.__traceback__))


class _Line:
    """Writes whole lines to a stream, from any thread; what cannot be written is lost."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream  # sys.stderr is None when the process was started without one
        # Reentrant: writing may run the garbage collector, whose warnings come back here on the same thread.
        self._lock = threading.RLock()

    @property
    def terminal(self) -> bool:
        with suppress(ValueError):  # closed
            return self._stream is not None and self._stream.isatty()
        return False

    def msg(self, line: str) -> None:
        if self._stream is None:
            return
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass

    debug = info = warning = error = critical = msg


class _Bridge(logging.Handler):
    """Hands the records of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        logger().log(level, _text(record), logger=record.name, exc_info=record.exc_info)


_BRIDGE = _Bridge()


def _text(record: logging.LogRecord) -> str:
    """Take a record's message without exception messages, reprs beside an exception, and line breaks."""
    if isinstance(record.args, tuple):
        record.args = tuple(type(arg).__name__ if isinstance(arg, BaseException) else arg for arg in record.args)
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):  # a message that does not fit its arguments is still an event
        message = str(record.msg)
    first = (message.splitlines() or [""])[0]
    if record.exc_info:
        first = _QUOTED.split(first)[0].strip()
    return first if first.isprintable() else first.encode("unicode_escape").decode()


def _hide_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by ``error`` (the class), ``where`` (frames, outermost first) and, if any, ``cause``."""
    exc = _exception(event.pop("exc_info", None))
    if exc is None:
        return event
    event["error"] = type(exc).__name__
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
        event["error"] += f": {type(exc).__name__}"
    event["where"] = _frames(exc.__traceback__)
    if exc.__cause__ is not None:
        event["cause"] = type(exc.__cause__).__name__
    return event


def _exception(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    elif exc_info and not isinstance(exc_info, BaseException):
        exc_info = sys.exception()
    return exc_info if isinstance(exc_info, BaseException) else None


def _frames(traceback: TracebackType | None) -> list[str]:
    frames = deque(walk_tb(traceback), maxlen=MAX_FRAMES)
    return [f"{PurePath(f.f_code.co_filename).name}:{line} {f.f_code.co_qualname}" for f, line in frames]


def _arrange(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    head = {"ts": rfc3339(time.time()), "level": method, "event": event["event"]}
    return {**head, **event, **head}  # first in the line, and not to be replaced by a field of the same name


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _encode(event)


# Made once: structlog's own renderer makes one for every line.
_encode = strictjson.writer(json.JSONEncoder(default=repr))


def _renderer(fmt: Literal["auto", "json", "console"], *, terminal: bool) -> Processor:
    if fmt == "json" or (fmt == "auto" and not terminal):
        return _json
    # Quoted values: a line break or an escape sequence in a value must not forge lines on the terminal.
    return structlog.dev.ConsoleRenderer(colors=terminal, timestamp_key="ts", sort_keys=False, repr_native_str=True)
