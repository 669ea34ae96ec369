"""Pruning in the background: what the settings say about the history, and what a command has left.

Rules:

- Only the active daemon prunes. What a stop or a crash interrupts goes on with the next one.
- Slice by slice, and as long a pause after each as it took, so that commands are answered meanwhile.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from setpoint_contracts.timestamps import rfc3339
from setpointd.errors import StoreError
from setpointd.handlers.retention import DAY_S
from setpointd.log import logger
from setpointd.records import Keep, Pruning, Stamp, UnfinishedPrune
from setpointd.store import Store, Tx

LOOK_EVERY_S = 1.0
PRUNE_EVERY_S = 3600.0


class Retention:
    """Prunes while ``active`` is set, by the settings every hour. ``clock`` gives POSIX seconds."""

    def __init__(
        self,
        *,
        store: Store,
        active: asyncio.Event,
        keep_days: int | None,
        keep_versions: int | None,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._active = active
        self._keep_days = keep_days
        self._keep_versions = keep_versions
        self._clock = clock

    async def run(self) -> None:
        """Go round until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._active.wait()
            with contextlib.suppress(StoreError):  # logged where it happened; the next round comes soon
                for left in await self._store.read(lambda snapshot: snapshot.pruning.unfinished()):
                    await self._prune(left.keep, left)
                if loop.time() >= due and {self._keep_days, self._keep_versions} != {None}:
                    await self._prune(self._rule())
                    due = loop.time() + PRUNE_EVERY_S
            await asyncio.sleep(LOOK_EVERY_S)

    def _rule(self) -> Keep:
        since = None if self._keep_days is None else rfc3339(self._clock() - self._keep_days * DAY_S)
        return Keep(since, self._keep_versions)

    async def _prune(self, keep: Keep, left: UnfinishedPrune | None = None) -> None:
        loop = asyncio.get_running_loop()
        by, request_id = (None, None) if left is None else (left.asked_by, left.request_id)
        done = Pruning()
        while not done.over and self._active.is_set():
            began = loop.time()
            stamp = Stamp(rfc3339(self._clock()), by, request_id)
            done = await self._store.write(stamp, partial(_slice, keep, left, done))
            await asyncio.sleep(loop.time() - began)
        if done.versions:
            logger().info("pruned", versions=done.versions, history=done.history)


def _slice(keep: Keep, left: UnfinishedPrune | None, so_far: Pruning, tx: Tx) -> Pruning:
    done = tx.pruning.slice(keep, so_far)
    if done.over:
        if left is not None:
            tx.pruning.finish(left)
        if done.versions:
            tx.pruning.record(keep, done)
    return done
