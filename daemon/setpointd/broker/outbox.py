"""What was committed reaches the broker, at least once, whatever happens in between.

Rules:

- A row leaves the outbox only after the PUBACK of what was published for it, and only if it was not put in again.
  Unless many wait, it leaves with the next commit, so that no writer waits for one; until then it is known here that it
  is done.
- An ``updated`` row says that a service changed, not how: what is published is its state now. So updates are never
  published out of order, some are skipped, and the last one always arrives. A ``schema`` row says so of its schema.
- Each portion has the rows of both queues that wait longest: neither can hold up the other.
- What the broker refuses stays, and is tried again now and then. A document that it would not take for its size leaves
  the outbox, and is looked at again when it changes and at every connect; so does what cannot be read.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import get_args

from setpointd.errors import BrokerLostError, PublishRefusedError, Rejected, StoreError, UnreadableError
from setpointd.log import logger
from setpointd.messages import Outbound
from setpointd.metrics import Metrics
from setpointd.records import OutboxQueue, OutboxRow, Stamp
from setpointd.render import Renderer
from setpointd.runtime import Runtime
from setpointd.store import Snapshot, Store, Tx

Publish = Callable[[Outbound], asyncio.Future[None]]

QUEUES: tuple[OutboxQueue, ...] = get_args(OutboxQueue)
# Of each queue. Rendered and signed without a pause: so many take about as long as one commit.
PORTION = 32
# When so many rows of a queue are refused, the rest of it waits for the next try too.
MAX_REFUSED = 256
RETRY_S = 5.0


class Outbox:
    """Publishes the rows of a store's outbox. ``stamp`` gives the stamp of its own housekeeping writes."""

    def __init__(
        self,
        store: Store,
        renderer: Renderer,
        runtime: Runtime,
        metrics: Metrics,
        stamp: Callable[[], Stamp],
    ) -> None:
        self._store = store
        self._render = renderer
        self._runtime = runtime
        self._metrics = metrics
        self._stamp = stamp
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._refused: dict[OutboxQueue, set[int]] = {queue: set() for queue in QUEUES}
        self._done: set[OutboxRow] = set()
        self._retry: asyncio.TimerHandle | None = None
        store.on_commit.append(lambda _jobs, _seconds: self.wake())

    def wake(self) -> None:
        """Look for rows: something was committed, or the broker is there again."""
        self._settled.clear()
        self._wake.set()

    async def settled(self) -> None:
        """Wait until there is nothing to publish, or nobody to publish it to."""
        await self._settled.wait()

    async def run(self, publish: Publish, active: asyncio.Event) -> None:
        """Publish what comes while ``active`` is set, until cancelled or the broker is lost."""
        self._runtime.oversized.clear()
        self._refused = {queue: set() for queue in QUEUES}
        self.wake()
        try:
            while True:
                await active.wait()
                await self._wake.wait()
                self._wake.clear()
                try:
                    while active.is_set() and await self._publish_some(publish):
                        pass
                    if not self._wake.is_set():
                        self._settled.set()
                except StoreError:  # logged where it happened
                    self._try_again()
        except BrokerLostError:
            self._settled.set()

    async def _publish_some(self, publish: Publish) -> bool:
        """Publish one portion, and take out what is confirmed; whether more may be behind it.

        Behind one that is not full there is nothing, but for what a commit brings, which wakes us.
        """
        portion = await self._store.read(self._portion)
        waiting = [(row, None if message is None else publish(message)) for row, message in portion]
        confirmed: list[OutboxRow] = []
        for row, confirmation in waiting:
            try:
                if confirmation is not None:
                    await confirmation
                    self._metrics.published(row.kind)
            except PublishRefusedError:  # logged where it happened; what stands behind it goes on
                self._refused["events" if row.kind == "audit" else "documents"].add(row.id)
                self._try_again()
            else:
                confirmed.append(row)
        more = len(portion) >= PORTION
        if confirmed and more:  # what is done must not pile up before what is not
            await self._store.write(self._stamp(), partial(_remove, confirmed), quick=True)
        elif confirmed:
            self._done.update(confirmed)
            removal = self._store.write_along(self._stamp(), partial(_remove, confirmed))
            removal.add_done_callback(partial(self._taken_out, confirmed))
        return more

    def _taken_out(self, rows: list[OutboxRow], removal: asyncio.Future[None]) -> None:
        self._done.difference_update(rows)
        if removal.exception() is not None:  # logged where it happened; what is still there is published again
            self._try_again()

    def _portion(self, snapshot: Snapshot) -> list[tuple[OutboxRow, Outbound | None]]:
        return [
            (row, self._readable(snapshot, row))
            for queue in QUEUES
            if len(self._refused[queue]) < MAX_REFUSED
            for row in snapshot.outbox.first(queue, PORTION, self._refused[queue], self._done)
        ]

    def _readable(self, snapshot: Snapshot, row: OutboxRow) -> Outbound | None:
        try:
            return self._rendered(snapshot, row)
        except UnreadableError:
            logger().error("store_unreadable", kind=row.kind, ref=row.ref)
            return None

    def _rendered(self, snapshot: Snapshot, row: OutboxRow) -> Outbound | None:
        """Make what is to be published for a row; None when nothing is."""
        if row.kind == "audit":
            event = snapshot.audit.event(row.ref)
            return None if event is None else self._render.event(event)
        document = (row.kind, row.ref)
        try:
            if row.kind == "schema":
                message = self._render.schema(row.ref, snapshot.schemas.text(row.ref))
            else:
                message = self._render.update(row.ref, snapshot.config.to_publish(row.ref))
        except Rejected as excess:
            if document not in self._runtime.oversized:
                self._runtime.oversized.add(document)
                logger().warning("document_too_large", kind=row.kind, service=row.ref, **excess.details)
            return None
        self._runtime.oversized.discard(document)
        return message

    def _try_again(self) -> None:
        if self._retry is None:
            refused = sum(map(len, self._refused.values()))
            logger().error("outbox_stuck", refused=refused, retry_s=RETRY_S)
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self._refused = {queue: set() for queue in QUEUES}
        self.wake()


def _remove(rows: list[OutboxRow], tx: Tx) -> None:
    tx.outbox.remove(rows)
