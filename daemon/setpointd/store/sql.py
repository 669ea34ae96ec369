"""Statements on one connection. Parameters are named, so that every statement reads by itself."""

import re
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from sqlite_utils import Database

from setpoint_contracts import strictjson
from setpointd.errors import UnreadableError

# One of these stands for one character; the last one for itself, which is in no name.
_CHARACTER_CLASS = re.compile(r"\[!?\]?[^\]]*\]|\[")


class Reading:
    """What every noun's reads stand on."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def _one(self, sql: str, **values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.conn.execute(sql, values).fetchone()
        return row

    def _all(self, sql: str, **values: Any) -> sqlite3.Cursor:
        return self._db.conn.execute(sql, values)

    def _number(self, sql: str, **values: Any) -> int:
        row = self._one(sql, **values)
        return 0 if row is None else int(row[0])


class Writing(Reading):
    """What every noun's writes stand on."""

    def _do(self, sql: str, **values: Any) -> int:
        """Run a statement; how many rows it touched."""
        return self._db.conn.execute(sql, values).rowcount

    def _do_many(self, sql: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self._db.conn.executemany(sql, rows)


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
