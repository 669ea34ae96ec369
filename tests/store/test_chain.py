"""The chain of the audit log: what is written follows on, and what was changed afterwards does not."""

import asyncio
import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlite_utils import Database

from setpoint_contracts import Code, Role, Token
from setpoint_contracts.audit import Action
from setpointd.errors import Rejected, StoreError
from setpointd.records import Stamp
from setpointd.store import Snapshot, Store, Tx
from setpointd.store.chain import START, BrokenChainError, Link
from setpointd.store.files import open_writer, reading, writer_lock, writing
from tests.store.jobs import job, put, rows, write
from tests.stores import new_store

STAMP = Stamp("2026-01-02T00:00:00.000Z", "alice", "r-1")
ROWS = 6


def links(db: Database) -> list[Link]:
    """Follow the whole chain."""
    return list(Snapshot(db).audit.chain(START, 10_000))


def fill(db: Database) -> None:
    """Write events of every shape: with and without user, service, request and revision, with all kinds of text."""
    write(db, "stt", {"model": "small"}, reason='why "not" \\ \n \u0000 é \U0001f600 \ufffd')
    write(db, "stt", None, at_s=1)
    with db.atomic():
        Tx(db, Stamp(STAMP.at, None)).audit.record(Action.AUTH_FAILURE, reason="not_jws", suppressed=0)
        Tx(db, Stamp(STAMP.at, "setpointd")).tokens.add(Token.new("HS256", "tok_b", "bob", Role.VIEWER), "sealed")
    write(db, "tts", {"n": 1.5}, at_s=2)
    write(db, "tts", {"n": 2}, at_s=3)


@pytest.fixture
def log(db: Database) -> Database:
    """Make a store with some events."""
    fill(db)
    return db


def test_a_hash_is_what_the_format_says(log: Database) -> None:
    """Whoever reads the rules can compute it: compact JSON of the hash before and the columns, in UTF-8."""
    before = bytes(32)
    for row in log.conn.execute("SELECT * FROM audit_log ORDER BY id").fetchall():
        members = (row[name] for name in ("id", "action", "user", "service", "timestamp", "request_id", "revision"))
        text = json.dumps([before.hex(), *members, row["details_json"]], ensure_ascii=False, separators=(",", ":"))
        assert (row["prev_hash"], row["hash"]) == (before, hashlib.sha256(text.encode()).digest())
        before = row["hash"]
    assert [link.id for link in links(log)] == list(range(1, ROWS + 1))
    assert links(log)[-1] == Link(ROWS, before)


def test_the_chain_of_nothing_is_empty(db: Database) -> None:
    """A new log has no link, and begins with the one that the first row follows."""
    assert links(db) == []
    assert str(START) == "0:" + "00" * 32


def test_it_can_be_followed_in_portions(log: Database) -> None:
    """From any link on, some rows at a time, the same links come."""
    every = links(log)
    audit = Snapshot(log).audit
    assert [*audit.chain(START, 2), *audit.chain(every[1], 3), *audit.chain(every[4], 9)] == every
    assert list(audit.chain(every[-1], 9)) == []


def test_what_is_undone_leaves_no_gap(db: Database) -> None:
    """Refusals and dry runs take their rows back, and the next row follows what was there before."""
    for n in range(3):
        write(db, "stt", {"n": n})
        with job(db) as tx, contextlib.suppress(Rejected), tx.savepoint():
            put("stt", {"undone": n})(tx)
            put("tts", {"undone": n})(tx)
            raise Rejected(Code.NOT_FOUND, "no")
    assert [link.id for link in links(db)] == [1, 2, 3]


async def test_whatever_becomes_of_jobs_the_chain_holds(store: Store, data_dir: Path) -> None:
    """Siblings that are refused, a batch that fails as a whole, and writes from other processes in between."""

    def refuse(tx: Tx) -> None:
        put("refused", {})(tx)
        raise Rejected(Code.NOT_FOUND, "no")

    def lose(tx: Tx) -> None:
        put("lost", {})(tx)
        tx._db.conn.execute("ROLLBACK")  # noqa: SLF001 - as SQLite itself does when the disk is full

    for n in range(4):
        with writer_lock(data_dir, 0):
            jobs: list[Callable[[Tx], object]] = [put("a", {"n": n}), refuse, put("b", {"n": n})]
            batch = [asyncio.create_task(store.write(STAMP, each)) for each in jobs]
            await asyncio.sleep(0)
        await asyncio.gather(*batch, return_exceptions=True)
        with pytest.raises(StoreError):
            await store.write(STAMP, lose)
        with writing(data_dir, STAMP) as tx:
            put("outside", {"n": n})(tx)
    found = await store.read(lambda snapshot: list(snapshot.audit.chain(START, 99)))
    assert [link.id for link in found] == list(range(1, 13))


