"""What was committed reaches the broker, at least once, whatever happens in between.

Rules:

- A row leaves the outbox only after the PUBACK of what was published for it.
- An ``updated`` row says that a service changed, not how: what is published is its state now. So rows of one service
  are conflated, updates are never published out of order, and the last one always arrives.
"""

import asyncio
from collections.abc import Callable

from setpoint_contracts import Topics, strictjson
from setpointd.errors import BrokerLostError, PublishRefusedError, StoreError
from setpointd.keys import Keys
from setpointd.log import logger
from setpointd.messages import Outbound
from setpointd.metrics import Metrics
from setpointd.records import OutboxRow, Stamp
from setpointd.snapshot import Snapshot
from setpointd.store import Store

Publish = Callable[[Outbound], asyncio.Future[None]]

# Rendered and signed without a pause: so many take about as long as one commit.
_BATCH = 32
_RETRY_S = 5.0


class Outbox:
    """Publishes the rows of a store's outbox. ``stamp`` gives the stamp of its own housekeeping writes."""

    def __init__(self, store: Store, keys: Keys, topics: Topics, metrics: Metrics, stamp: Callable[[], Stamp]) -> None:
        self._store = store
        self._keys = keys
        self._topics = topics
        self._metrics = metrics
        self._stamp = stamp
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._refused: set[int] = set()
        self._retry: asyncio.TimerHandle | None = None
        store.on_commit.append(lambda _jobs, _seconds: self.wake())

    def wake(self) -> None:
        """Look for rows: something was committed, or the broker is there again."""
        self._settled.clear()
        self._wake.set()

    async def settled(self) -> None:
        """Wait until there is nothing to publish, or nobody to publish it to."""
        await self._settled.wait()

    async def run(self, publish: Publish) -> None:
        """Publish what comes, until cancelled or the broker is lost."""
        self.wake()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                try:
                    while await self._publish_some(publish):
                        pass
                    if not self._wake.is_set():
                        self._settled.set()
                except StoreError:  # logged where it happened
                    self._try_again()
        except BrokerLostError:
            self._settled.set()

    async def _publish_some(self, publish: Publish) -> bool:
        """Publish the oldest rows that were not refused lately, and take out what is confirmed; whether any came."""
        with self._store.read() as snapshot:
            rows = [row for row in snapshot.outbox(_BATCH + len(self._refused)) if row.id not in self._refused]
            waiting = [
                (group, [publish(message) for message in self._render(snapshot, group[-1])])
                for group in _conflate(rows)
            ]
        confirmed: list[int] = []
        for group, confirmations in waiting:
            ids = [row.id for row in group]
            try:
                await asyncio.gather(*confirmations)
            except PublishRefusedError:  # logged where it happened; what stands behind it goes on
                self._refused.update(ids)
                self._try_again()
            else:
                confirmed += ids
                self._metrics.published(group[-1].kind)
        if confirmed:
            await self._store.write(self._stamp(), lambda tx: tx.published(confirmed))
        return bool(rows)

    def _try_again(self) -> None:
        if self._retry is None:
            logger().error("outbox_stuck", refused=len(self._refused), retry_s=_RETRY_S)
            self._retry = asyncio.get_running_loop().call_later(_RETRY_S, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self._refused.clear()
        self.wake()

    def _render(self, snapshot: Snapshot, row: OutboxRow) -> list[Outbound]:
        if row.kind == "audit":
            event = snapshot.audit_event(row.ref)
            return [] if event is None else [self._message(self._topics.audit(event["action"]), event, retain=False)]
        topic = self._topics.updated(row.ref)
        document = snapshot.current(row.ref)
        if document is not None and not document.deleted:
            return [self._message(topic, document.as_wire(), retain=True)]
        clear = Outbound(topic, b"", retain=True)
        return [clear] if document is None else [self._message(topic, document.as_wire(), retain=False), clear]

    def _message(self, topic: str, document: object, *, retain: bool) -> Outbound:
        return self._keys.signed(topic, strictjson.dumps(document).encode(), retain=retain)


def _conflate(rows: list[OutboxRow]) -> list[list[OutboxRow]]:
    """Put the rows of one service together; an audit event stands alone."""
    groups: dict[tuple[str, str], list[OutboxRow]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.ref), []).append(row)
    return list(groups.values())
