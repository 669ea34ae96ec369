"""Differences as people read them: ``-`` what was, ``+`` what is, under the JSON Pointer of its place."""

import difflib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from setpoint.cli.output import cell, coloured, harmless, typed

_COLOURS = {"-": "red", "+": "green"}
_LONG = 60
Difference = Mapping[str, Any]


def lines(differences: Iterable[Difference]) -> list[str]:
    """Write differences of the wire; each line begins with ``-``, ``+`` or a space."""
    return [line for difference in differences for line in _lines(difference)]


def _lines(difference: Difference) -> list[str]:
    path, old, new = cell(difference["path"] or "(all)"), difference.get("old"), difference.get("new")
    if difference["op"] == "add":
        return [f"+ {path}: {typed(new)}"]
    if difference["op"] == "remove":
        return [f"- {path}: {typed(old)}"]
    if (before := _parts(old)) is not None and (after := _parts(new)) is not None:
        return [f"  {path}:", *_inside(before, after)]
    return [f"- {path}: {typed(old)}", f"+ {path}: {typed(new)}"]


def _parts(value: Any) -> list[str] | None:
    """Return the lines of something long, so that its lines can be compared; None for what is short."""
    if isinstance(value, str) and "\n" in value:
        return [harmless(line) for line in value.split("\n")]
    if isinstance(value, list) and len(typed(value)) > _LONG:
        return harmless(json.dumps(value, ensure_ascii=False, indent=2)).split("\n")
    return None


def _inside(before: Sequence[str], after: Sequence[str]) -> list[str]:
    compared = list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]
    found = ["    …" if line.startswith("@@") else f"{line[0]}   {line[1:]}" for line in compared]
    return found[1:]  # the first line is what stands between two places


def tell(title: str, differences: Sequence[Difference], *, err: bool = True) -> None:
    """Print differences under a title, in colours where they can be seen."""
    stream = sys.stderr if err else sys.stdout
    colours = coloured(stream)
    if title:
        click.echo(click.style(title, bold=True) if colours else title, err=err, color=colours)
    for line in lines(differences):
        colour = _COLOURS.get(line[0]) if colours else None
        click.echo(click.style(line, fg=colour) if colour else line, err=err, color=colours)
