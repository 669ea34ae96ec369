"""What the daemon does on the side: notice tokens that were changed from outside, and drop what has run out."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from setpoint_contracts.timestamps import rfc3339
from setpointd import loaded
from setpointd.auth import Keyring
from setpointd.broker.outbox import Outbox
from setpointd.errors import OperatorError, StoreError
from setpointd.keys import Keys
from setpointd.log import logger
from setpointd.pipeline import Pipeline
from setpointd.records import Stamp
from setpointd.store import Store, Tx

T = TypeVar("T")

TOKENS_EVERY_S = 0.2
SWEEP_EVERY_ROUNDS = 300
_DAY_S = 86_400
_TOMBSTONES_AT_ONCE = 100


class Chores:
    """Looks after tokens, stored replies and tombstones. ``clock`` gives POSIX seconds."""

    def __init__(
        self,
        *,
        data_dir: Path,
        store: Store,
        keys: Keys,
        outbox: Outbox,
        tombstone_keep_days: int,
        clock: Callable[[], float],
    ) -> None:
        self._data_dir = data_dir
        self._store = store
        self._keys = keys
        self._outbox = outbox
        self._tombstone_keep_days = tombstone_keep_days
        self._clock = clock
        self._tokens = ""

    async def keyring(self) -> Keyring:
        """Make the tokens of the store ready for use; raises ``OperatorError`` when none of them can be opened.

        One that cannot is left out, and told of: the others must go on.
        """
        rows = await self._store.read(lambda snapshot: snapshot.tokens.all())
        keyring = _keyring(rows, self._keys)
        self._tokens = loaded.digest(rows)
        self._tell()
        return keyring

    async def run(self, pipeline: Pipeline) -> None:
        """Go round until cancelled."""
        while True:
            for _ in range(SWEEP_EVERY_ROUNDS):
                await asyncio.sleep(TOKENS_EVERY_S)
                with contextlib.suppress(StoreError):  # logged where it happened; the next round comes soon
                    await self._notice_tokens(pipeline)
            await self.sweep(pipeline)

    async def sweep(self, pipeline: Pipeline) -> None:
        """Write down which tokens were used; forget what has run out, in small slices."""
        used, pipeline.last_used = pipeline.last_used, {}
        now = self._clock()
        oldest = rfc3339(now - self._tombstone_keep_days * _DAY_S)
        with contextlib.suppress(StoreError):  # logged where it happened
            await self._write(lambda tx: tx.tokens.note_use(used))
            while await self._write(lambda tx: tx.replies.forget(rfc3339(now))):
                pass
            while await self._write(lambda tx: tx.config.clear_tombstones(oldest, _TOMBSTONES_AT_ONCE)):
                pass

    async def _write(self, run: Callable[[Tx], T]) -> T:
        return await self._store.write(Stamp(rfc3339(self._clock()), None), run)

    async def _notice_tokens(self, pipeline: Pipeline) -> None:
        rows = await self._store.read(lambda snapshot: snapshot.tokens.all())
        now = loaded.digest(rows)
        if now == self._tokens:
            return
        self._tokens = now
        try:
            pipeline.keyring = _keyring(rows, self._keys)
        except OperatorError as error:
            logger().error("tokens_unreadable", reason=error.args[0])  # it goes by those that it had
        else:
            logger().info("tokens_changed", tokens=len(rows))
            self._tell()
        self._outbox.wake()  # the change came with an audit event

    def _tell(self) -> None:
        try:
            loaded.tell(self._data_dir, self._tokens)
        except OSError as error:  # whoever changed them will be told that no daemon noticed
            logger().warning("tokens_not_told", reason=error.strerror)


def _keyring(rows: list[dict[str, Any]], keys: Keys) -> Keyring:
    tokens = []
    problem: OperatorError | None = None
    for row in rows:
        try:
            tokens.append(keys.restore(row))
        except OperatorError as error:
            problem = error
            logger().error("token_unreadable", kid=row["kid"])
    if problem is not None and not tokens:
        raise problem
    return Keyring(tokens)
