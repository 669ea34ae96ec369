"""One committed state of the store, by noun."""

from sqlite_utils import Database

from setpointd.store.audit import AuditReads
from setpointd.store.config import ConfigReads
from setpointd.store.history import HistoryReads
from setpointd.store.identity import IdentityReads
from setpointd.store.outbox import OutboxReads
from setpointd.store.profiles import ProfileReads
from setpointd.store.pruning import PruneReads
from setpointd.store.replies import ReplyReads
from setpointd.store.schemas import SchemaReads
from setpointd.store.search import SearchReads
from setpointd.store.secret_values import SecretReads
from setpointd.store.tokens import TokenReads


class Snapshot:
    """Reads of one state of the store."""

    def __init__(self, db: Database) -> None:
        self.identity = IdentityReads(db)
        self.config = ConfigReads(db)
        self.profiles = ProfileReads(db, self.config)
        self.schemas = SchemaReads(db)
        self.secrets = SecretReads(db)
        self.history = HistoryReads(db)
        self.search = SearchReads(db)
        self.tokens = TokenReads(db)
        self.replies = ReplyReads(db)
        self.audit = AuditReads(db)
        self.outbox = OutboxReads(db)
        self.pruning = PruneReads(db)
