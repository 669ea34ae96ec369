"""Statements on one connection.

Parameters are named, so that every statement reads by itself. They are bound by their places, because ``sqlite3`` looks
each name up in SQLite, and makes it a string of Python, every time: some 40 % of what a statement with ten costs.
"""

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlite_utils import Database

from setpoint_contracts import strictjson
from setpointd.errors import UnreadableError

# One of these stands for one character; the last one for itself, which is in no name.
_CHARACTER_CLASS = re.compile(r"\[!?\]?[^\]]*\]|\[")


_PARAMETER = re.compile(r":([a-z_]\w*)")


@lru_cache(512)
def _placed(sql: str) -> tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """Return a statement whose parameters have places, and what puts named values in these."""
    names = _PARAMETER.findall(sql)
    if len(names) > 1:
        return _PARAMETER.sub("?", sql), itemgetter(*names)
    return _PARAMETER.sub("?", sql), lambda values: tuple(values[name] for name in names)


class Reading:
    """What every noun's reads stand on."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def _one(self, sql: str, **values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._run(sql, values).fetchone()
        return row

    def _all(self, sql: str, **values: Any) -> sqlite3.Cursor:
        return self._run(sql, values)

    def _run(self, sql: str, values: Mapping[str, Any]) -> sqlite3.Cursor:
        statement, places = _placed(sql)
        return self._db.conn.execute(statement, places(values))

    def _number(self, sql: str, **values: Any) -> int:
        row = self._one(sql, **values)
        return 0 if row is None else int(row[0])


class Writing(Reading):
    """What every noun's writes stand on."""

    def _do(self, sql: str, **values: Any) -> int:
        """Run a statement; how many rows it touched."""
        return self._run(sql, values).rowcount

    def _do_many(self, sql: str, rows: Iterable[Mapping[str, Any]]) -> None:
        statement, places = _placed(sql)
        self._db.conn.executemany(statement, map(places, rows))


def may_match(column: str, globs: Iterable[str] | None) -> tuple[str, dict[str, str]]:
    """A condition that lets through whatever matches one of some shell-style patterns, and its values; None: anything.

    It may let more through. It is there to have SQLite leave out most of what the caller would leave out.
    """
    if globs is None:
        return "true", {}
    values = {f"glob_{number}": _CHARACTER_CLASS.sub("?", glob) for number, glob in enumerate(globs)}
    return f"({' OR '.join([f'{column} GLOB :{name}' for name in values] or ['false'])})", values


def stored_json(text: str) -> Any:
    """Read a JSON text of the store; raises ``UnreadableError``."""
    try:
        return strictjson.loads_stored(text)
    except ValueError:
        # The error's own words quote the text.
        raise UnreadableError("a row of the store cannot be read: it holds text that is no JSON") from None
