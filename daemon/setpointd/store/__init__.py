"""The store: one SQLite file, one writer. Per noun a module with its reads and writes, in SQL and nothing else.

The rest of the daemon reads through a ``Snapshot`` and writes through a ``Tx``, and sees no database in either.
"""

from setpointd.store.engine import Store
from setpointd.store.snapshot import Snapshot
from setpointd.store.tx import Tx

__all__ = ["Snapshot", "Store", "Tx"]
