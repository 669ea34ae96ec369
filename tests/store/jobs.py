"""What the daemon does with a store, in few words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlite_utils import Database

from setpoint_contracts.timestamps import rfc3339
from setpointd.records import Document, Stamp
from setpointd.store import Tx

FIRST_MOMENT = 1_767_225_600
"""The start of 2026 in POSIX seconds."""


@contextmanager
def job(db: Database, at_s: float = 0, by: str = "alice", request_id: str = "r-1") -> Iterator[Tx]:
    """Open a transaction as the store does; `at_s` counts seconds from the first moment of 2026."""
    with db.atomic():
        yield Tx(db, Stamp(rfc3339(FIRST_MOMENT + at_s), by, request_id))


def put(service: str, config: dict[str, Any]) -> Callable[[Tx], Document]:
    """Make a job that writes the next version of a service."""
    return lambda tx: tx.config.write_version(service, tx.config.current(service), config, op="set", reason=None)


def write(db: Database, service: str, config: dict[str, Any] | None, at_s: float = 0, **more: Any) -> Document:
    """Write the next version of a service; config None deletes it."""
    with job(db, at_s, request_id=f"r-{at_s}") as tx:
        values = {"op": "delete" if config is None else "set", "reason": None, **more}
        return tx.config.write_version(service, tx.config.current(service), config, **values)


def rows(db: Database, sql: str) -> list[dict[str, Any]]:
    """Look into the tables."""
    return [dict(row) for row in db.conn.execute(sql)]
