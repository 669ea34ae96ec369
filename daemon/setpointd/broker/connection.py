"""Staying connected, and what a connected daemon does beside answering.

Rules:

- Before it takes its own client id, and with it the session, the daemon looks who else is there (wire section 7).
- Only the active daemon publishes state: updates, events, its claim. A read-only one answers, and a standby does not
  even connect with that client id.
- On every connect the retained documents are compared with the store; what differs is published again, and so is what
  somebody else publishes on the daemon's own topics meanwhile.
- When another client takes the session, the daemon ends: coming back would push that one out in turn.
"""

import asyncio
import time
from collections.abc import Callable

from setpointd.broker import session as sessions
from setpointd.broker.duties import Duties
from setpointd.broker.position import Position
from setpointd.errors import BrokerLostError, OperatorError, SetpointdError, StoreError
from setpointd.log import logger
from setpointd.messages import Handle, Inbound, Outbound
from setpointd.metrics import Metrics
from setpointd.runtime import Runtime
from setpointd.settings import Settings

SERVED_S = 5.0
"""A connection that served this long was a good one: after it, the pauses between attempts begin anew."""
SPREAD_S = 1.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0


class Connection:
    """Keeps the daemon connected. ``clock`` gives POSIX seconds, ``chance`` a number in [0, 1)."""

    def __init__(
        self,
        *,
        settings: Settings,
        position: Position,
        duties: Duties,
        runtime: Runtime,
        metrics: Metrics,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._position = position
        self._duties = duties
        self._runtime = runtime
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._session: sessions.Session | None = None
        self._served_since: float | None = None
        self._stopping = False

    async def run(self, handle: Handle) -> None:
        """Connect, serve, and connect again whenever that is lost; returns after ``stop``.

        Raises ``OperatorError`` when it makes no sense to go on.
        """
        pause = SHORTEST_PAUSE_S
        while not self._stopping:
            self._served_since = None
            try:
                await self._connect_once(handle)
            except (BrokerLostError, StoreError) as lost:
                self._note_loss("the store failed" if isinstance(lost, StoreError) else str(lost.args[0]))
                if self._has_served():
                    pause = SHORTEST_PAUSE_S
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

    async def _connect_once(self, handle: Handle) -> None:
        """Look, take position, and serve until the daemon is stopped, or the connection lost (``BrokerLostError``)."""
        retained = await self._position.look()
        current = await self._position.take(retained)
        if self._runtime.mode == "standby":
            self._runtime.broker_problem = None
            await self._position.wait_for_news()
            # Several may stand by: the one that looks first is seen by the next.
            await asyncio.sleep(SPREAD_S * self._chance())
            return
        will = await self._duties.last_word()
        async with sessions.connect(self._settings, will, self._clock) as session:
            await self._duties.greet(session)
            await self._duties.subscribe(session)
            if self._runtime.mode == "active":
                await self._duties.compare(retained, current, session.max_packet_bytes)
            del retained, current  # all that the broker has: not to be held for as long as the session lasts
            self._note_connection(session)
            await self._serve(session, handle)

    async def _serve(self, session: sessions.Session, handle: Handle) -> None:
        async def dispatch(message: Inbound) -> Outbound | None:
            if self._duties.concern(message.topic):
                await self._duties.hear(message)
                return None
            return await handle(message)

        loss: SetpointdError | None = None
        async with asyncio.TaskGroup() as tasks:
            duties = tasks.create_task(self._duties.run(session), name="duties")
            try:
                await session.serve(dispatch)
                await self._duties.farewell(session)
            except SetpointdError as error:
                loss = error  # raised below: inside the group it would come out wrapped
            duties.cancel()
        self._session = None
        if loss is not None:
            raise loss

    def _note_connection(self, session: sessions.Session) -> None:
        self._session = session
        self._served_since = time.monotonic()
        self._runtime.broker_problem = None
        self._runtime.max_packet_bytes = session.max_packet_bytes
        self._metrics.connected(up=True)
        logger().info("connected", broker=f"{self._settings.broker_host}:{self._settings.broker_port}")

    def _has_served(self) -> bool:
        # Looking and connecting may take their time too, and prove nothing.
        return self._served_since is not None and time.monotonic() - self._served_since >= SERVED_S

    def _note_loss(self, problem: str) -> None:
        if problem != self._runtime.broker_problem:
            logger().warning("broker_unreachable", reason=problem)
        self._session = None
        self._runtime.broker_problem = problem
        self._metrics.connected(up=False)
