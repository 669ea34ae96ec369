"""The writing connection: transactions of many jobs, each in a savepoint. One thread at a time may have it."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from setpointd.errors import StoreError
from setpointd.log import logger
from setpointd.records import Stamp
from setpointd.store.files import BUSY_TIMEOUT_S, open_writer, writer_lock
from setpointd.store.tx import Tx

_NOBODY = Stamp("", None)
_POLL_S = 0.01
_PRIMARY = 0xFF  # of a result code, what is no detail


@dataclass(slots=True)
class Job:
    """Something to write. ``since``: when somebody began to wait for it, None: nobody does."""

    stamp: Stamp
    run: Callable[[Tx], Any]
    done: asyncio.Future[Any]
    after: Callable[[], None] | None
    since: float | None
    quick: bool


@dataclass(slots=True)
class Outcome:
    """What came of a job: its result, or why it failed."""

    job: Job
    result: Any = None
    error: Exception | None = None


class Writer:
    """``scrubs``: something is in the write-ahead log that must not stay. Raises what ``open_writer`` raises."""

    def __init__(self, data_dir: Path) -> None:
        self._db = open_writer(data_dir)
        # SQLite would wait where nothing may: in a transaction that is begun there is nothing to wait for.
        self._db.conn.execute("PRAGMA busy_timeout=0")
        self._lock = partial(writer_lock, data_dir)
        self._held = contextlib.ExitStack()
        self._tx = Tx(self._db, _NOBODY)
        self.scrubs = True  # the one before may have ended before it did

    def begin(self, wait_s: float) -> None:
        """Begin a transaction. ``BlockingIOError``: another process writes, for longer than one is to wait.

        Whoever is told that it could not be begun must ``abandon`` it.
        """
        self._held.enter_context(self._lock(wait_s))
        deadline = time.monotonic() + min(wait_s, BUSY_TIMEOUT_S)
        while not self._begun():
            if time.monotonic() > deadline:
                raise BlockingIOError
            time.sleep(_POLL_S)
        self._tx = Tx(self._db, _NOBODY)

    def _begun(self) -> bool:
        """Begin, unless somebody writes who does not keep to the lock, as the ``sqlite3`` shell."""
        try:
            self._db.conn.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_BUSY:
                return False
            raise
        return True

    def begins(self) -> bool:
        """Whether a transaction could begin without waiting."""
        try:
            self.begin(wait_s=0.0)
        except (OSError, sqlite3.Error):
            self.abandon()
            return False
        return True

    def run(self, job: Job) -> Outcome:
        """Run a job; one that fails is undone. Raises when SQLite has given the whole transaction up."""
        tx = self._tx
        tx.next_job(job.stamp, quick=job.quick)
        try:
            with tx.savepoint():
                return Outcome(job, job.run(tx))
        except Exception as error:  # the edge of the writer, for one job: its siblings go on
            if not self._db.conn.in_transaction:
                raise  # the disk is full, or broken: no sibling is safe
            return Outcome(job, error=store_error(error) if isinstance(error, sqlite3.Error) else error)
        finally:
            self.scrubs = self.scrubs or tx.scrubs

    def commit(self) -> None:
        """Commit; raises when nothing of it is written. Then ``abandon`` it."""
        self._db.conn.execute("COMMIT")
        with self._held:
            if self.scrubs:
                self._scrub()

    def abandon(self) -> None:
        """Undo the transaction that was begun, if one was."""
        with self._held, contextlib.suppress(sqlite3.Error):  # then the next does not begin, and undoes it
            self._db.rollback()

    def close(self, wait_s: float) -> None:
        """Close the file, if need be after waiting for another process."""
        with contextlib.suppress(OSError), self._lock(wait_s):  # without the lock, the next to open it cleans up
            self._db.close()

    def _scrub(self) -> None:
        """Empty the write-ahead log; when a reader is in the way, or it fails, after the next commit instead."""
        try:
            busy, *_ = self._db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self.scrubs = bool(busy)
        except sqlite3.Error as error:  # what was to be committed is
            store_error(error)


def store_error(error: BaseException) -> StoreError:
    """Log a failure where it happened, by the name that SQLite gives it; its message may quote values."""
    logger().error("store_failed", sqlite=getattr(error, "sqlite_errorname", None), exc_info=error)
    return StoreError(type(error).__name__)
