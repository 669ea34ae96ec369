"""What the daemon does on the side: notice tokens that were changed from outside, and drop what has run out."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from setpoint_contracts.timestamps import rfc3339
from setpointd.broker.outbox import Outbox
from setpointd.credentials import Credentials
from setpointd.errors import StoreError
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
        store: Store,
        credentials: Credentials,
        outbox: Outbox,
        tombstone_keep_days: int,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._credentials = credentials
        self._outbox = outbox
        self._tombstone_keep_days = tombstone_keep_days
        self._clock = clock

    async def run(self, pipeline: Pipeline) -> None:
        """Go round until cancelled."""
        while True:
            for _ in range(SWEEP_EVERY_ROUNDS):
                await asyncio.sleep(TOKENS_EVERY_S)
                with contextlib.suppress(StoreError):  # logged where it happened; the next round comes soon
                    if await self._credentials.notice():
                        self._outbox.wake()  # the change came with an audit event
            await self.sweep(pipeline)

    async def sweep(self, pipeline: Pipeline) -> None:
        """Write down which tokens were used; forget what has run out, in small slices."""
        used, pipeline.last_used = pipeline.last_used, {}
        now = self._clock()
        oldest = rfc3339(now - self._tombstone_keep_days * _DAY_S)
        times = {kid: rfc3339(at) for kid, at in used.items()}
        try:
            await self._write(lambda tx: tx.tokens.note_use(times))
        except StoreError:  # logged where it happened
            pipeline.last_used = used | pipeline.last_used
            return
        with contextlib.suppress(StoreError):  # the same
            while await self._write(lambda tx: tx.replies.forget(rfc3339(now))):
                pass
            while await self._write(lambda tx: tx.config.clear_tombstones(oldest, _TOMBSTONES_AT_ONCE)):
                pass

    async def _write(self, run: Callable[[Tx], T]) -> T:
        return await self._store.write(Stamp(rfc3339(self._clock()), None), run)
