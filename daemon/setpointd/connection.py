"""The daemon on the broker: its position there, its announcements, and staying connected.

Rules:

- Before it takes its own client id, and with it the session, the daemon looks who else is there (wire section 7).
- Only the active daemon publishes state: updates, events, its claim. A read-only one answers, and a standby does not
  even connect with that client id.
- On every connect the retained documents are compared with the store, and what differs is published again.
- When another client takes the session, the daemon ends: coming back would push that one out in turn.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from setpoint_contracts import Topics
from setpoint_contracts.system import Mode
from setpoint_contracts.timestamps import rfc3339
from setpointd import confirmation, epoch, mqtt
from setpointd.errors import (
    BrokerLostError,
    OperatorError,
    PublishRefusedError,
    SessionTakenOverError,
    SetpointdError,
    StoreError,
)
from setpointd.keys import Keys
from setpointd.log import logger
from setpointd.messages import Answerer, Inbound, Outbound
from setpointd.metrics import Metrics
from setpointd.outbox import Outbox
from setpointd.records import Claim, Stamp
from setpointd.runtime import Runtime
from setpointd.settings import Settings
from setpointd.store import Store
from setpointd.tx import Tx

CLAIM_EVERY_S = 1.0
DRAIN_S = 5.0
FAREWELL_S = 2.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0


class Connection:
    """Keeps the daemon connected. ``clock`` gives POSIX seconds, ``chance`` a number in [0, 1)."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        keys: Keys,
        runtime: Runtime,
        metrics: Metrics,
        outbox: Outbox,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._store = store
        self._keys = keys
        self._topics = Topics(settings.topic_prefix)
        self._runtime = runtime
        self._metrics = metrics
        self._outbox = outbox
        self._clock = clock
        self._chance = chance
        self._since = rfc3339(clock())
        self._session: mqtt.Session | None = None
        self._stopping = False
        self._moved = asyncio.Event()
        store.on_commit.append(lambda _jobs, _seconds: self._moved.set())

    async def run(self, answer: Answerer) -> None:
        """Connect, serve, and connect again whenever that is lost; returns after ``stop``.

        Raises ``OperatorError`` when it makes no sense to go on.
        """
        pause = SHORTEST_PAUSE_S
        while not self._stopping:
            try:
                await self._connect_once(answer)
                pause = SHORTEST_PAUSE_S
            except (BrokerLostError, StoreError) as lost:
                if self._runtime.broker_problem is None:
                    pause = SHORTEST_PAUSE_S
                self._note_loss("the store failed" if isinstance(lost, StoreError) else str(lost.args[0]))
                await asyncio.sleep(pause * (1 + self._chance()) / 2)
                pause = min(pause * 2, LONGEST_PAUSE_S)
            except OperatorError as error:
                self._note_loss(str(error.args[0]))
                raise

    def stop(self) -> bool:
        """Ask ``run`` to finish what it has taken and return; false: it is not connected and may be cancelled."""
        self._stopping = True
        if self._session is None:
            return False
        self._session.stop()
        return True

    async def _connect_once(self, answer: Answerer) -> None:
        """Look, decide, and serve until the connection is lost (``BrokerLostError``) or the daemon is stopped."""
        filters = (self._topics.health, self._topics.epoch, self._topics.all_updated)
        retained = await mqtt.look(self._settings, filters, self._topics.look)
        seen = epoch.Seen.read(retained, self._topics)
        await self._take_position(seen)
        if self._runtime.mode == "standby":
            self._runtime.broker_problem = None
            await mqtt.wait_for_change(self._settings, self._topics.health, retained.get(self._topics.health))
            return
        will = self._health(ok=False, event="offline")
        async with mqtt.connect(self._settings, will, self._clock) as session:
            await session.subscribe([self._topics.commands])
            await session.subscribe([self._topics.epoch], no_local=True)
            await self._repair(seen)
            self._announce(session)
            await self._serve(session, partial(self._dispatch, answer))

    async def _take_position(self, seen: epoch.Seen) -> None:
        """Find out what this daemon may be: at its start from all it sees; later on, whether it was superseded."""
        own = self._claim()
        instance = self._runtime.instance
        alive = seen.alive(own)
        if self._runtime.mode in {"active", "read_only"} and alive not in {None, own.instance}:
            # Mosquitto before 2.0.15 just closes the connection of a client whose session was taken over.
            msg = f"instance {alive} has taken over the session; is a second daemon running with this client id?"
            raise SessionTakenOverError(msg)
        if self._runtime.mode == "active":
            if epoch.superseded(seen.claim, own):
                self._set_mode("read_only", "superseded")
        elif self._runtime.mode != "read_only":
            mode, reason = epoch.decide(seen, own)
            if mode == "active":
                await self._store.write(self._stamp(), lambda tx: tx.take_over(instance))
            elif mode == "read_only":
                await self._store.write(self._stamp(), lambda tx: tx.remember(instance))
            self._set_mode(mode, reason)

    async def _repair(self, seen: epoch.Seen) -> None:
        """Have every retained document published (or cleared) that is not what the store has."""
        if self._runtime.mode != "active":
            return
        with self._store.read() as snapshot:
            current = {document.service: document.as_wire() for document in snapshot.documents()}
        if services := epoch.to_repair(seen, current):
            logger().info("repairing", services=len(services))
            await self._store.write(self._stamp(), partial(_announce_all, services))

    def _announce(self, session: mqtt.Session) -> None:
        self._session = session
        self._runtime.broker_problem = None
        self._metrics.connected(up=True)
        logger().info("connected", broker=f"{self._settings.broker_host}:{self._settings.broker_port}")
        if self._runtime.mode == "active":  # what is retained there was signed by the writer
            session.publish(self._keys.signed(self._topics.keys, self._keys.public_jwks(), retain=True))
        session.publish(self._health(ok=True, event="online"))

    async def _serve(self, session: mqtt.Session, handle: Answerer) -> None:
        loss: SetpointdError | None = None
        async with asyncio.TaskGroup() as tasks:
            outbox = tasks.create_task(self._outbox.run(self._publish_as_writer), name="outbox")
            claims = tasks.create_task(self._publish_claims(), name="claims")
            try:
                await session.serve(handle)
                await self._farewell(session)
            except SetpointdError as error:
                loss = error  # raised below: inside the group it would come out wrapped
            outbox.cancel()
            claims.cancel()
        self._session = None
        if loss is not None:
            raise loss

    async def _farewell(self, session: mqtt.Session) -> None:
        if self._runtime.mode == "active":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._outbox.settled()
        with contextlib.suppress(TimeoutError, SetpointdError):
            async with asyncio.timeout(FAREWELL_S):
                await session.publish(self._health(ok=False, event="offline"))

    async def _dispatch(self, answer: Answerer, inbound: Inbound) -> Outbound | None:
        if inbound.topic != self._topics.epoch:
            return await answer(inbound)
        if self._runtime.mode == "active" and epoch.superseded(epoch.parse_claim(inbound.payload), self._claim()):
            self._set_mode("read_only", "superseded")
        return None

    def _publish_as_writer(self, message: Outbound) -> asyncio.Future[None]:
        if self._session is not None and self._runtime.mode == "active":
            return self._session.publish(message)
        return confirmation.failed("not the writer, or not connected")

    async def _publish_claims(self) -> None:
        """Publish the writer's claim now, and whenever the revision has moved, at most once a second."""
        published = None
        while True:
            self._moved.clear()
            try:
                claim = epoch.claim_document(self._claim(), self._since)
                if claim != published:
                    await self._publish_as_writer(self._keys.signed(self._topics.epoch, claim, retain=True))
                    published = claim
            except BrokerLostError:
                return
            except (PublishRefusedError, StoreError):
                self._moved.set()  # logged where it happened; tried again below
            await asyncio.sleep(CLAIM_EVERY_S)
            await self._moved.wait()

    def _set_mode(self, mode: Mode, reason: str | None) -> None:
        if (mode, reason) == (self._runtime.mode, self._runtime.reason):
            return
        self._runtime.mode, self._runtime.reason = mode, reason
        logger().info("mode", mode=mode, reason=reason)
        if self._session is not None:
            self._session.publish(self._health(ok=True, event="mode"))

    def _note_loss(self, problem: str) -> None:
        if problem != self._runtime.broker_problem:
            logger().warning("broker_unreachable", reason=problem)
        self._session = None
        self._runtime.broker_problem = problem
        self._metrics.connected(up=False)

    def _health(self, *, ok: bool, event: str) -> Outbound:
        payload = epoch.health_document(self._runtime, self._claim().epoch, rfc3339(self._clock()), ok=ok, event=event)
        return self._keys.signed(self._topics.health, payload, retain=True)

    def _claim(self) -> Claim:
        with self._store.read() as snapshot:
            return snapshot.claim()

    def _stamp(self) -> Stamp:
        return Stamp(rfc3339(self._clock()), None)


def _announce_all(services: list[str], tx: Tx) -> None:
    for service in services:
        tx.announce(service)
