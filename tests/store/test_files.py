"""The files of a store: who may write to them, and which formats they may have."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from setpoint_contracts import Code
from setpointd.errors import OperatorError, Rejected
from setpointd.records import Stamp, StoredReply
from setpointd.store import Store, Tx
from setpointd.store.chain import START
from setpointd.store.files import DATABASE, open_writer, reading, writer_lock, writing
from setpointd.store.migrations import migrations
from tests.store.jobs import job, put

STAMP = Stamp("2026-01-02T00:00:00.000Z", "alice", "r-1")
STEPS = [
    "first_tables",
    "one_outbox_row_each",
    "profiles",
    "schemas_of_configs",
    "chained_audit_log",
    "changes_of_tokens_are_counted",
    "pruned_history",
    "history_is_read",
    "secret_values",
    "fewer_pages",
]
NOW = len(STEPS)
"""The format of this program."""


def write_outside(data_dir: Path, run: Callable[[Tx], object]) -> None:
    """Write to a store as `setpointd token` does."""
    with writing(data_dir, STAMP) as tx:
        run(tx)


def read_outside(data_dir: Path) -> None:
    """Read a store as `setpointd token list` does."""
    with reading(data_dir) as snapshot:
        snapshot.tokens.all()


def test_a_write_from_outside_that_fails_leaves_nothing(data_dir: Path) -> None:
    """All of it or nothing, and the lock is free afterwards."""

    def refuse(tx: Tx) -> None:
        put("refused", {})(tx)
        raise Rejected(Code.NOT_FOUND, "no")

    with pytest.raises(Rejected):
        write_outside(data_dir, refuse)
    with writing(data_dir, STAMP) as tx:
        assert tx.config.count() == 0
        assert tx.identity.now().revision == 0


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


def test_who_writes_from_outside_waits_so_long_and_no_longer(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody else writes and does not end, the error says so and what to do."""
    monkeypatch.setattr("setpointd.store.files.LOCK_WAIT_S", 0.05)
    with writer_lock(data_dir, 0), pytest.raises(OperatorError, match=r"another process .* try again"):
        write_outside(data_dir, put("a", {}))
    write_outside(data_dir, put("a", {}))


def change(data_dir: Path, *statements: str) -> None:
    """Do something to the file of a store that is not open."""
    with closing(sqlite3.connect(data_dir / DATABASE)) as db, db:
        for statement in statements:
            db.execute(statement)


def content(data_dir: Path) -> dict[str, bytes]:
    """Read the bytes of a store: its database, and its log when there is something in it."""
    found = {name: (data_dir / name) for name in (DATABASE, DATABASE + "-wal")}
    return {name: path.read_bytes() for name, path in found.items() if path.exists() and path.stat().st_size}


def refusals(data_dir: Path) -> list[str]:
    """Open a store in every way there is, and give the lines in which that is refused."""
    lines = []
    for way in (open_writer, read_outside, partial(write_outside, run=put("a", {}))):
        with pytest.raises(OperatorError) as caught:
            way(data_dir)
        assert "\n" not in caught.value.args[0]
        lines.append(caught.value.args[0])
    return lines


NEWER = (
    "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('setpoint', 'of_tomorrow', '2030')",
    "ALTER TABLE config_state ADD COLUMN tomorrow TEXT",
)


def test_a_store_of_a_newer_format_is_refused_and_left_alone(data_dir: Path) -> None:
    """One line names both formats and what to do, and not a byte of the store has changed."""
    change(data_dir, *NEWER)
    before = content(data_dir)
    for line in refusals(data_dir):
        assert f"of format {NOW + 1} (of_tomorrow)" in line
        assert f"up to format {NOW}: use the newer setpointd" in line
    assert content(data_dir) == before