async def test_it_is_followed_while_others_write(store: Store, data_dir: Path) -> None:
    """A reader of another process follows what grows, portion by portion, and has no lock that a writer waits for."""
    last, seen = START, 0
    for n in range(30):
        writes = [asyncio.create_task(store.write(STAMP, put(f"s{m}", {"n": n}))) for m in range(5)]
        with reading(data_dir) as snapshot, writer_lock(data_dir, 0):
            for link in snapshot.audit.chain(last, 4):
                last, seen = link, seen + 1
        await asyncio.gather(*writes)
    with reading(data_dir) as snapshot:
        assert seen + len(list(snapshot.audit.chain(last, 999))) == 150


SWAP = """
    UPDATE audit_log SET id = -1 WHERE id = 3; UPDATE audit_log SET id = 3 WHERE id = 4;
    UPDATE audit_log SET id = 4 WHERE id = -1;
"""
SWAP_CONTENT = """
    CREATE TEMP TABLE a AS SELECT * FROM audit_log WHERE id = 3;
    UPDATE audit_log SET (action, user, service, timestamp, details_json) =
        (SELECT action, user, service, timestamp, details_json FROM audit_log WHERE id = 4) WHERE id = 3;
    UPDATE audit_log SET (action, user, service, timestamp, details_json) =
        (SELECT action, user, service, timestamp, details_json FROM a) WHERE id = 4;
"""
COPY = (
    "INSERT INTO audit_log SELECT {id}, action, user, service, timestamp, request_id, revision, details_json, {hashes}"
)
TAMPERED = {
    "details": ("UPDATE audit_log SET details_json = replace(details_json, 'model', 'voice') WHERE id = 1", 1),
    "details that say the same": ("UPDATE audit_log SET details_json = details_json || ' ' WHERE id = 2", 2),
    "time": ("UPDATE audit_log SET timestamp = '2026-01-02T00:00:00.001Z' WHERE id = 3", 3),
    "user": ("UPDATE audit_log SET user = 'mallory' WHERE id = 1", 1),
    "nobody": ("UPDATE audit_log SET user = NULL WHERE id = 5", 5),
    "action": ("UPDATE audit_log SET action = 'delete_config' WHERE id = 5", 5),
    "service": ("UPDATE audit_log SET service = '' WHERE id = 3", 3),
    "request": ("UPDATE audit_log SET request_id = NULL WHERE id = 6", 6),
    "revision": ("UPDATE audit_log SET revision = revision + 1 WHERE id = 6", 6),
    "id": ("UPDATE audit_log SET id = 7 WHERE id = 6", 7),
    "hash": ("UPDATE audit_log SET hash = zeroblob(32) WHERE id = 6", 6),
    "hash before": ("UPDATE audit_log SET prev_hash = zeroblob(32) WHERE id = 4", 4),
    "blob": ("UPDATE audit_log SET user = CAST(user AS BLOB) WHERE id = 5", 5),
    "hash as text": ("UPDATE audit_log SET hash = hex(hash) WHERE id = 2", 2),
    "removed": ("DELETE FROM audit_log WHERE id = 3", 4),
    "removed at the beginning": ("DELETE FROM audit_log WHERE id < 3", 3),
    "inserted": (COPY.format(id=7, hashes="prev_hash, hash") + " FROM audit_log WHERE id = 6", 7),
    "inserted behind its like": (COPY.format(id=7, hashes="hash, hash") + " FROM audit_log WHERE id = 6", 7),
    "inserted at the beginning": (COPY.format(id=0, hashes="prev_hash, hash") + " FROM audit_log WHERE id = 1", 0),
    "inserted far before": (
        COPY.format(id="-9223372036854775807 - 1", hashes="prev_hash, hash") + " FROM audit_log WHERE id = 1",
        -(2**63),
    ),
    "inserted far behind": (COPY.format(id=2**63 - 1, hashes="hash, hash") + " FROM audit_log WHERE id = 6", 2**63 - 1),
    "swapped": (SWAP, 3),
    "swapped content": (SWAP_CONTENT, 3),
}


