"""The store: one writer thread, group commit, and what is told when a commit fails."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlite_utils import Database

from setpoint_contracts import Code
from setpointd.errors import OperatorError, Rejected, StoreError
from setpointd.records import Document, Stamp
from setpointd.store import DATABASE, MAX_BATCH, Store, writer_lock, writing
from setpointd.tx import Tx
from tests.waiting import DEADLINE_S, eventually

STAMP = Stamp("2026-01-02T00:00:00.000Z", "alice", "r-1")


def put(service: str, config: dict[str, object]) -> Callable[[Tx], Document]:
    """Make a job that writes the next version of a service."""
    return lambda tx: tx.write_version(service, tx.current(service), config, op="set", reason=None)


def refuse(tx: Tx) -> None:
    """Write something, then refuse, as a handler does."""
    put("refused", {})(tx)
    raise Rejected(Code.NOT_FOUND, "no")


def limit_pages(more: int) -> Callable[[Tx], None]:
    """Make a job that lets the file grow by so many pages and no further, as a full disk does."""

    def job(tx: Tx) -> None:
        with tx.savepoint() as db:
            pages = db.conn.execute("PRAGMA page_count").fetchone()[0]
            db.conn.execute(f"PRAGMA max_page_count = {pages + more}")

    return job


def current(store: Store, service: str) -> Document | None:
    """Read the newest committed version."""
    with store.read() as snapshot:
        return snapshot.current(service)


async def test_what_is_written_is_there(store: Store) -> None:
    """A job's result comes back once it is committed, and a read sees it then."""
    document = await store.write(STAMP, put("stt", {"a": 1}))
    assert document.version == 1
    assert current(store, "stt") == document


async def test_jobs_that_wait_are_committed_together(store: Store, data_dir: Path) -> None:
    """While one transaction is held up, what comes waits behind it, and goes into as few commits as fit."""
    commits: list[int] = []
    store.on_commit.append(lambda jobs, _seconds: commits.append(jobs))
    with writer_lock(data_dir):
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


async def test_a_job_that_is_refused_harms_no_sibling(store: Store, data_dir: Path) -> None:
    """What a refused job wrote is undone, what the others of its batch wrote stays."""
    with writer_lock(data_dir):
        writes = [store.write(STAMP, job) for job in (put("a", {}), refuse, put("b", {}))]
        tasks = [asyncio.create_task(write) for write in writes]
        await asyncio.sleep(0)
    first, refused, last = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(refused, Rejected)
    assert isinstance(first, Document)
    assert isinstance(last, Document)
    assert (first.revision, last.revision) == (1, 2)
    assert current(store, "refused") is None


async def test_a_statement_that_fails_harms_no_sibling(store: Store, data_dir: Path) -> None:
    """A job whose own statement fails is told so; the others of its batch are committed."""

    def twice(tx: Tx) -> None:
        for _ in range(2):
            tx.store_reply("tok_a", "j-1", b"digest", b"reply", STAMP.at)

    with writer_lock(data_dir):
        tasks = [asyncio.create_task(store.write(STAMP, job)) for job in (put("a", {}), twice)]
        await asyncio.sleep(0)
    written, failed = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(written, Document)
    assert isinstance(failed, StoreError)
    assert not store.failing
    with store.read() as snapshot:
        assert snapshot.stored_reply("tok_a", "j-1") is None


async def test_a_full_disk_fails_the_whole_batch(store: Store, data_dir: Path) -> None:
    """When the transaction is lost, every job of it fails and nothing of it shows; later ones work again."""
    await store.write(STAMP, limit_pages(4))
    with writer_lock(data_dir):
        jobs = [put("a", {}), put("big", {"text": "x" * 100_000}), refuse, put("b", {})]
        tasks = [asyncio.create_task(store.write(STAMP, job)) for job in jobs]
        # The one before them is taken alone and holds the writer up, so these are one batch.
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[1], StoreError)
    together = outcomes[1:] if isinstance(outcomes[0], Document) else outcomes
    assert [type(outcome) for outcome in together] == [StoreError] * len(together)
    assert store.failing
    assert current(store, "big") is None
    assert current(store, "b") is None

    await store.write(STAMP, limit_pages(1000))
    assert not store.failing
    document = await store.write(STAMP, put("big", {"text": "x" * 100_000}))
    with store.read() as snapshot:
        assert snapshot.claim().revision == document.revision == snapshot.count_services()


async def test_a_read_sees_one_committed_state(store: Store) -> None:
    """What is committed while a read goes on does not show in it, and shows in the next."""
    await store.write(STAMP, put("a", {"n": 1}))
    with store.read() as snapshot:
        before = snapshot.claim()
        await store.write(STAMP, put("a", {"n": 2}))
        document = snapshot.current("a")
        assert document is not None
        assert (snapshot.claim(), document.config) == (before, {"n": 1})
    document = current(store, "a")
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
    assert current(store, "a") is None
    go_on.set()
    await write
    assert current(store, "a") is not None


async def test_closing_commits_what_waits(data_dir: Path) -> None:
    """What was handed over before the end is written, and its callers are told."""
    store = Store(data_dir)
    writes = [asyncio.create_task(store.write(STAMP, put(f"s{n}", {}))) for n in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert len({document.revision for document in await asyncio.gather(*writes)}) == 20
    with writing(data_dir, STAMP) as tx:
        assert tx.count_services() == 20


async def test_a_caller_that_goes_away_changes_nothing(store: Store, data_dir: Path) -> None:
    """A write whose caller was cancelled is still committed, and the writer goes on."""
    with writer_lock(data_dir):
        write = asyncio.create_task(store.write(STAMP, put("a", {})))
        await asyncio.sleep(0)
        write.cancel()
    await store.write(STAMP, put("b", {}))
    assert current(store, "a") is not None


async def test_writes_from_outside_take_turns_with_the_daemon(store: Store, data_dir: Path) -> None:
    """Another process that writes keeps the writer waiting, and both see what the other wrote."""
    with writing(data_dir, STAMP) as tx:
        write = asyncio.create_task(store.write(STAMP, put("a", {"by": "daemon"})))
        await asyncio.sleep(0)
        put("a", {"by": "command"})(tx)
        assert not write.done()
    assert (await write).version == 2


def test_a_write_from_outside_that_fails_leaves_nothing(data_dir: Path) -> None:
    """All of it or nothing, and the lock is free afterwards."""
    with pytest.raises(Rejected), writing(data_dir, STAMP) as tx:
        refuse(tx)
    with writing(data_dir, STAMP) as tx:
        assert tx.count_services() == 0
        assert tx.claim().revision == 0


def test_without_store_there_is_nothing_to_write_to(tmp_path: Path) -> None:
    """The error says how to make one, and none is made on the way."""
    with pytest.raises(OperatorError, match="setpointd init"), writing(tmp_path, STAMP):
        pass
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_store_is_an_operators_matter(data_dir: Path) -> None:
    """A broken file is told in one line, without a word of what is in it."""
    (data_dir / DATABASE).write_bytes(b"hunter2 " * 1000)
    for suffix in ("-wal", "-shm"):
        (data_dir / (DATABASE + suffix)).unlink(missing_ok=True)
    with pytest.raises(OperatorError, match="cannot be opened") as caught:
        Store(data_dir)
    assert "hunter2" not in str(caught.value)


def test_commits_survive_a_power_cut(db: Database) -> None:
    """The writing connection has a write-ahead log, and syncs it at every commit."""
    assert db.conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert db.conn.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