def test_the_log_of_a_newer_store_is_left_alone_too(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a daemon that was killed had not yet put into the file stays where it is, for the one that knows it."""
    killed = tmp_path_factory.mktemp("killed")
    with closing(sqlite3.connect(data_dir / DATABASE)) as db:
        with db:
            for statement in NEWER:
                db.execute(statement)
        for name in (DATABASE, DATABASE + "-wal"):
            shutil.copy(data_dir / name, killed)
    before = content(killed)
    assert before[DATABASE + "-wal"]
    assert len(refusals(killed)) == 3
    assert content(killed) == before


async def test_a_daemon_does_not_start_on_a_newer_store(data_dir: Path) -> None:
    """It says so before it has a writer."""
    change(data_dir, *NEWER)
    with pytest.raises(OperatorError, match="use the newer setpointd"):
        Store(data_dir)


def test_a_half_migrated_store_that_cannot_be_completed_is_refused(first_format: Path) -> None:
    """One line names both formats and the step that fails; what was there is there still."""
    change(first_format, "CREATE TABLE outbox_before (left_behind)")
    before = content(first_format)
    with pytest.raises(OperatorError) as caught:
        open_writer(first_format)
    line = caught.value.args[0]
    assert "\n" not in line
    assert f"is of format 1, and cannot be brought to format {NOW}" in line
    assert "one_outbox_row_each fails" in line
    assert "restore a backup, or use the setpointd that wrote it" in line
    assert content(first_format) == before


def test_a_migration_that_fails_half_way_leaves_nothing_of_it(
    first_format: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps are one transaction: what the first of them did is undone when the last one fails."""

    def fails(db: Database) -> None:
        db.conn.execute("CREATE TABLE of_tomorrow (x)")
        db.conn.execute("SELECT * FROM not_there")

    monkeypatch.setattr(migrations, "_migrations", [*migrations._migrations, migrations._Migration("fails", fails)])  # noqa: SLF001
    before = content(first_format)
    with pytest.raises(OperatorError, match=rf"of format 1, and cannot be brought to format {NOW + 1} .* fails fails"):
        open_writer(first_format)
    assert content(first_format) == before
    monkeypatch.undo()
    open_writer(first_format).close()


@pytest.fixture
def first_format(tmp_path: Path) -> Path:
    """Make a store as the first release did, with a bit of everything in it."""
    place = tmp_path / "first"
    place.mkdir()
    with closing(Database(sqlite3.connect(place / DATABASE, isolation_level=None), execute_plugins=False)) as db:
        db.conn.execute("PRAGMA journal_mode = WAL")
        migrations.apply(db, stop_before=STEPS[1])
        for table, *values in FIRST_ROWS:
            db.conn.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608
    return place


AT = "2026-01-01T00:00:00.000Z"
FIRST_ROWS: tuple[tuple[Any, ...], ...] = (
    ("config_epoch", "725f141d-042e-4f72-828e-5d90ca2db912", 3, 4, "i-1"),
    ("config_state", "stt", 2, 3, 0, AT, "alice"),
    ("config_state", "tts", 2, 4, 1, AT, "bob"),
    ("config_kv", "stt", "n", "1.0"),
    ("config_versions", "stt", 1, 1, 1, "{}", "set", None, AT, "alice", "r-1"),
    ("config_versions", "stt", 2, 3, 3, '{"n":1.0}', "set", "why", AT, "alice", "r-3"),
    ("config_versions", "tts", 1, 2, 2, "{}", "set", None, AT, "bob", "r-2"),
    ("config_versions", "tts", 2, 4, 3, None, "delete", None, AT, "bob", "r-4"),
    ("config_history", 1, 3, "stt", 2, "n", "add", None, "1.0", AT, "alice", "why", "r-3"),
    ("api_tokens", "tok_a", "alice", "admin", '["s*"]', "HS256", "sealed", AT, "root", None, None, AT),
    ("command_log", "tok_a", "r-3", b"digest", b"reply", AT),
    ("audit_log", 1, "update_config", "alice", "stt", AT, "r-1", 1, '{"version":1}'),
    ("audit_log", 2, "update_config", "bob", "tts", AT, "r-2", 2, '{"version":1}'),
    ("outbox", 1, "updated", "stt"),
    ("outbox", 2, "audit", "1"),
    ("outbox", 3, "updated", "tts"),
    ("outbox", 5, "updated", "stt"),
    ("outbox", 6, "audit", "2"),
    ("outbox", 9, "updated", "tts"),
    ("outbox", 12, "updated", "stt"),
)
KEPT = ("config_epoch", "config_kv", "config_versions", "config_history", "api_tokens", "command_log", "audit_log")


def test_a_store_of_the_first_release_keeps_everything(first_format: Path) -> None:
    """Its rows are what they were, and what waited to be published waits once, in the order in which it came first."""
    with closing(Database(first_format / DATABASE, execute_plugins=False)) as db:
        before = {table: list(db[table].rows) for table in KEPT}
    with closing(open_writer(first_format)) as db:
        for table, kept in before.items():  # a row may have got more columns
            assert [{name: row[name] for name in kept[0]} for row in db[table].rows] == kept
        assert [migration.name for migration in migrations.applied(db)] == STEPS
        with job(db) as tx:
            assert [row.ref for row in tx.outbox.first("documents", 9)] == ["stt", "tts"]
            assert [row.ref for row in tx.outbox.first("events", 9)] == ["1", "2"]
            assert [document.service for document in tx.config.retained()] == ["stt", "tts"]
            stt, tts = tx.config.to_publish("stt"), tx.config.to_publish("tts")
            assert stt is not None
            assert tts is not None
            assert (stt.version, stt.config, tts.deleted) == (2, {"n": 1}, True)
            assert tx.replies.stored("tok_a", "r-3") == StoredReply(b"digest", b"reply")
            assert put("tts", {"n": 2})(tx).version == 3
            assert [link.id for link in tx.audit.chain(START, 9)] == [1, 2, 3]


def test_a_long_log_gets_its_chain(first_format: Path) -> None:
    """All rows of an older store are chained, also when there are more than are taken in one portion."""
    change(
        first_format,
        """
        WITH RECURSIVE n (id) AS (SELECT 3 UNION ALL SELECT id + 1 FROM n WHERE id < 20005)
        INSERT INTO audit_log SELECT id, 'create_token', 'root', NULL, '', NULL, NULL, '{}' FROM n
        """,
    )
    with closing(open_writer(first_format)) as db, job(db) as tx:
        assert [link.id for link in tx.audit.chain(START, 99_999)] == list(range(1, 20_006))


def test_a_migration_that_was_cut_short_is_completed(first_format: Path) -> None:
    """A store that has some steps and not the others gets the others, whoever opens it for writing first."""
    with writing(first_format, STAMP) as tx:
        assert tx.outbox.pending() == 4
    with closing(open_writer(first_format)) as db:
        assert [migration.name for migration in migrations.applied(db)] == STEPS


def test_reading_from_outside_never_migrates(first_format: Path) -> None:
    """What readers need of an older store they read as it is, and not a byte of it changes."""
    before = content(first_format)
    with reading(first_format) as snapshot:
        assert [token["kid"] for token in snapshot.tokens.all()] == ["tok_a"]
    assert content(first_format) == before


def test_reading_from_outside_cannot_write(data_dir: Path) -> None:
    """The connection is open for reading only, whatever is tried on it."""
    with reading(data_dir) as snapshot:
        connection = snapshot.identity._db.conn  # noqa: SLF001 - what nobody else can reach
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM config_epoch")


def test_reading_from_outside_does_not_wait_for_writers(data_dir: Path) -> None:
    """A list of tokens comes also while somebody writes."""
    with writer_lock(data_dir, 0), reading(data_dir) as snapshot:
        assert snapshot.tokens.all() == []


def test_a_store_that_was_made_before_gives_space_back_once_it_was_vacuumed(data_dir: Path) -> None:
    """It stays as it is otherwise: what has become free is used again, and the file keeps its size."""
    with closing(sqlite3.connect(data_dir / DATABASE)) as older:
        older.executescript("PRAGMA auto_vacuum=NONE; VACUUM")
    for free in (False, True):
        with closing(open_writer(data_dir)) as db:
            with job(db) as tx:
                put("stt", {"text": "x" * 100_000})(tx)
            with job(db) as tx:
                tx.config._do("DELETE FROM config_versions")  # noqa: SLF001 - what has a hundred free pages
                tx.config._do("DELETE FROM config_history")  # noqa: SLF001
                tx.config._do("DELETE FROM config_state")  # noqa: SLF001
                assert (tx.pruning.free_pages() > 0) is free
        with closing(sqlite3.connect(data_dir / DATABASE)) as older:
            older.executescript("PRAGMA auto_vacuum=INCREMENTAL; VACUUM")
