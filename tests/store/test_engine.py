"""The store: one writer, group commit, and what is told when a commit fails."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from setpoint_contracts import Code
from setpointd.errors import Rejected, StoreError
from setpointd.records import Document, Stamp, StoredReply
from setpointd.store import Snapshot, Store, Tx
from setpointd.store.audit import AuditFilter
from setpointd.store.engine import ALONG_S, MAX_BATCH, TURN_S
from setpointd.store.files import DATABASE, reading, writer_lock, writing
from tests.store.jobs import put
from tests.waiting import DEADLINE_S, eventually

STAMP = Stamp("2026-01-02T00:00:00.000Z", "alice", "r-1")


def refuse(tx: Tx) -> None:
    """Write something, then refuse, as a handler does."""
    put("refused", {})(tx)
    raise Rejected(Code.NOT_FOUND, "no")


def limit_pages(more: int) -> Callable[[Tx], None]:
    """Make a job that lets the file grow by so many pages and no further, as a full disk does."""

    def job(tx: Tx) -> None:
        connection = tx._db.conn  # noqa: SLF001 - the engine's own, and nobody else's business
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + more}")

    return job


async def current(store: Store, service: str) -> Document | None:
    """Read the newest committed version."""
    return await store.read(lambda snapshot: snapshot.config.current(service))


async def test_what_is_written_is_there(store: Store) -> None:
    """A job's result comes back once it is committed, and a read sees it then."""
    document = await store.write(STAMP, put("stt", {"a": 1}))
    assert document.version == 1
    assert await current(store, "stt") == document


async def test_jobs_that_wait_are_committed_together(store: Store, data_dir: Path) -> None:
    """While one transaction is held up, what comes waits behind it, and goes into as few commits as fit."""
    commits: list[int] = []
    store.on_commit.append(lambda jobs, _seconds: commits.append(jobs))
    with writer_lock(data_dir, 0):
        writes = [asyncio.create_task(store.write(STAMP, put(f"s{n}", {}))) for n in range(2 * MAX_BATCH)]
        await asyncio.sleep(0)  # the tasks hand their jobs over
    documents = await asyncio.gather(*writes)
    assert sorted(document.revision for document in documents) == list(range(1, 2 * MAX_BATCH + 1))
    assert sum(commits) == 2 * MAX_BATCH
    assert max(commits) == MAX_BATCH
    assert len(commits) <= 3


async def test_jobs_run_in_the_order_they_came(store: Store) -> None:
    """Each job sees what those before it wrote, in the same batch too."""
    writes = [store.write(STAMP, put("stt", {"n": n})) for n in range(50)]
    documents = await asyncio.gather(*writes)
    assert [document.version for document in documents] == list(range(1, 51))
    assert [document.config for document in documents] == [{"n": n} for n in range(50)]


async def test_a_job_has_nothing_of_the_one_before(store: Store) -> None:
    """Jobs of one transaction have their own stamp, revision and limits, also behind one that was refused."""

    def strict(tx: Tx) -> Document:
        def too_large(_document: Document, _config_bytes: int) -> None:
            raise Rejected(Code.TOO_LARGE, "no")

        document = put("stt", {"n": 1})(tx)
        tx.config.check_update = too_large
        tx.schemas.check_schema = lambda _service, _text: too_large(document, 0)
        return document

    bob, carol = STAMP._replace(by="bob", request_id="r-2"), STAMP._replace(by="carol", request_id="r-3")
    commits: list[int] = []
    store.on_commit.append(lambda jobs, _seconds: commits.append(jobs))
    first, refused, second, _ = await asyncio.gather(
        store.write(STAMP, strict, quick=True),
        store.write(bob, refuse, quick=True),
        store.write(carol, put("stt", {"n": 2}), quick=True),
        store.write(bob, lambda tx: tx.schemas.put("stt", "{}"), quick=True),
        return_exceptions=True,
    )
    assert commits == [4]
    assert isinstance(refused, Rejected)
    assert (first.updated_by, first.revision) == ("alice", 1)
    assert (second.updated_by, second.revision) == ("carol", 2)
    events, _ = await store.read(lambda snapshot: snapshot.audit.page(AuditFilter(), None, 10))
    assert [(event["user"], event["revision"]) for event in events] == [("bob", 3), ("carol", 2), ("alice", 1)]


