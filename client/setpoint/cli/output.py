"""What goes to standard output: a result as a table, as JSON, as YAML, or raw.

``json`` and ``yaml`` are the whole result as the wire has it. ``table`` is for people: on a terminal it is folded to
its width, in a pipe it is plain text in columns that ``grep`` and ``awk`` can read. ``raw`` is the bare data for a
shell: a string as it is, one line for each thing of a list.

A cell shows a value as it would be typed behind ``KEY=``: a string without quotation marks where that reads back as the
same string, anything else as JSON. Nothing that is shown in a table, or as JSON on a terminal, can steer a terminal.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from setpoint.cli.exits import Failed
from setpoint.cli.options import FORMS, Options

Row = Sequence[str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people. ``styles`` of columns are what ``click.style`` takes as ``fg``, or ``bold``."""

    columns: tuple[str, ...]
    rows: Sequence[Row]
    heading: str | None = None
    styles: dict[int, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    """Styles of cells that say just this."""
    whole: frozenset[int] = frozenset()
    """Columns that are not folded as long as others can be."""


def form(options: Options) -> str:
    """Return the form that was asked for."""
    chosen = options.output or os.environ.get("SETPOINT_OUTPUT") or "table"
    if chosen not in FORMS:
        raise Failed(f"SETPOINT_OUTPUT is {chosen!r}", f"it may be {', '.join(FORMS)}")
    return chosen


def coloured(stream: Any) -> bool:
    """Whether a stream may get colours: it is a terminal that can show them, and NO_COLOR is not set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def show(options: Options, result: Any, table: Table, *, raw: Any = None) -> None:
    """Print a result in the form that was asked for. ``raw``: a text, or lines; left out, the cells of the table."""
    chosen = form(options)
    if chosen == "json":
        show_json(result)
    elif chosen == "yaml":
        show_yaml(result)
    elif chosen == "raw":
        show_raw(["\t".join(cell(one) for one in row) for row in table.rows] if raw is None else raw)
    else:
        show_table(table)


def show_json(result: Any) -> None:
    """Print JSON, indented; with colours where they can be seen."""
    text = json.dumps(result, ensure_ascii=False, indent=2)
    if not is_terminal(sys.stdout):
        click.echo(text)
    elif coloured(sys.stdout):
        from setpoint.cli.terminal import print_json

        print_json(harmless(text))
    else:
        click.echo(harmless(text))


def show_json_line(result: Any) -> None:
    """Print JSON on one line, at once: one of many that come."""
    text = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    click.echo(harmless(text) if is_terminal(sys.stdout) else text)  # which flushes


def show_yaml(result: Any) -> None:
    """Print YAML."""
    from setpoint.cli.formats import to_yaml

    click.echo(to_yaml(result), nl=False)


def show_raw(raw: str | Iterable[str]) -> None:
    """Print a text, or lines, as they are: click would take out what colours them where it is no terminal."""
    for line in [raw] if isinstance(raw, str) else raw:
        click.echo(line, color=True)


def show_table(table: Table, *, err: bool = False) -> None:
    """Print a table: folded to a terminal's width, or plain."""
    stream = sys.stderr if err else sys.stdout
    if is_terminal(stream):
        from setpoint.cli.terminal import print_table

        print_table(table, stream, colours=coloured(stream))
    else:
        for line in plain(table):
            click.echo(line, err=err)


def cell(value: Any) -> str:
    """Write a scalar or a text for people; nothing in it can steer a terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return harmless(str(value)).replace("\n", "\\n").replace("\t", "\\t")


def typed(value: Any) -> str:
    """Write a value of a config as it would be typed behind ``KEY=``."""
    if isinstance(value, str):
        return value if _reads_back(value) else harmless(json.dumps(value, ensure_ascii=False))
    return harmless(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def _reads_back(text: str) -> bool:
    if not text or text != text.strip() or not text.isprintable():
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return True
    return False


def harmless(text: str) -> str:
    """Write characters that steer a terminal, or turn the order of letters, as escapes of JSON."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else _escape(one) for one in text)


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def width(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


def plain(table: Table) -> list[str]:
    """Write a table in columns without colours, each as wide as its widest cell."""
    rows = [[cell(one) for one in row] for row in table.rows]
    head = [list(table.columns)] if any(table.columns) and rows else []
    widths = [max((width(row[index]) for row in head + rows), default=0) for index in range(len(table.columns))]
    lines = [cell(table.heading)] if table.heading else []
    for row in head + rows:
        padded = (text + " " * (wide - width(text)) for text, wide in zip(row, widths, strict=True))
        lines.append("  ".join(padded).rstrip())
    return lines
