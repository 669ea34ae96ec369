"""The tokens that the daemon goes by: those of the store, whoever changes them there.

Rules:

- What a command changes counts once it is committed, before it is answered: it hands the rows over (``learn``).
- What ``setpointd token`` changes is found by looking again and again (``notice``): at one number, which triggers of
  the store count up. Then all rows are read, and those that differ are opened.
- What the daemon goes by is named in ``tokens.loaded``, for whoever waits for it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from setpointd import loaded
from setpointd.auth import Keyring
from setpointd.errors import OperatorError
from setpointd.keys import Keys
from setpointd.log import logger
from setpointd.store import Snapshot, Store

Row = dict[str, Any]


class Credentials:
    """Keeps ``keyring`` as the store has it. All of it happens on the event loop."""

    def __init__(self, *, data_dir: Path, store: Store, keys: Keys) -> None:
        self.keyring = Keyring()
        self._data_dir = data_dir
        self._store = store
        self._keys = keys
        self._rows: dict[str, Row] = {}
        self._changes: int | None = None

    async def load(self) -> None:
        """Read them all; raises ``OperatorError`` when none of them can be opened."""
        rows = await self._store.read(self._look)
        self._take(rows or [])
        self._tell(rows or [])

    async def notice(self) -> bool:
        """Take in what was changed; whether anything was. Raises ``StoreError``."""
        rows = await self._store.read(self._look)
        if rows is None:
            return False
        try:
            self._take(rows)
        except OperatorError as error:
            logger().error("tokens_unreadable", reason=error.args[0])  # it goes by those that it had
        else:
            logger().info("tokens_changed", tokens=len(rows))
            self._tell(rows)
        return True

    def learn(self, rows: Iterable[Row]) -> None:
        """Go by tokens as these rows of the store have them, which were committed just now."""
        for row in map(_decisive, rows):
            self.keyring.learn(self._keys.restore(row))
            self._rows[row["kid"]] = row
        # The store may be ahead of them already: the next look compares all.
        self._changes = None

    def _look(self, snapshot: Snapshot) -> list[Row] | None:
        """Read all rows, unless they are as they were when they were last read."""
        changes = snapshot.tokens.changes()
        if changes == self._changes:
            return None
        rows = snapshot.tokens.all()
        self._changes = changes
        return rows

    def _take(self, rows: list[Row]) -> None:
        """Go by these. One that cannot be opened is left out, and told of: the others must go on."""
        known: dict[str, Row] = {}
        changed = []
        problem: OperatorError | None = None
        for row in map(_decisive, rows):
            try:
                if self._rows.get(row["kid"]) != row:
                    changed.append(self._keys.restore(row))
            except OperatorError as error:
                problem = error
                logger().error("token_unreadable", kid=row["kid"])
            else:
                known[row["kid"]] = row
        if problem is not None and not known:
            raise problem
        for token in changed:
            self.keyring.learn(token)
        for kid in self._rows.keys() - known.keys():
            self.keyring.forget(kid)
        self._rows = known

    def _tell(self, rows: list[Row]) -> None:
        try:
            loaded.tell(self._data_dir, loaded.digest(rows))
        except OSError as error:  # whoever changed them will be told that no daemon noticed
            logger().warning("tokens_not_told", reason=error.strerror)


def _decisive(row: Row) -> Row:
    return {**row, "last_used_at": None}
