"""The files of a store: opening them, keeping their format up to date, and keeping other writers out.

Rules:

- Whoever writes holds ``writer.lock``, in this process and in any other (``setpointd token``), for as long as it
  writes: SQLite up to 3.51.2 can lose a checkpoint when two connections write at the same moment.
- Only who writes brings the tables up to date, all steps in one transaction. Who reads opens the file read-only.
- A format that this program does not know is refused before anything is touched.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlite_utils import Database

from setpointd import locks
from setpointd.errors import OperatorError
from setpointd.records import Stamp
from setpointd.store.migrations import migrations
from setpointd.store.snapshot import Snapshot
from setpointd.store.tx import Tx

DATABASE = "setpoint.db"
LOCK_WAIT_S = 10.0
"""How long a writer waits for another one to let go of ``writer.lock``."""
BUSY_TIMEOUT_S = 5.0
PAGE_BYTES = 1024
LOG_BYTES = 16 * 1024 * 1024
"""When the write-ahead log is this long, the commit that made it so puts it into the file, and the writer waits."""


def create(data_dir: Path, stamp: Stamp, store_id: str) -> None:
    """Make a new store in a directory that has none."""
    with writing(data_dir, stamp, create=True) as tx:
        tx.identity.establish(store_id)


@contextlib.contextmanager
def writing(data_dir: Path, stamp: Stamp, *, create: bool = False) -> Iterator[Tx]:
    """Write to a store from outside its daemon, one transaction; a running daemon waits meanwhile.

    Raises ``OperatorError`` when there is no store, or none that can be used.
    """
    if not create:
        check_exists(data_dir)
    with _writer_lock_or_error(data_dir), contextlib.closing(_open_writer(data_dir, new=create)) as db, db.atomic():
        yield Tx(db, stamp)


@contextlib.contextmanager
def reading(data_dir: Path) -> Iterator[Snapshot]:
    """Read a store from outside its daemon, changing nothing. Raises ``OperatorError`` as ``writing`` does."""
    check_exists(data_dir)
    with _explained(data_dir), contextlib.ExitStack() as held:
        # A store that nobody has open is all in one file. Opened the usual way it would get a log and an index to that,
        # which a reader cannot take away again.
        idle = _try(held, writer_lock(data_dir, 0.0)) and not _log(data_dir).exists()
        if not idle:
            held.close()  # who has it open must not wait for a reader
        with contextlib.closing(open_reader(data_dir, changing=not idle)) as db:
            _check(db, data_dir)
            with db.atomic():
                yield Snapshot(db)


def _log(data_dir: Path) -> Path:
    return data_dir / f"{DATABASE}-wal"


def check_exists(data_dir: Path) -> None:
    """Raise ``OperatorError`` when a directory has no store."""
    if not (data_dir / DATABASE).exists():
        raise OperatorError(f"no store in {data_dir}: make one with `setpointd init --data-dir {data_dir}`")


def open_writer(data_dir: Path) -> Database:
    """Open the writing connection and bring the tables up to date.

    Raises ``OperatorError`` when the file cannot be read, holds no store, or is of a format that is not known.
    """
    with _writer_lock_or_error(data_dir):
        return _open_writer(data_dir, new=False)


def open_reader(data_dir: Path, *, changing: bool = True) -> Database:
    """Open a connection that cannot write; with ``changing`` false, nobody else may write while it is open."""
    return Database(_connect(data_dir, "ro" if changing else "ro&immutable=1"), execute_plugins=False)


def writer_lock(data_dir: Path, wait_s: float) -> contextlib.AbstractContextManager[None]:
    """Keep other writers out, across processes. ``BlockingIOError``: another one does not let go."""
    return locks.holding(data_dir / "writer.lock", wait_s=wait_s)


def _try(held: contextlib.ExitStack, lock: contextlib.AbstractContextManager[None]) -> bool:
    try:
        held.enter_context(lock)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _writer_lock_or_error(data_dir: Path) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(writer_lock(data_dir, LOCK_WAIT_S))
        except BlockingIOError:
            msg = f"another process has been writing to {data_dir} for {LOCK_WAIT_S:.0f} s: try again when it is done"
            raise OperatorError(msg) from None
        yield


def _open_writer(data_dir: Path, *, new: bool) -> Database:
    with _explained(data_dir), contextlib.ExitStack() as undo:
        if not new:
            _check_store(data_dir)
        db = Database(_connect(data_dir, "rwc"), execute_plugins=False)
        undo.callback(db.close)
        if new:  # before there is a table: the file can then give back what has become free, part by part
            # And a small write touches some twenty pages: the smaller they are, the less it writes.
            db.conn.executescript(f"PRAGMA page_size={PAGE_BYTES}; PRAGMA auto_vacuum=INCREMENTAL;")
        # What is overwritten or removed, a secret perhaps, leaves no trace in the file. Debian's SQLite does so anyway.
        db.conn.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON;")
        # By default the log goes into the file every 1,000 pages, whatever their size, and savepoints make files.
        page = db.conn.execute("PRAGMA page_size").fetchone()[0]
        db.conn.executescript(f"PRAGMA wal_autocheckpoint={LOG_BYTES // page}; PRAGMA temp_store=MEMORY;")
        # Nor may a transaction write before its commit: that is where the event loop runs jobs, and a disk may be slow.
        db.conn.execute(f"PRAGMA cache_spill={LOG_BYTES // page}")
        _migrate(db, data_dir)
        undo.pop_all()
        return db


def _check_store(data_dir: Path) -> None:
    # Through a connection that cannot write: the last one that can would put the log into the file when it closes.
    with contextlib.closing(open_reader(data_dir, changing=_log(data_dir).exists())) as db:
        _check(db, data_dir)


def _migrate(db: Database, data_dir: Path) -> None:
    done, wanted = len(migrations.applied(db)), len(_steps())
    step = ""
    try:
        with db.atomic():
            try:
                migrations.apply(db)
            except sqlite3.Error:
                step = migrations.pending(db)[0].name
                raise
    except sqlite3.Error as error:
        msg = (
            f"the store in {data_dir} is of format {done}, and cannot be brought to format {wanted} of this setpointd:"
            f" {step} fails ({error}); restore a backup, or use the setpointd that wrote it"
        )
        raise OperatorError(msg) from error


def _check(db: Database, data_dir: Path) -> None:
    """Refuse a store of a format that is not known, and a file that holds none."""
    applied, known = [migration.name for migration in migrations.applied(db)], _steps()
    if unknown := [step for step in applied if step not in known]:
        msg = (
            f"the store in {data_dir} is of format {len(applied)} ({unknown[0]}), and this setpointd knows up to format"
            f" {len(known)}: use the newer setpointd that wrote it"
        )
        raise OperatorError(msg)
    if not (db["config_epoch"].exists() and db["config_epoch"].count):
        raise OperatorError(f"{data_dir / DATABASE} holds no store: restore a backup, or begin anew")


def _steps() -> list[str]:
    with contextlib.closing(Database(memory=True, execute_plugins=False)) as empty:
        return [migration.name for migration in migrations.pending(empty)]


@contextlib.contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        msg = f"the store in {data_dir} cannot be opened: {error}"
        raise OperatorError(msg) from error


def _connect(data_dir: Path, mode: str) -> sqlite3.Connection:
    path = (data_dir / DATABASE).absolute()
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are opened by name
        check_same_thread=False,  # that of the writer goes from one thread to another and back
    )
    connection.row_factory = sqlite3.Row
    return connection
