"""What a terminal gets beyond plain text: tables folded to its width, JSON in colours, a progress bar. Knows rich.

Colours are the terminal's own eight, and of these red, green and magenta only: they are legible on dark and on light.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.table import Table as RichTable
from rich.text import Text
from rich.theme import Theme

from setpoint.cli.output import Table, cell, coloured, is_terminal

_THEME = Theme(
    {
        "json.brace": "none",
        "json.bool_true": "magenta",
        "json.bool_false": "magenta",
        "json.null": "magenta",
        "json.number": "magenta",
        "json.str": "green",
        "json.key": "bold",
        "bar.complete": "green",
        "bar.finished": "green",
        "bar.pulse": "green",
        "progress.percentage": "none",
        "progress.remaining": "none",
        "progress.description": "none",
    },
    inherit=True,
)


def console(stream: Any, *, colours: bool) -> Console:
    """Make rich's console for a terminal."""
    return Console(
        file=stream,
        force_terminal=True,
        color_system="standard" if colours else None,
        highlight=False,
        markup=False,
        emoji=False,
        theme=_THEME,
        legacy_windows=False,
    )


def print_table(table: Table, stream: Any, *, colours: bool) -> None:
    """Print a table, folded to the terminal's width."""
    out = console(stream, colours=colours)
    if table.heading:
        out.print(Text(cell(table.heading), style="bold"), soft_wrap=True)
    if not table.rows:
        return
    drawn = RichTable(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(table.columns), header_style="bold"
    )
    for index, name in enumerate(table.columns):
        style = table.styles.get(index, "none")
        drawn.add_column(name, overflow="fold", no_wrap=index in table.whole, style=style)
    for row in table.rows:
        drawn.add_row(*(Text(text, style=table.words.get(text, "")) for text in map(cell, row)))
    out.print(drawn)


def print_json(text: str) -> None:
    """Print JSON in colours; the terminal wraps it."""
    highlighted = Text(text)
    JSONHighlighter().highlight(highlighted)
    console(sys.stdout, colours=True).print(highlighted, soft_wrap=True)


@contextlib.contextmanager
def bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error, if that is a terminal; gives what is called with how far it is."""
    if not is_terminal(sys.stderr):
        yield lambda _done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    out = console(sys.stderr, colours=coloured(sys.stderr))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.update(task, completed=done)
