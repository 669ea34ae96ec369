"""A transaction's reads and writes, by noun.

Rules:

- A method that writes state writes what belongs to it: version, history, keys, audit event and outbox rows. No caller
  can forget one.
- All that a job writes shares one revision, taken when it first needs one.
- Values come from outside: no clock, no random numbers here.
"""

import contextlib
from collections.abc import Iterator

from sqlite_utils import Database

from setpointd.errors import TakesLongError
from setpointd.records import Stamp
from setpointd.store.audit import AuditWrites
from setpointd.store.config import ConfigWrites
from setpointd.store.history import HistoryWrites
from setpointd.store.identity import IdentityWrites
from setpointd.store.known import Known
from setpointd.store.outbox import OutboxWrites
from setpointd.store.profiles import ProfileWrites
from setpointd.store.pruning import PruneWrites
from setpointd.store.replies import ReplyWrites
from setpointd.store.schemas import SchemaWrites
from setpointd.store.search import SearchReads
from setpointd.store.secret_values import SecretWrites
from setpointd.store.snapshot import Snapshot
from setpointd.store.tokens import TokenWrites


class Tx(Snapshot):
    """A transaction, as the job has it that runs in it. ``stamp`` says who writes, when, and in which request.

    It is made once for all jobs of a transaction, which follow one another: to make it for each took 4 % of a ``set``.
    ``scrubs``: one has overwritten something that must not stay behind in the write-ahead log.
    """

    identity: IdentityWrites
    config: ConfigWrites
    history: HistoryWrites
    profiles: ProfileWrites
    schemas: SchemaWrites
    secrets: SecretWrites
    tokens: TokenWrites
    replies: ReplyWrites
    audit: AuditWrites
    outbox: OutboxWrites
    pruning: PruneWrites

    def __init__(self, db: Database, stamp: Stamp) -> None:
        known = self._known = Known(stamp)
        self._db = db
        self._quick = self.scrubs = False
        self.identity = IdentityWrites(db, known)
        self.outbox = OutboxWrites(db)
        self.audit = AuditWrites(db, known, self.outbox)
        self.tokens = TokenWrites(db, known, self.audit)
        self.replies = ReplyWrites(db)
        self.pruning = PruneWrites(db, known, self.audit)
        self.history = HistoryWrites(db, known)
        self.search = SearchReads(db)
        self.secrets = SecretWrites(db)
        self.config = ConfigWrites(db, known, self.identity, self.history, self.secrets, self.audit, self.outbox)
        self.profiles = ProfileWrites(db, known, self.config, self.identity, self.audit)
        self.schemas = SchemaWrites(db, known, self.config, self.audit, self.outbox)

    def next_job(self, stamp: Stamp, *, quick: bool) -> None:
        """Begin another job of the transaction; ``quick``: it has to be."""
        self._known.stamp = stamp
        self._quick = quick
        self.config.next_job()
        self.schemas.next_job()

    def takes_long(self) -> None:
        """Say that what follows may take more than some milliseconds; ``TakesLongError`` unless it may."""
        if self._quick:
            raise TakesLongError

    def undo(self) -> None:
        """Undo all that the job has written so far, and let it go on; within its savepoint, which stays."""
        self.config.revision = None
        self._known.forget()
        self._db.conn.execute("ROLLBACK TO part")

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the job that is undone when it raises, the revision that it took included.

        May be nested: SQLite goes by the innermost savepoint of a name. One name, so that each statement is compiled
        once.
        """
        revision = self.config.revision
        run = self._db.conn.execute
        run("SAVEPOINT part")
        try:
            yield
        except BaseException:
            self.config.revision = revision
            self._known.forget()
            if self._db.conn.in_transaction:  # else SQLite gave the whole transaction up
                run("ROLLBACK TO part")
                run("RELEASE part")
            raise
        run("RELEASE part")