async def test_what_goes_along_is_part_of_the_next_commit(store: Store) -> None:
    """A job that nobody waits for is committed with the next one that somebody does, before it and in one commit."""
    commits: list[int] = []
    store.on_commit.append(lambda jobs, _seconds: commits.append(jobs))
    along = store.write_along(STAMP, put("a", {}))
    document = await store.write(STAMP, put("b", {}))
    assert (await along).revision == 1
    assert document.revision == 2
    assert commits == [2]


async def test_what_goes_along_does_not_wait_for_ever(store: Store) -> None:
    """Where nobody else writes, it is committed by itself after a moment; one that fails says so, as any other."""
    async with asyncio.timeout(DEADLINE_S):
        assert (await store.write_along(STAMP, put("a", {}))).revision == 1
        with pytest.raises(Rejected):
            await store.write_along(STAMP, refuse)
    assert await current(store, "a") is not None
    assert await current(store, "refused") is None


async def test_what_goes_along_is_not_lost_when_the_store_is_closed(data_dir: Path) -> None:
    """Closing commits it; after that nothing is taken."""
    store = Store(data_dir)
    along = store.write_along(STAMP, put("a", {}))
    await store.close()
    assert (await along).revision == 1
    with pytest.raises(StoreError):
        store.write_along(STAMP, put("b", {}))


async def test_what_goes_along_is_no_job_that_somebody_waits_for(store: Store, data_dir: Path) -> None:
    """The age of the oldest job counts from what callers wait for, in whatever order they are committed."""
    with writer_lock(data_dir, 0):
        along = store.write_along(STAMP, put("a", {}))
        assert store.oldest_job_s() == 0
        write = asyncio.create_task(store.write(STAMP, put("b", {})))
        await eventually(lambda: store.oldest_job_s() > 0, "a job waits")
    await asyncio.gather(along, write)
    assert store.oldest_job_s() == 0


async def test_a_job_that_is_refused_harms_no_sibling(store: Store, data_dir: Path) -> None:
    """What a refused job wrote is undone, what the others of its batch wrote stays."""
    with writer_lock(data_dir, 0):
        writes = [store.write(STAMP, job) for job in (put("a", {}), refuse, put("b", {}))]
        tasks = [asyncio.create_task(write) for write in writes]
        await asyncio.sleep(0)
    first, refused, last = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(refused, Rejected)
    assert isinstance(first, Document)
    assert isinstance(last, Document)
    assert (first.revision, last.revision) == (1, 2)
    assert await current(store, "refused") is None


async def test_a_statement_that_fails_harms_no_sibling(store: Store, data_dir: Path) -> None:
    """A job whose own statement fails is told so; the others of its batch are committed."""

    def twice(tx: Tx) -> None:
        for _ in range(2):
            tx.replies.store("tok_a", "j-1", StoredReply(b"digest", b"reply"), STAMP.at)

    with writer_lock(data_dir, 0):
        tasks = [asyncio.create_task(store.write(STAMP, job)) for job in (put("a", {}), twice)]
        await asyncio.sleep(0)
    written, failed = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(written, Document)
    assert isinstance(failed, StoreError)
    assert not store.failing
    assert await store.read(lambda snapshot: snapshot.replies.stored("tok_a", "j-1")) is None


async def test_a_full_disk_fails_the_whole_batch(store: Store, data_dir: Path) -> None:
    """When the transaction is lost, every job of it fails and nothing of it shows; later ones work again."""
    await store.write(STAMP, limit_pages(4))
    with writer_lock(data_dir, 0):
        jobs = [put("a", {}), put("big", {"text": "x" * 100_000}), refuse, put("b", {})]
        tasks = [asyncio.create_task(store.write(STAMP, job)) for job in jobs]
        # The one before them is taken alone and holds the writer up, so these are one batch.
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[1], StoreError)
    together = outcomes[1:] if isinstance(outcomes[0], Document) else outcomes
    assert [type(outcome) for outcome in together] == [StoreError] * len(together)
    assert store.failing
    assert await current(store, "big") is None
    assert await current(store, "b") is None

    await store.write(STAMP, limit_pages(1000))
    assert not store.failing
    document = await store.write(STAMP, put("big", {"text": "x" * 100_000}))
    revision, services = await store.read(lambda snapshot: (snapshot.identity.now().revision, snapshot.config.count()))
    assert revision == document.revision == services


