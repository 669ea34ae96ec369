"""Which daemon is the writer: what it does with what the broker shows, and with what others say while it runs."""

from collections.abc import Callable, Mapping
from functools import partial

from setpoint_contracts import Topics
from setpoint_contracts.timestamps import rfc3339
from setpointd.allowance import Allowance
from setpointd.broker.look import Retained
from setpointd.broker.modes import Modes
from setpointd.broker.sight import Published, Sight, Spoken, listen, supersedes
from setpointd.broker.witness import Witness, retainable
from setpointd.errors import SessionTakenOverError
from setpointd.keys import Keys
from setpointd.log import logger
from setpointd.metrics import Metrics
from setpointd.records import Identity, Sighting, Stamp
from setpointd.runtime import Runtime
from setpointd.settings import Settings
from setpointd.store import Snapshot, Store, Tx


class Position:
    """Finds out what this daemon may be. ``clock`` gives POSIX seconds."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        keys: Keys,
        runtime: Runtime,
        modes: Modes,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._store = store
        self._keys = keys
        self._witness = Witness(settings, keys)
        self._topics = Topics(settings.topic_prefix)
        self._runtime = runtime
        self._modes = modes
        self._metrics = metrics
        self._clock = clock
        self._allowance = Allowance(burst=10, per_second=1.0, clock=clock)
        self._seen = Sighting()
        self._sight: Sight | None = None

    def sighting(self) -> Sighting:
        """Return the highest of this store that the broker has shown."""
        return self._seen

    async def identity(self) -> Identity:
        """Return whose store this is, and how far it is."""
        return await self._store.read(lambda snapshot: snapshot.identity.now())

    async def look(self) -> dict[str, Retained]:
        """Look at what is retained, on a throwaway connection."""
        return await self._witness.look()

    async def retainable(self, retained: Mapping[str, Published]) -> dict[str, bytes]:
        """Return what this store would have retained of its services, beside what is: topic → payload."""
        return (await self._store.read(partial(self._mine, retained)))[1]

    async def take(self, retained: Mapping[str, Published]) -> dict[str, bytes]:
        """Go by what is retained: at the start by all of it; later on, only when another daemon took over.

        Returns with what it was compared, ``retainable``. Raises ``SessionTakenOverError`` when another daemon of this
        store lives.
        """
        own, current = await self._store.read(partial(self._mine, retained))
        sight = self._sight = self._judge(retained, current, own)
        instance = self._runtime.instance
        if self._runtime.mode in {"starting", "standby"}:
            event, reason = sight.decide(await self._witness.alive(sight))
            if event == "clear":
                await self._store.write(self._stamp(), partial(_take_over, instance, self._clock()))
            elif event != "alive":
                await self._store.write(self._stamp(), lambda tx: tx.identity.remember(instance))
            self._modes.on(event, reason)
        elif (other := await self._witness.other(sight, instance)) is not None:
            # Mosquitto before 2.0.15 just closes the connection of a client whose session was taken over.
            msg = f"instance {other} has taken over the session; is a second daemon running with this client id?"
            raise SessionTakenOverError(msg)
        elif sight.superseded(instance):
            self._modes.on("superseded")
        return current

    async def wait_for_news(self) -> None:
        """Wait until there is something new of the daemon for which this one stands by."""
        if self._sight is not None:
            await self._witness.wait_for_news(self._sight)

    async def hear(self, topic: str, said: Published) -> None:
        """Take note of what somebody else published on a topic of the daemon's own, while it runs."""
        spoken = listen(topic, said, self._keys)
        if spoken is not None and await self._supersedes(topic, spoken):
            self._modes.on("superseded")
        if spoken is not None and spoken.own:
            self._remember(topic, spoken)
        if spoken is None or not spoken.own or self._runtime.mode == "active":
            self.disbelieve(topic)

    async def _supersedes(self, topic: str, spoken: Spoken) -> bool:
        return topic == self._topics.epoch and supersedes(spoken, await self.identity(), self._runtime.instance)

    def disbelieve(self, topic: str) -> None:
        """Log and count what is not believed."""
        self._metrics.disbelieved(self._topics.own(topic) or "other")
        if (suppressed := self._allowance.take()) is not None:
            logger().warning("disbelieved", topic=topic, suppressed=suppressed)

    def _judge(self, retained: Mapping[str, Published], current: Mapping[str, bytes], own: Identity) -> Sight:
        sight = Sight.make(retained, current, own, self._topics, self._keys)
        for topic in sight.disbelieved:
            self.disbelieve(topic)
        self._seen = self._seen.joined(sight.sighting())  # a broker that has forgotten does not make it unseen
        return sight

    def _mine(self, retained: Mapping[str, Published], snapshot: Snapshot) -> tuple[Identity, dict[str, bytes]]:
        return snapshot.identity.now(), retainable(snapshot, self._topics, retained)

    def _remember(self, topic: str, spoken: Spoken) -> None:
        if self._topics.own(topic) == "schema":
            return  # what its author wrote, members named epoch and revision too
        service = self._topics.updated_service(topic)
        versions = {} if service is None else {service: spoken.number("version")}
        self._seen = self._seen.joined(Sighting(spoken.number("epoch"), spoken.number("revision"), versions))

    def _stamp(self) -> Stamp:
        return Stamp(rfc3339(self._clock()), None)


def _take_over(instance: str, now: float, tx: Tx) -> None:
    tx.identity.take_over(instance, now)
