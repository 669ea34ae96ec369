"""The engine: one writer, group commit.

Rules:

- There is one transaction at a time. It takes the jobs that wait, runs each in a savepoint, commits once, and only then
  tells the callers. WAL with ``synchronous=FULL``: what a caller was told survives a power cut.
- Jobs that are quick run on the event loop, and only their commit on the writer's thread: two threads of Python that
  both have something to do cost each other a third of their time. When one that waits may take long, or another
  process writes, all run on the thread; one that turns out to take long (``Tx.takes_long``) begins anew there. However
  many are quick, the loop begins no further one after ``TURN_S`` before it had another turn.
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
from functools import partial
from pathlib import Path
from typing import TypeVar

from setpointd.errors import StoreError, TakesLongError
from setpointd.log import logger
from setpointd.records import Stamp
from setpointd.store.files import LOCK_WAIT_S, open_reader
from setpointd.store.snapshot import Snapshot
from setpointd.store.tx import Tx
from setpointd.store.writer import Job, Outcome, Writer, store_error

T = TypeVar("T")

MAX_BATCH = 128
TURN_S = 0.005
"""So long the event loop runs jobs before it looks for something else to do."""
SCRUB_AGAIN_S = 1.0
# Unless told, ``close`` waits so much longer for the writer than that waits for the lock of another process.
_CLOSE_MARGIN_S = 2.0
ALONG_S = 0.1
"""For so long a job that is to go along waits for another to go along with."""


class Store:
    """An open store.

    ``on_commit`` are called on the event loop after each commit, with its jobs and its seconds. ``failing`` is whether
    the last transaction failed as a whole. ``lock_wait_s`` is how long the writer waits for another process that
    writes, until a batch fails. Raises ``OperatorError`` as ``open_writer`` does.
    """

    def __init__(self, data_dir: Path, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self.on_commit: list[Callable[[int, float], None]] = []
        self.failing = False
        self._lock_wait_s = lock_wait_s
        self._jobs: deque[Job] = deque()
        self._batch: list[Outcome] = []
        self._under_way = self._woken = False
        self._resolved = asyncio.Event()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._began = 0.0
        self._waiting: deque[float] = deque()
        self._along: list[Job] = []
        self._hurry: asyncio.TimerHandle | None = None
        self._closed = self._late = False
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(data_dir)
        self._again: asyncio.TimerHandle | None = None
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

    async def write(
        self,
        stamp: Stamp,
        run: Callable[[Tx], T],
        after: Callable[[], None] | None = None,
        *,
        quick: bool = False,
    ) -> T:
        """Run a job and return its result once it is committed.

        ``quick``: it takes some milliseconds at most, or says before that it ``takes_long``, so that the event loop may
        run it. ``after`` is called on the
        event loop when it is committed, whoever still waits for it. What the job raises is raised here, after the
        commit of its siblings. ``StoreError``: nothing was written.
        """
        if self._closed:
            raise StoreError("the store is closed")
        now = time.monotonic()
        job = Job(stamp, run, self._loop.create_future(), after, now, quick)
        self._waiting.append(now)
        self._jobs.append(job)
        self._wake()
        result: T = await job.done
        return result

    def write_along(self, stamp: Stamp, run: Callable[[Tx], T]) -> asyncio.Future[T]:
        """Run a quick job that nobody waits for with the next commit, at the latest after ``ALONG_S``.

        The future is done then, as ``write`` returns or raises.
        """
        if self._closed:
            raise StoreError("the store is closed")
        job = Job(stamp, run, self._loop.create_future(), None, None, quick=True)
        self._along.append(job)
        if self._hurry is None:
            self._hurry = self._loop.call_later(ALONG_S, self._hurried)
        return job.done

    def _hurried(self) -> None:
        self._hurry = None
        self._jobs.extend(self._along)  # when a transaction is under way, its end sees that they wait
        self._along.clear()
        self._wake()

    async def read(self, run: Callable[[Snapshot], T]) -> T:
        """Run a read on one committed state and return its result. ``StoreError``: it cannot be read."""
        execute = self._reader.conn.execute
        try:
            execute("BEGIN")
            try:
                return run(self._snapshot)
            finally:
                if self._reader.conn.in_transaction:  # else SQLite gave it up, and what it says of that counts
                    execute("COMMIT")
        except sqlite3.Error as error:
            raise store_error(error) from error

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
            raise store_error(error) from error

    async def close(self, wait_s: float | None = None) -> None:
        """Commit what waits, end the writer's thread and close the file; gives up when the writer is stuck.

        What it has not written then, nobody was told of.
        """
        self._closed = True
        wait_s = self._lock_wait_s + _CLOSE_MARGIN_S if wait_s is None else wait_s
        deadline = self._loop.time() + wait_s
        # The reader first: the last connection to close writes the log back into the file, and a reader cannot.
        self._reader.close()
        try:
            async with asyncio.timeout_at(deadline):
                while self._jobs or self._along or self._under_way:
                    self._resolved.clear()
                    self._wake()
                    await self._resolved.wait()
        except TimeoutError:
            self._late = True
            await asyncio.sleep(0)  # a transaction that is open here is committed with what it has
        finally:
            self._work.put(None)
        await asyncio.to_thread(self._thread.join, max(0.0, deadline - self._loop.time()))
        if self._thread.is_alive():
            logger().error("writer_stuck", waited_s=wait_s)

    def _wake(self) -> None:
        """Begin a transaction at the end of this turn of the event loop, with all that comes until then."""
        if not (self._woken or self._under_way):
            self._woken = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._woken = False
        self._jobs.extendleft(reversed(self._along))
        self._along.clear()
        if not self._jobs or self._late:
            return
        self._under_way, self._batch, self._began = True, [], time.perf_counter()
        # When it cannot begin at once, as while another process writes, the thread tries: it may wait, and says why.
        if all(job.quick for job in self._jobs) and self._writer.begins():
            self._run_some()
        else:
            jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), MAX_BATCH))]
            self._work.put(partial(self._run_all, jobs))

    def _run_some(self) -> None:
        """Run quick jobs for a while; what is left of them has its turn behind what else the loop has to do."""
        until = time.perf_counter() + TURN_S
        while self._more_are_quick():
            job = self._jobs.popleft()
            try:
                outcome = self._writer.run(job)
            except BaseException as error:
                # The edge of the writer: it must outlive any batch. What panics in Rust is no Exception.
                self._writer.abandon()
                self._resolve(self._failed([*(outcome.job for outcome in self._batch), job], error))
                if not isinstance(error, Exception):
                    raise
                return
            if isinstance(outcome.error, TakesLongError):
                job.quick = False
                self._jobs.appendleft(job)
                break
            self._batch.append(outcome)
            if time.perf_counter() > until:
                break
        if self._more_are_quick():
            self._loop.call_soon(self._run_some)
        elif not self._batch:
            self._writer.abandon()
            self._begin()
        else:
            self._work.put(partial(self._commit, self._batch))

    def _more_are_quick(self) -> bool:
        return bool(self._jobs) and self._jobs[0].quick and len(self._batch) < MAX_BATCH and not self._late

    def _failed(self, jobs: list[Job], error: BaseException) -> list[Outcome]:
        self.failing = True
        failure = store_error(error)
        return [Outcome(job, error=failure) for job in jobs]

    # On the writer's thread

    def _serve(self) -> None:
        try:
            while (work := self._work.get()) is not None:
                work()
        finally:
            self._writer.close(self._lock_wait_s)

    def _run_all(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.quick = False  # here they may take long
        try:
            self._writer.begin(self._lock_wait_s)
            outcomes = [self._writer.run(job) for job in jobs]
        except BaseException as error:  # noqa: BLE001 - the same edge
            self._writer.abandon()
            self._tell(self._failed(jobs, error))
        else:
            self._commit(outcomes)

    def _commit(self, outcomes: list[Outcome]) -> None:
        try:
            self._writer.commit()
            self.failing = False
        except BaseException as error:  # noqa: BLE001 - the same edge
            self._writer.abandon()
            outcomes = self._failed([outcome.job for outcome in outcomes], error)
        self._tell(outcomes)

    def _tell(self, outcomes: list[Outcome]) -> None:
        # The loop is gone when the daemon was stopped hard; then nobody waits for a result either.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._resolve, outcomes)

    # On the event loop again

    def _resolve(self, outcomes: list[Outcome]) -> None:
        self._under_way = False
        self._resolved.set()
        if self._jobs:
            self._wake()
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
            listener(len(outcomes), time.perf_counter() - self._began)
        if self._writer.scrubs and not self._closed and self._again is None:
            self._again = self._loop.call_later(SCRUB_AGAIN_S, self._commit_again)

    def _commit_again(self) -> None:
        """Commit nothing, so that the log is emptied although nobody writes."""
        self._again = None
        if not self._closed:
            self.write_along(Stamp("", None), lambda _tx: None)