async def test_a_full_disk_fails_what_is_quick_too(store: Store) -> None:
    """All that ran in the transaction fails, and none of it shows; what had not run yet runs in the next."""
    await store.write(STAMP, limit_pages(4))
    jobs = [put("a", {}), put("big", {"text": "x" * 100_000}), refuse, put("b", {})]
    outcomes = await asyncio.gather(*(store.write(STAMP, job, quick=True) for job in jobs), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreError, StoreError, Rejected, Document]
    assert not store.failing
    assert [await current(store, service) for service in ("a", "big")] == [None, None]
    assert await current(store, "b") == outcomes[3]


async def test_what_is_quick_runs_on_the_event_loop(store: Store) -> None:
    """And only what is not has a thread; jobs keep their order whichever they are, and all see what was before."""
    threads: list[str] = []

    def job(tx: Tx) -> int:
        threads.append(threading.current_thread().name)
        return put("a", {"n": len(threads)})(tx).version

    assert await store.write(STAMP, job, quick=True) == 1
    assert await store.write(STAMP, job) == 2
    mixed = (True, True, False, True, False, False, True)
    writes = [asyncio.create_task(store.write(STAMP, job, quick=quick)) for quick in mixed]
    assert await asyncio.gather(*writes) == list(range(3, 10))
    assert threads[:2] == ["MainThread", "store-writer"]


async def test_many_quick_jobs_leave_turns_to_others(store: Store) -> None:
    """They are one commit, and the event loop does other things between them."""
    commits: list[int] = []
    store.on_commit.append(lambda jobs, _seconds: commits.append(jobs))
    turns = 0

    def job(tx: Tx) -> int:
        time.sleep(2 * TURN_S)  # its work, which takes so long
        put("a", {"turn": turns})(tx)
        return turns

    async def others() -> None:
        nonlocal turns
        while not commits:
            turns += 1
            await asyncio.sleep(0)

    seen, _ = await asyncio.gather(
        asyncio.gather(*(store.write(STAMP, job, quick=True) for _ in range(5))),
        others(),
    )
    assert commits == [5]
    assert sorted(set(seen)) == seen


async def test_what_is_quick_does_not_wait_on_the_event_loop(store: Store, other_writer: Callable[[], None]) -> None:
    """While another process writes, reads go on, and the job runs when that lets go."""
    write = asyncio.create_task(store.write(STAMP, put("a", {"n": 1}), quick=True))
    await eventually(lambda: store.oldest_job_s() > 0.1, "it waits")
    assert await current(store, "a") is None
    other_writer()
    assert (await write).version == 1


async def test_a_read_sees_one_committed_state(store: Store, data_dir: Path) -> None:
    """What is committed while a read goes on does not show in it, and shows in the next."""
    first = await store.write(STAMP, put("a", {"n": 1}))

    def read(snapshot: Snapshot) -> list[Document | None]:
        before = snapshot.config.current("a")
        with writing(data_dir, STAMP) as tx:
            put("a", {"n": 2})(tx)
        return [before, snapshot.config.current("a")]

    assert await store.read(read) == [first, first]
    document = await current(store, "a")
    assert document is not None
    assert document.config == {"n": 2}


async def test_a_read_does_not_see_what_is_not_committed(store: Store) -> None:
    """Between a job's write and its commit, others read the state before it, and do not wait."""
    wrote, go_on = threading.Event(), threading.Event()

    def slow(tx: Tx) -> Document:
        document = put("a", {})(tx)
        wrote.set()
        go_on.wait(DEADLINE_S)
        return document

    write = asyncio.create_task(store.write(STAMP, slow))
    await eventually(wrote.is_set, "the job has written")
    assert await current(store, "a") is None
    go_on.set()
    await write
    assert await current(store, "a") is not None


async def test_a_scan_holds_up_neither_reads_nor_writes(store: Store) -> None:
    """It runs on a thread of its own, on the state of its beginning; the next one waits until it is done."""
    await store.write(STAMP, put("stt", {"n": 1}))
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(snapshot: Snapshot) -> list[int]:
        first = snapshot.config.current("stt")
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(DEADLINE_S)
        return [document.version for document in (first, snapshot.config.current("stt")) if document is not None]

    scan = asyncio.create_task(store.scan(slow))
    await begun.wait()
    following = asyncio.create_task(store.scan(lambda snapshot: go_on.is_set() and snapshot.config.count()))
    assert (await store.write(STAMP, put("stt", {"n": 2}))).version == 2
    assert await current(store, "stt") is not None
    assert not following.done()
    go_on.set()
    assert await scan == [1, 1]
    assert await following == 1


