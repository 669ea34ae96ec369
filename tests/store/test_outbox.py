"""What the broker has not confirmed yet: each service or event once, at the same cost however much waits."""

from typing import get_args

import pytest
from sqlite_utils import Database

from setpointd.records import OutboxQueue, OutboxRow
from tests.store.jobs import job, rows, write

MANY = 100_000
QUEUES: tuple[OutboxQueue, ...] = get_args(OutboxQueue)


def refs(db: Database, queue: OutboxQueue, limit: int = 9) -> list[str]:
    """Read what goes first."""
    with job(db) as tx:
        return [row.ref for row in tx.outbox.first(queue, limit)]


def take(db: Database, queue: OutboxQueue = "documents", limit: int = 9) -> list[OutboxRow]:
    """Read a portion."""
    with job(db) as tx:
        return tx.outbox.first(queue, limit)


def test_outbox_rows_leave_one_by_one(db: Database) -> None:
    """What was confirmed is gone, the rest stays in order."""
    write(db, "a", {})
    write(db, "b", {})
    with job(db) as tx:
        first, second = tx.outbox.first("documents", 2)
        assert [first.ref, second.ref] == ["a", "b"]
        tx.outbox.remove([first])
        assert tx.outbox.first("documents", 1) == [second]
        assert tx.outbox.pending() == 3
    assert refs(db, "events") == ["1", "2"]


def test_an_outbox_id_is_never_used_again(db: Database) -> None:
    """A confirmation that comes late cannot take out a row that came after."""
    write(db, "a", {})
    [old] = take(db)
    with job(db) as tx:
        tx.outbox.remove([old])
    write(db, "a", {"n": 2})
    [new] = take(db)
    assert new.id > old.id
    with job(db) as tx:
        tx.outbox.remove([old])
    assert take(db) == [new]


def test_what_waits_waits_once(db: Database) -> None:
    """A service that changes a hundred times before the broker is there is one row, and the newest state counts."""
    for n in range(100):
        write(db, "a", {"n": n})
    assert [(row.ref, row.writes) for row in take(db)] == [("a", 100)]
    with job(db) as tx:
        document = tx.config.to_publish("a")
        assert document is not None
        assert document.config == {"n": 99}
        assert tx.outbox.pending() == 101


def test_a_service_and_an_event_of_one_name_are_two(db: Database) -> None:
    """What waits once is a service, or an event: service 1 and event 1 both wait."""
    write(db, "1", {})
    assert (refs(db, "documents"), refs(db, "events")) == (["1"], ["1"])


def test_what_changes_all_the_time_keeps_its_place(db: Database) -> None:
    """Who comes first goes first, however often it and others change meanwhile."""
    for service in ("busy", "a", "b", "busy", "a", "busy"):
        write(db, service, {"n": len(refs(db, "events", 99))})
    assert refs(db, "documents") == ["busy", "a", "b"]


def test_what_is_put_in_again_while_it_is_published_stays(db: Database) -> None:
    """A confirmation of the state before does not take out the row of the state after."""
    write(db, "a", {"n": 1})
    [published] = take(db)
    write(db, "a", {"n": 2})
    with job(db) as tx:
        tx.outbox.remove([published])
    [row] = take(db)
    assert (row.ref, row.id, row.writes) == ("a", published.id, 2)
    with job(db) as tx:
        tx.outbox.remove([row])
    assert take(db) == []


def test_what_was_refused_holds_up_nothing(db: Database) -> None:
    """Rows that are left aside cost no place in a portion, also when they are put in again meanwhile."""
    for service in "abcd":
        write(db, service, {})
    refused = {row.id for row in take(db, limit=2)}
    with job(db) as tx:
        assert [row.ref for row in tx.outbox.first("documents", 2, refused)] == ["c", "d"]
    write(db, "b", {"n": 2})
    with job(db) as tx:
        assert [row.ref for row in tx.outbox.first("documents", 2, refused)] == ["c", "d"]


def test_what_is_done_and_not_taken_out_yet_costs_no_place(db: Database) -> None:
    """A row that is known to be published is left out of a portion, until it is put in again."""
    for service in "abc":
        write(db, service, {})
    done = set(take(db, limit=2))
    with job(db) as tx:
        assert [row.ref for row in tx.outbox.first("documents", 2, done=done)] == ["c"]
    write(db, "b", {"n": 2})
    with job(db) as tx:
        assert [row.ref for row in tx.outbox.first("documents", 2, done=done)] == ["b", "c"]


def test_neither_queue_starves_the_other(db: Database) -> None:
    """Behind any number of rows of one, the first of the other is in its next portion."""
    fill(db, "documents", 5000)
    fill(db, "events", 3)
    fill(db, "documents", 5000, start=5000)
    assert refs(db, "events", 2) == ["1", "2"]
    fill(db, "events", 5000, start=3)
    assert refs(db, "documents", 2) == ["ref-00000", "ref-00001"]


def fill(db: Database, queue: OutboxQueue, count: int, start: int = 0) -> None:
    """Let rows wait."""
    numbers = range(start, start + count)
    with job(db):
        if queue == "events":
            db.conn.executemany("INSERT INTO outbox_events (id) VALUES (?)", ((n + 1,) for n in numbers))
        else:
            db.conn.executemany(
                "INSERT INTO outbox_documents (kind, ref) VALUES ('updated', ?)", ((f"ref-{n:05}",) for n in numbers)
            )


def steps(db: Database, queue: OutboxQueue) -> int:
    """Count what SQLite's machine does to read a portion, add a row and take one out."""
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1

    db.conn.set_progress_handler(count, 1)
    try:
        with job(db) as tx:
            portion = tx.outbox.first(queue, 32)
            if queue == "documents":
                tx.outbox.add_document("updated", portion[0].ref)
            else:
                tx.outbox.add_event(MANY)
            tx.outbox.remove(portion[1:2])
    finally:
        db.conn.set_progress_handler(None, 0)
    return counted


@pytest.mark.parametrize("queue", QUEUES)
def test_a_portion_costs_the_same_however_much_waits(db: Database, queue: OutboxQueue) -> None:
    """Of 100,000 rows a portion takes SQLite as many steps as of 100."""
    for each in QUEUES:
        fill(db, each, 100)
    few = steps(db, queue)
    with job(db) as tx:
        tx.outbox.remove([OutboxRow(MANY, "audit", "", 1)])
    for each in QUEUES:
        fill(db, each, MANY // 2, start=100)
    assert few > 32
    assert steps(db, queue) == few


@pytest.mark.parametrize("table", ["outbox_documents", "outbox_events"])
def test_a_portion_is_not_sorted(db: Database, table: str) -> None:
    """SQLite goes through a queue in the order of its ids, and stops where the portion is full."""
    plan = rows(db, f"EXPLAIN QUERY PLAN SELECT * FROM {table} ORDER BY id LIMIT 32")  # noqa: S608
    assert [row["detail"] for row in plan] == [f"SCAN {table}"]