@pytest.mark.parametrize(("script", "row"), TAMPERED.values(), ids=TAMPERED)
def test_what_was_changed_is_found(log: Database, script: str, row: int) -> None:
    """The first row that does not fit is named."""
    before = rows(log, "SELECT * FROM audit_log ORDER BY id")
    log.conn.executescript(script)
    assert rows(log, "SELECT * FROM audit_log ORDER BY id") != before
    with pytest.raises(BrokenChainError, match=rf"^row {row} does not fit: "):
        links(log)


def test_text_that_is_none_is_found(log: Database) -> None:
    """What cannot even be read as text is told by the row before it."""
    log.conn.execute("UPDATE audit_log SET user = CAST(x'ff' AS TEXT) WHERE id = 4")
    with pytest.raises(BrokenChainError, match=r"^the row after row 3 cannot be read$"):
        links(log)


def test_a_page_that_was_overwritten_is_found(data_dir: Path) -> None:
    """Damage to the file itself is found too, and not taken for something else."""
    with contextlib.closing(open_writer(data_dir)) as db:
        for n in range(300):
            write(db, "stt", {"n": n})
        [page] = db.conn.execute("SELECT pageno FROM dbstat WHERE name = 'audit_log' AND path = '/005/'").fetchone()
        size = db.conn.execute("PRAGMA page_size").fetchone()[0]
        db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (data_dir / "setpoint.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with (
        pytest.raises(BrokenChainError, match=r"^the row after row \d+ cannot be read$"),
        reading(data_dir) as snapshot,
    ):
        list(snapshot.audit.chain(START, 999))


def test_a_row_with_a_new_hash_of_its_own_moves_the_fault_to_the_next(log: Database) -> None:
    """Who changes a row and computes its hash anew is found at the row behind it."""
    [_, second, *_] = links(log)
    row = log.conn.execute("SELECT * FROM audit_log WHERE id = 3").fetchone()
    forged = second.then((3, row["action"], "mallory", *tuple(row)[3:8]))
    log.conn.execute("UPDATE audit_log SET user = 'mallory', hash = ? WHERE id = 3", (forged.hash,))
    with pytest.raises(BrokenChainError, match=r"^row 4 does not fit: it does not follow on row 3$"):
        links(log)


def test_what_the_chain_alone_does_not_tell(log: Database) -> None:
    """Without its newest rows it is a shorter chain that holds: that takes an anchor, as `verify` says."""
    before = links(log)
    log.conn.execute("DELETE FROM audit_log WHERE id > 4")
    assert links(log) == before[:4]
    write(log, "stt", {"n": 2})
    assert before[4] not in links(log)


@pytest.fixture(scope="module")
def shared_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Make one store with some events, which every example leaves as it was."""
    place = tmp_path_factory.mktemp("log")
    new_store(place, Stamp(STAMP.at, "setpointd"))
    with contextlib.closing(open_writer(place)) as db:
        fill(db)
        yield db


COLUMNS = [
    *("id", "action", "user", "service", "timestamp", "request_id", "revision", "details_json"),
    *("prev_hash", "hash"),
]
INTEGERS = st.integers(-(2**63), 2**63 - 1)


@given(
    row=st.integers(1, ROWS),
    column=st.sampled_from(COLUMNS),
    value=st.one_of(st.none(), INTEGERS, st.floats(allow_nan=False), st.text(), st.binary()),
)
def test_any_other_value_in_any_place_is_found(shared_log: Database, row: int, column: str, value: Any) -> None:
    """One column of one row is set to anything that it can hold and did not hold: the chain is broken."""

    def content() -> list[tuple[Any, ...]]:
        quoted = ", ".join(f"quote({name})" for name in COLUMNS)
        return [tuple(each) for each in shared_log.conn.execute(f"SELECT {quoted} FROM audit_log ORDER BY id")]  # noqa: S608

    before = content()
    shared_log.conn.execute("BEGIN")
    try:
        try:
            shared_log.conn.execute(f"UPDATE audit_log SET {column} = ? WHERE id = ?", (value, row))  # noqa: S608
        except sqlite3.IntegrityError:  # NOT NULL, or another row's id
            assume(False)  # noqa: FBT003 - hypothesis's signature
        assume(content() != before)
        with pytest.raises(BrokenChainError):
            links(shared_log)
    finally:
        shared_log.conn.execute("ROLLBACK")
    assert len(links(shared_log)) == ROWS