async def test_a_scan_that_fails_says_so_as_a_read_does(store: Store) -> None:
    """What a handler refuses is its own error; what SQLite cannot read is the store's; none is left in the way."""

    def refused(_snapshot: Snapshot) -> None:
        raise Rejected(Code.NOT_FOUND, "no")

    def unreadable(snapshot: Snapshot) -> None:
        snapshot.config._db.conn.execute("SELECT * FROM not_there")  # noqa: SLF001 - what no read would do

    with pytest.raises(Rejected):
        await store.scan(refused)
    with pytest.raises(StoreError):
        await store.scan(unreadable)
    assert await store.scan(lambda snapshot: snapshot.config.count()) == 0
    await store.close()
    with pytest.raises(StoreError):
        await store.scan(lambda snapshot: snapshot.config.count())


async def test_closing_commits_what_waits(data_dir: Path) -> None:
    """What was handed over before the end is written, and its callers are told."""
    store = Store(data_dir)
    writes = [asyncio.create_task(store.write(STAMP, put(f"s{n}", {}))) for n in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert len({document.revision for document in await asyncio.gather(*writes)}) == 20
    with writing(data_dir, STAMP) as tx:
        assert tx.config.count() == 20


async def test_a_caller_that_goes_away_changes_nothing(store: Store, data_dir: Path) -> None:
    """A write whose caller was cancelled is still committed, and the writer goes on."""
    with writer_lock(data_dir, 0):
        write = asyncio.create_task(store.write(STAMP, put("a", {})))
        await asyncio.sleep(0)
        write.cancel()
    await store.write(STAMP, put("b", {}))
    assert await current(store, "a") is not None


async def test_writes_from_outside_take_turns_with_the_daemon(store: Store, data_dir: Path) -> None:
    """Another process that writes keeps the writer waiting, and both see what the other wrote."""
    with writing(data_dir, STAMP) as tx:
        write = asyncio.create_task(store.write(STAMP, put("a", {"by": "daemon"})))
        await asyncio.sleep(0)
        put("a", {"by": "command"})(tx)
        assert not write.done()
    assert (await write).version == 2


@pytest.fixture
async def impatient(data_dir: Path) -> Store:
    """Open a store whose writer waits a moment for others and no longer; the test closes it."""
    return Store(data_dir, lock_wait_s=0.05)


@pytest.fixture
def other_writer(data_dir: Path) -> Iterator[Callable[[], None]]:
    """Have another process hold `writer.lock`; gives what makes it let go."""
    program = (
        "import sys; from pathlib import Path; from setpointd.store.files import writer_lock\n"
        "with writer_lock(Path(sys.argv[1]), 0): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield lambda: process.communicate() and None
        process.communicate()


async def test_a_write_after_the_end_raises_at_once(data_dir: Path) -> None:
    """Nobody would ever answer it."""
    store = Store(data_dir)
    await store.close()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(StoreError, match="closed"):
            await store.write(STAMP, put("a", {}))
    assert store.oldest_job_s() == 0


async def test_a_read_after_the_end_raises_too(data_dir: Path) -> None:
    """As a `StoreError`, which whoever reads has to expect anyway."""
    store = Store(data_dir)
    await store.close()
    with pytest.raises(StoreError):
        await current(store, "a")


async def test_the_writer_does_not_wait_for_others_for_ever(impatient: Store, other_writer: Callable[[], None]) -> None:
    """When another process does not let go of the lock, the write fails, is logged, and a later one works again."""
    with capture_logs() as logs, pytest.raises(StoreError):
        await impatient.write(STAMP, put("a", {}))
    assert impatient.failing
    [event] = logs
    assert (event["event"], type(event["exc_info"])) == ("store_failed", BlockingIOError)
    other_writer()
    document = await impatient.write(STAMP, put("a", {}))
    assert (document.version, document.revision, impatient.failing) == (1, 1, False)
    await impatient.close()


async def test_how_long_the_oldest_job_waits_can_be_told(store: Store, other_writer: Callable[[], None]) -> None:
    """It grows while another process holds the writer up, counts from the oldest, and is 0 when nothing waits."""
    assert store.oldest_job_s() == 0
    first = asyncio.create_task(store.write(STAMP, put("a", {})))
    await eventually(lambda: store.oldest_job_s() > 0.1, "it grows")
    second = asyncio.create_task(store.write(STAMP, put("b", {})))
    before = store.oldest_job_s()
    await eventually(lambda: store.oldest_job_s() > before + 0.05, "it grows on")
    other_writer()
    await asyncio.gather(first, second)
    assert store.oldest_job_s() == 0


async def test_a_job_that_takes_long_counts_as_waiting(store: Store) -> None:
    """What hangs inside the transaction shows as well as what waits before it; a refusal ends the wait, too."""
    go_on = threading.Event()

    def slow(_tx: Tx) -> None:
        go_on.wait(DEADLINE_S)
        raise Rejected(Code.NOT_FOUND, "no")

    write = asyncio.create_task(store.write(STAMP, slow))
    await eventually(lambda: store.oldest_job_s() > 0.05, "it shows")
    go_on.set()
    with pytest.raises(Rejected):
        await write
    assert store.oldest_job_s() == 0


async def test_closing_does_not_wait_for_others_for_ever(impatient: Store, other_writer: Callable[[], None]) -> None:
    """While another process holds the lock, what waits fails, and the end comes all the same."""
    write = asyncio.create_task(impatient.write(STAMP, put("a", {})))
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_S):
        await impatient.close()
    with pytest.raises(StoreError):
        await write
    assert not impatient.alive
    other_writer()


async def test_closing_does_not_wait_for_a_job_for_ever(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that hangs is left behind, and the log says so."""
    monkeypatch.setattr("setpointd.store.engine._CLOSE_MARGIN_S", 0.05)
    store, go_on = Store(data_dir, lock_wait_s=0.05), threading.Event()
    write = asyncio.create_task(store.write(STAMP, lambda _tx: go_on.wait(DEADLINE_S)))
    await asyncio.sleep(0)
    with capture_logs() as logs:
        await store.close()
    assert [event["event"] for event in logs] == ["writer_stuck"]
    assert not write.done()
    go_on.set()
    await write


async def test_closing_ends_with_what_a_transaction_on_the_loop_has(data_dir: Path) -> None:
    """When there is no more time, what has run is committed, and of the rest nobody is told anything."""
    store = Store(data_dir)

    def job(tx: Tx) -> Document:
        time.sleep(2 * TURN_S)  # its work, which takes so long
        return put("a", {})(tx)

    writes = [asyncio.create_task(store.write(STAMP, job, quick=True)) for _ in range(50)]
    await asyncio.sleep(0)
    await store.close(5 * TURN_S)
    await eventually(lambda: not store.alive and any(write.done() for write in writes), "the last are answered")
    answered = sum(write.done() for write in writes)
    with reading(data_dir) as snapshot:
        assert snapshot.config.newest("a") == answered
    assert 0 < answered < len(writes)
    for write in writes:
        write.cancel()


async def test_a_failed_commit_is_logged_by_sqlites_own_name(store: Store) -> None:
    """What is wrong with the disk stands in the log, and no value does."""
    await store.write(STAMP, limit_pages(0))
    with capture_logs() as logs, pytest.raises(StoreError):
        await store.write(STAMP, put("big", {"text": "hunter2" * 20_000}))
    [event] = logs
    assert (event["event"], event["sqlite"], event["log_level"]) == ("store_failed", "SQLITE_FULL", "error")
    assert "hunter2" not in repr({name: value for name, value in event.items() if name != "exc_info"})
    await store.write(STAMP, limit_pages(1000))


async def test_a_write_after_an_undone_savepoint_goes_on_without_a_gap(store: Store) -> None:
    """What was undone has forgotten the revision that it took: the next write takes it again, in the store and here."""

    def after_an_undone_one(tx: Tx) -> tuple[int | None, Document, Document]:
        with contextlib.suppress(Rejected), tx.savepoint():
            refuse(tx)
        forgotten = tx.config.revision
        return forgotten, put("a", {})(tx), put("b", {})(tx)

    forgotten, first, second = await store.write(STAMP, after_an_undone_one)
    assert forgotten is None
    assert (first.revision, second.revision) == (1, 1)
    assert (await store.write(STAMP, put("c", {}))).revision == 2
    assert await current(store, "refused") is None
    assert await store.read(lambda snapshot: snapshot.identity.now().revision) == 2


async def test_an_undone_savepoint_keeps_the_revision_taken_before_it(store: Store) -> None:
    """Only what is undone is forgotten: the job goes on in the revision that it had."""

    def around_an_undone_one(tx: Tx) -> list[int]:
        before = put("a", {})(tx)
        with contextlib.suppress(Rejected), tx.savepoint():
            refuse(tx)
        return [before.revision, put("b", {})(tx).revision]

    assert await store.write(STAMP, around_an_undone_one) == [1, 1]


async def test_what_is_put_off_until_the_commit_happens_after_it_and_before_the_answer(store: Store) -> None:
    """On the event loop, only if the job is committed, and also when nobody waits for it any more."""
    done: list[str] = []
    await store.write(STAMP, put("a", {}), lambda: done.append("a"))
    assert done == ["a"]
    with pytest.raises(Rejected):
        await store.write(STAMP, refuse, lambda: done.append("refused"))
    await store.write(STAMP, limit_pages(0))
    with pytest.raises(StoreError):
        await store.write(STAMP, put("big", {"text": "x" * 100_000}), lambda: done.append("failed"))
    await store.write(STAMP, limit_pages(1000))
    gone = asyncio.create_task(store.write(STAMP, put("b", {}), lambda: done.append("b")))
    await asyncio.sleep(0)
    gone.cancel()
    await store.write(STAMP, put("c", {}))
    assert done == ["a", "b"]


async def test_what_turns_out_to_take_long_begins_anew_on_the_thread(store: Store) -> None:
    """It leaves nothing of its first try and keeps its place; those before and behind it are not affected."""
    places: list[tuple[str, bool]] = []

    def long(tx: Tx) -> Document:
        document = put("a", {"n": len(places)})(tx)
        places.append((threading.current_thread().name, True))
        tx.takes_long()
        return document

    def quick(tx: Tx) -> Document:
        places.append((threading.current_thread().name, False))
        return put("a", {"quick": len(places)})(tx)

    writes = [store.write(STAMP, job, quick=True) for job in (quick, long, quick)]
    versions = [document.version for document in await asyncio.gather(*writes)]
    assert versions == [1, 2, 3]
    on_loop, on_thread = "MainThread", "store-writer"
    assert places[:3] == [(on_loop, False), (on_loop, True), (on_thread, True)]
    alone = await store.write(STAMP, long, quick=True)
    assert (alone.version, alone.revision) == (4, 4)


async def test_what_takes_long_may_on_the_thread(store: Store) -> None:
    """Beside a job that is not quick, one that takes long is done at its first try."""
    tries: list[str] = []

    def long(tx: Tx) -> str:
        tries.append(threading.current_thread().name)
        tx.takes_long()
        return tries[-1]

    results = await asyncio.gather(store.write(STAMP, put("a", {})), store.write(STAMP, long, quick=True))
    assert (results[1], tries) == ("store-writer", ["store-writer"])


async def test_what_goes_along_goes_behind_a_long_transaction(store: Store) -> None:
    """Its time may run out while another job is at work: it goes when that is done, whether more comes or not."""
    go_on = threading.Event()

    def slow(_tx: Tx) -> None:
        go_on.wait(DEADLINE_S)

    write = asyncio.create_task(store.write(STAMP, slow))
    await asyncio.sleep(0)
    along = store.write_along(STAMP, put("a", {}))
    await asyncio.sleep(2 * ALONG_S)  # its time is what this is about
    assert not along.done()
    go_on.set()
    async with asyncio.timeout(DEADLINE_S):
        await write
        assert (await along).version == 1


class PanicError(BaseException):
    """As what a library in Rust raises when it panics: no Exception."""


@pytest.mark.parametrize("quick", [False, True])
async def test_a_panic_harms_its_batch_only(store: Store, quick: bool) -> None:  # noqa: FBT001
    """Nobody waits for ever, nothing of it shows, and the next write works."""

    def panic(tx: Tx) -> None:
        put("a", {})(tx)
        raise PanicError

    with pytest.raises(StoreError):
        await store.write(STAMP, panic, quick=quick)
    assert await current(store, "a") is None
    assert (await store.write(STAMP, put("a", {}), quick=quick)).version == 1


async def test_who_does_not_keep_to_the_lock_holds_up_no_event_loop(store: Store, data_dir: Path) -> None:
    """A quick job that meets another writer of SQLite's, as a shell, is left to the thread, and runs in the end."""
    with contextlib.closing(sqlite3.connect(data_dir / DATABASE, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        write = asyncio.create_task(store.write(STAMP, put("a", {}), quick=True))
        await eventually(lambda: store.oldest_job_s() > 0.1, "it waits")
        shell.execute("COMMIT")
    assert (await write).version == 1
