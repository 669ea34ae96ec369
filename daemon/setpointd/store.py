"""The store: one SQLite file, one writer thread, group commit.

Rules:

- One thread writes. It takes all the jobs that wait, runs each in a savepoint of one transaction, commits once, and
  only then tells the callers. WAL with ``synchronous=FULL``: what a caller was told survives a power cut.
- When the commit fails, every job of the batch fails with ``StoreError`` and nothing of it shows.
- Whoever writes holds ``writer.lock``, in this process and in any other (``setpointd token``), for as long as it
  writes: SQLite up to 3.51.2 can lose a checkpoint when two connections write at the same moment.
- Reads go to a connection of their own, on the caller's thread, and see what is committed.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Database

from setpointd.errors import OperatorError, StoreError
from setpointd.log import logger
from setpointd.migrations import migrations
from setpointd.records import Stamp
from setpointd.snapshot import Snapshot
from setpointd.tx import Tx

T = TypeVar("T")

DATABASE = "setpoint.db"
MAX_BATCH = 128
_BUSY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Job:
    stamp: Stamp
    run: Callable[[Tx], Any]
    answer: asyncio.Future[Any]


_Outcome = tuple[asyncio.Future[Any], Any, Exception | None]


class Store:
    """An open store.

    ``on_commit`` are called on the event loop after each commit, with its jobs and its seconds. ``failing`` is whether
    the last transaction failed as a whole.
    """

    def __init__(self, data_dir: Path) -> None:
        self.on_commit: list[Callable[[int, float], None]] = []
        self.failing = False
        self._data_dir = data_dir
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._writer = open_writer(data_dir)
        self._reader = Database(_connect(data_dir, "ro"), execute_plugins=False)
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether there is a writer; without one, only a restart helps."""
        return self._thread.is_alive()

    async def write(self, stamp: Stamp, run: Callable[[Tx], T]) -> T:
        """Run a job on the writer thread and return its result once it is committed.

        What the job raises is raised here, after the commit of its siblings. ``StoreError``: nothing was written.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(stamp, run, answer))
        return await answer

    @contextlib.contextmanager
    def read(self) -> Iterator[Snapshot]:
        """One committed state, for reads that do not wait."""
        try:
            with self._reader.atomic():
                yield Snapshot(self._reader)
        except sqlite3.Error as error:
            raise _store_error(error) from error

    async def close(self) -> None:
        """Commit what waits, end the writer thread and close the file."""
        # The reader first: the last connection to close writes the log back into the file, and a reader cannot.
        self._reader.close()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        try:
            while batch := self._take():
                started = time.perf_counter()
                outcomes = self._commit(batch)
                self._tell(outcomes, time.perf_counter() - started)
        finally:
            with writer_lock(self._data_dir):
                self._writer.close()

    def _take(self) -> list[_Job]:
        """Wait for a job and take all that wait behind it; empty at the end."""
        job = self._jobs.get()
        batch = []
        while job is not None:
            batch.append(job)
            if len(batch) == MAX_BATCH:
                return batch
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch
        if batch:
            self._jobs.put(None)
        return batch

    def _commit(self, batch: list[_Job]) -> list[_Outcome]:
        try:
            with writer_lock(self._data_dir), self._writer.atomic():
                outcomes = [self._run(job) for job in batch]
        except Exception as error:  # noqa: BLE001 - the edge of the writer loop: it must outlive any batch
            self.failing = True
            failure = _store_error(error)
            return [(job.answer, None, failure) for job in batch]
        self.failing = False
        return outcomes

    def _run(self, job: _Job) -> _Outcome:
        try:
            with self._writer.atomic():
                return job.answer, job.run(Tx(self._writer, job.stamp)), None
        except Exception as error:  # the same edge, for one job: its siblings go on
            if not self._writer.conn.in_transaction:
                raise  # SQLite gave the whole transaction up (disk full, I/O error): no sibling is safe
            return job.answer, None, _store_error(error) if isinstance(error, sqlite3.Error) else error

    def _tell(self, outcomes: list[_Outcome], seconds: float) -> None:
        # The loop is gone when the daemon was stopped hard; then nobody waits for an answer either.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._resolve, outcomes, seconds)

    def _resolve(self, outcomes: list[_Outcome], seconds: float) -> None:
        for answer, result, error in outcomes:
            if answer.done():
                continue  # the caller went away: its connection was lost
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)
        for listener in self.on_commit:
            listener(len(outcomes), seconds)


def create(data_dir: Path, stamp: Stamp, store_id: str) -> None:
    """Make a new store in a directory that has none."""
    with writing(data_dir, stamp, create=True) as tx:
        tx.found(store_id)


@contextlib.contextmanager
def writing(data_dir: Path, stamp: Stamp, *, create: bool = False) -> Iterator[Tx]:
    """Write to a store from outside its daemon, one transaction; a running daemon waits meanwhile."""
    if not create and not (data_dir / DATABASE).exists():
        msg = f"no store in {data_dir}: make one with `setpointd init --data-dir {data_dir}`"
        raise OperatorError(msg)
    with writer_lock(data_dir):
        db = open_writer(data_dir, locked=True, new=create)
        try:
            with db.atomic():
                yield Tx(db, stamp)
        finally:
            db.close()


def open_writer(data_dir: Path, *, locked: bool = False, new: bool = False) -> Database:
    """Open the writing connection and bring the tables up to date.

    Raises ``OperatorError`` when the file cannot be read, or holds no store although it is not ``new``.
    """
    try:
        with contextlib.nullcontext() if locked else writer_lock(data_dir):
            connection = _connect(data_dir, "rwc")
            with contextlib.ExitStack() as undo:
                undo.callback(connection.close)
                db = Database(connection, execute_plugins=False)
                if not new and not (db["config_epoch"].exists() and db["config_epoch"].count):
                    raise OperatorError(f"{data_dir / DATABASE} holds no store: restore a backup, or begin anew")
                connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
                migrations.apply(db)
                undo.pop_all()
                return db
    except sqlite3.Error as error:
        msg = f"the store in {data_dir} cannot be opened: {error}"
        raise OperatorError(msg) from error


@contextlib.contextmanager
def writer_lock(data_dir: Path) -> Iterator[None]:
    """Keep other writers out, across processes; the kernel lets go when a holder dies."""
    handle = os.open(data_dir / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _connect(data_dir: Path, mode: str) -> sqlite3.Connection:
    path = (data_dir / DATABASE).absolute()
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are opened by name
        check_same_thread=False,  # opened on one thread, then used by one other
    )
    connection.row_factory = sqlite3.Row
    return connection


def _store_error(error: Exception) -> StoreError:
    logger().error("store_failed", exc_info=error)
    return StoreError(type(error).__name__)
