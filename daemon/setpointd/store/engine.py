"""The engine: one writer thread, group commit.

Rules:

- One thread writes. It takes all the jobs that wait, runs each in a savepoint of one transaction, commits once, and
  only then tells the callers. WAL with ``synchronous=FULL``: what a caller was told survives a power cut.
- When the commit fails, every job of the batch fails with ``StoreError`` and nothing of it shows.
- A job that nobody waits for goes along with the next commit that others need, so that it costs none of its own.
- Reads are awaited, because another engine might not be in this process. Here they go to a connection of their own, at
  once and on the caller's thread, and see what is committed. Only a scan, which may take long, has a thread and a
  connection for itself; there is one scan at a time.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from setpointd.errors import StoreError
from setpointd.log import logger
from setpointd.records import Stamp
from setpointd.store.files import BUSY_TIMEOUT_S, LOCK_WAIT_S, open_reader, open_writer, writer_lock
from setpointd.store.known import Known
from setpointd.store.snapshot import Snapshot
from setpointd.store.tx import Tx

T = TypeVar("T")

MAX_BATCH = 128
SCRUB_AGAIN_S = 1.0
# Unless told, ``close`` waits so much longer for the writer than that waits for the lock of another process.
_CLOSE_MARGIN_S = 2.0
ALONG_S = 0.1
"""For so long a job that is to go along waits for another to go along with."""


@dataclass(slots=True)
class _Job:
    """``since``: when somebody began to wait for it, None: nobody does."""

    stamp: Stamp
    run: Callable[[Tx], Any]
    done: asyncio.Future[Any]
    after: Callable[[], None] | None
    since: float | None


@dataclass(slots=True)
class _Outcome:
    job: _Job
    result: Any = None
    error: Exception | None = None


class Store:
    """An open store.

    ``on_commit`` are called on the event loop after each commit, with its jobs and its seconds. ``failing`` is whether
    the last transaction failed as a whole. ``lock_wait_s`` is how long the writer waits for another process that
    writes, until a batch fails. Raises ``OperatorError`` as ``open_writer`` does.
    """

    def __init__(self, data_dir: Path, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self.on_commit: list[Callable[[int, float], None]] = []
        self.failing = False
        self._lock = partial(writer_lock, data_dir, lock_wait_s)
        self._close_s = lock_wait_s + _CLOSE_MARGIN_S
        self._jobs: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._turn: list[_Job] = []
        self._waiting: deque[float] = deque()
        self._along: deque[_Job] = deque()
        self._hurry: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._writer = open_writer(data_dir)
        self._again: asyncio.TimerHandle | None = None
        self._scrubs = True  # the one before may have ended before it did
        self._reader = open_reader(data_dir)
        self._snapshot = Snapshot(self._reader)
        self._open_scanner = partial(open_reader, data_dir)
        self._scanning = asyncio.Lock()
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether there is a writer; without one, only a restart helps."""
        return self._thread.is_alive()

    def oldest_job_s(self) -> float:
        """How long the oldest job has been waiting for its outcome, in seconds; 0 when none waits."""
        return time.monotonic() - self._waiting[0] if self._waiting else 0.0

    async def write(self, stamp: Stamp, run: Callable[[Tx], T], after: Callable[[], None] | None = None) -> T:
        """Run a job on the writer thread and return its result once it is committed.

        ``after`` is called on the event loop when it is committed, whoever still waits for it. What the job raises is
        raised here, after the commit of its siblings. ``StoreError``: nothing was written.
        """
        if self._closed:
            raise StoreError("the store is closed")
        now = time.monotonic()
        job = _Job(stamp, run, self._loop.create_future(), after, now)
        self._waiting.append(now)
        if not self._turn:
            self._loop.call_soon(self._hand_over)
        self._turn.append(job)
        result: T = await job.done
        return result

    def write_along(self, stamp: Stamp, run: Callable[[Tx], T]) -> asyncio.Future[T]:
        """Run a job that nobody waits for with the next commit, at the latest after ``ALONG_S``.

        The future is done then, as ``write`` returns or raises.
        """
        if self._closed:
            raise StoreError("the store is closed")
        job = _Job(stamp, run, self._loop.create_future(), None, None)
        self._along.append(job)
        if self._hurry is None:
            self._hurry = self._loop.call_later(ALONG_S, self._go_alone)
        return job.done

    def _hand_over(self) -> None:
        """Give the writer what one turn of the event loop brought, at once: it would begin with the first alone."""
        for start in range(0, len(self._turn), MAX_BATCH):
            self._jobs.put(self._turn[start : start + MAX_BATCH])
        self._turn.clear()

    def _go_alone(self) -> None:
        self._hurry = None
        self._jobs.put([])

    def _next_along(self) -> _Job | None:
        try:
            return self._along.popleft()
        except IndexError:  # the other thread may be faster
            return None

    async def read(self, run: Callable[[Snapshot], T]) -> T:
        """Run a read on one committed state and return its result. ``StoreError``: it cannot be read."""
        execute = self._reader.conn.execute
        try:
            execute("BEGIN")
            try:
                return run(self._snapshot)
            finally:
                execute("COMMIT")
        except sqlite3.Error as error:
            raise _store_error(error) from error

    async def scan(self, run: Callable[[Snapshot], T]) -> T:
        """Run a read that may be long, off the event loop, when those that came before are done. Raises as ``read``."""
        async with self._scanning:
            if self._closed:
                raise StoreError("the store is closed")
            return await asyncio.to_thread(self._scan, run)

    def _scan(self, run: Callable[[Snapshot], T]) -> T:
        try:
            with contextlib.closing(self._open_scanner()) as db, db.atomic():
                return run(Snapshot(db))
        except sqlite3.Error as error:
            raise _store_error(error) from error

    async def close(self, wait_s: float | None = None) -> None:
        """Commit what waits, end the writer thread and close the file; gives up when the writer is stuck.

        What it has not written then, nobody was told of.
        """
        self._closed = True
        wait_s = self._close_s if wait_s is None else wait_s
        # The reader first: the last connection to close writes the log back into the file, and a reader cannot.
        self._reader.close()
        self._hand_over()
        self._jobs.put([])
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, wait_s)
        if self._thread.is_alive():
            logger().error("writer_stuck", waited_s=wait_s)

    def _serve(self) -> None:
        try:
            while (batch := self._take()) is not None:
                if not batch:  # what was to go along has gone with another
                    continue
                started = time.perf_counter()
                outcomes = self._commit(batch)
                self._tell(outcomes, time.perf_counter() - started)
        finally:
            with contextlib.suppress(OSError), self._lock():  # without the lock, the next to open it cleans up
                self._writer.close()

    def _take(self) -> list[_Job] | None:
        """Wait for jobs, and take what waits behind them and what goes along; None at the end."""
        jobs = self._jobs.get()
        if jobs is None:
            return None
        batch = [*iter(self._next_along, None), *jobs]
        while len(batch) < MAX_BATCH:
            try:
                jobs = self._jobs.get_nowait()
            except queue.Empty:
                break
            if jobs is None:
                self._jobs.put(None)
                break
            batch += jobs
        return batch

    def _commit(self, batch: list[_Job]) -> list[_Outcome]:
        try:
            with self._lock():
                with self._writer.atomic():
                    known = Known()
                    outcomes = [self._run(job, known) for job in batch]
                if self._scrubs:
                    self._scrub()
        except Exception as error:  # noqa: BLE001 - the edge of the writer loop: it must outlive any batch
            self.failing = True
            failure = _store_error(error)
            return [_Outcome(job, error=failure) for job in batch]
        self.failing = False
        return outcomes

    def _scrub(self) -> None:
        """Empty the write-ahead log; when a reader is in the way, or it fails, after the next commit instead."""
        try:
            self._writer.conn.execute("PRAGMA busy_timeout=0")
            busy, *_ = self._writer.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._scrubs = bool(busy)
        except sqlite3.Error as error:  # what was to be committed is
            _store_error(error)
        finally:
            self._writer.conn.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000:.0f}")

    def _run(self, job: _Job, known: Known) -> _Outcome:
        tx = Tx(self._writer, job.stamp, known)
        try:
            with tx.savepoint():
                return _Outcome(job, job.run(tx))
        except Exception as error:  # the same edge, for one job: its siblings go on
            if not self._writer.conn.in_transaction:
                raise  # SQLite gave the whole transaction up (disk full, I/O error): no sibling is safe
            return _Outcome(job, error=_store_error(error) if isinstance(error, sqlite3.Error) else error)
        finally:
            self._scrubs = self._scrubs or tx.scrubs

    def _tell(self, outcomes: list[_Outcome], seconds: float) -> None:
        # The loop is gone when the daemon was stopped hard; then nobody waits for a result either.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._resolve, outcomes, seconds)

    def _resolve(self, outcomes: list[_Outcome], seconds: float) -> None:
        for outcome in outcomes:
            if outcome.job.since is not None:
                self._waiting.popleft()  # jobs are resolved in the order in which they came
            if outcome.error is None and outcome.job.after is not None:
                try:
                    outcome.job.after()
                except Exception as error:  # noqa: BLE001 - the same edge: it is committed, and the others must hear so
                    logger().error("after_commit_failed", exc_info=error)
            if outcome.job.done.done():
                continue  # the caller went away: its connection was lost
            if outcome.error is None:
                outcome.job.done.set_result(outcome.result)
            else:
                outcome.job.done.set_exception(outcome.error)
        for listener in self.on_commit:
            listener(len(outcomes), seconds)
        if self._scrubs and not self._closed and self._again is None:
            self._again = self._loop.call_later(SCRUB_AGAIN_S, self._commit_again)

    def _commit_again(self) -> None:
        """Commit nothing, so that the log is emptied although nobody writes."""
        self._again = None
        if not self._closed:
            self.write_along(Stamp("", None), lambda _tx: None)


def _store_error(error: Exception) -> StoreError:
    """Log a failure where it happened, by the name that SQLite gives it; its message may quote values."""
    logger().error("store_failed", sqlite=getattr(error, "sqlite_errorname", None), exc_info=error)
    return StoreError(type(error).__name__)
