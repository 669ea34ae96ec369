"""What a connected daemon does beside answering: it announces itself, publishes what was committed, and mends.

Rules:

- On the topics that are the daemon's own, nobody else is believed without a signature of its key; what somebody else
  publishes there is replaced by what the store has, at most once a second.
- Who asks for a proof of life gets the health document anew, at most once a second (wire section 7).
- Only the active daemon does any of this but the proof of life.
- What instances report is taken note of at QoS 0, and comes again at every connect; it decides nothing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Literal

from setpoint_contracts import Topics
from setpoint_contracts.timestamps import rfc3339
from setpointd.applied import AppliedReports
from setpointd.broker.announcements import Announcements
from setpointd.broker.modes import Modes
from setpointd.broker.outbox import Outbox
from setpointd.broker.position import Position
from setpointd.broker.session import Session
from setpointd.broker.sight import Published
from setpointd.errors import BrokerLostError, OperatorError, PublishRefusedError, SetpointdError, StoreError
from setpointd.keys import Keys
from setpointd.log import logger
from setpointd.messages import Inbound, Outbound
from setpointd.packets import ENVELOPE_BYTES
from setpointd.records import DocumentKind, Identity, Stamp
from setpointd.store import Snapshot, Store, Tx

HealthEvent = Literal["online", "mode"]
Found = Mapping[str, Published]

DRAIN_S = 5.0
FAREWELL_S = 2.0
EVERY_S = 1.0
# Some milliseconds each.
CHECKED_AT_ONCE = 20
ANNOUNCED_AT_ONCE = 500
MAX_SPOILT = 1000


class Duties:
    """The daemon's duties on a connection. ``clock`` gives POSIX seconds."""

    def __init__(  # noqa: PLR0913 - whatever is said or heard beside commands
        self,
        *,
        topics: Topics,
        store: Store,
        keys: Keys,
        position: Position,
        announcements: Announcements,
        modes: Modes,
        outbox: Outbox,
        applied: AppliedReports,
        clock: Callable[[], float],
    ) -> None:
        self._topics = topics
        self._store = store
        self._keys = keys
        self._position = position
        self._announcements = announcements
        self._modes = modes
        self._outbox = outbox
        self._applied = applied
        self._clock = clock
        self._session: Session
        self._unchecked: Found | None = None
        self._claimed: Identity | None = None
        self._event: HealthEvent = "online"
        self._spoilt: set[str] = set()
        self._health_due = asyncio.Event()
        self._claim_due = asyncio.Event()
        self._keys_due = asyncio.Event()
        self._mend_due = asyncio.Event()
        self._check_due = asyncio.Event()
        store.on_commit.append(lambda _jobs, _seconds: self._claim_due.set())
        modes.on_change.append(self._mode_changed)

    async def greet(self, session: Session) -> None:
        """Say who is here before anything else: another daemon may be looking right now."""
        own = await self._position.identity()
        self._event = "online"
        self._health_due.clear()
        session.publish(self._announcements.health(own, ok=True, event="online"))
        if self._modes.active.is_set():
            session.publish(self._announcements.claim(own))

    async def subscribe(self, session: Session) -> None:
        """Subscribe to the commands, and to what others may publish on the daemon's own topics."""
        topics = self._topics
        self._unchecked = None
        await session.subscribe([topics.commands])
        own = [topics.health, topics.epoch, topics.keys, topics.all_updated, topics.all_schemas, topics.look_ask]
        # At QoS 0, so that while the daemon is away nobody can fill the commands' queue with these.
        await session.subscribe(own, qos=0, no_local=True)

    def concern(self, topic: str) -> bool:
        """Whether a message on a topic is for ``hear``, and no command."""
        return not topic.startswith(self._topics.command(""))

    async def hear(self, message: Inbound) -> None:
        """Take note of what somebody else published on one of the daemon's own topics, or reports that it runs."""
        if message.topic == self._topics.look_ask:
            self._health_due.set()
            return
        if self._topics.applied_by(message.topic) is not None:
            with contextlib.suppress(StoreError):  # logged where it happened
                await self._store.read(partial(self._hear_applied, message))
            return
        with contextlib.suppress(StoreError):  # logged where it happened
            await self._position.hear(message.topic, message)
        if message.topic == self._topics.health:
            if self._modes.active.is_set():
                self._health_due.set()
        else:
            self._spoil(message.topic)

    def _hear_applied(self, message: Inbound, snapshot: Snapshot) -> None:
        self._applied.hear(message.topic, message.payload, lambda service: snapshot.config.newest(service) is not None)

    async def run(self, session: Session) -> None:
        """Do all that is due, until cancelled."""
        self._session = session
        self._claimed = None
        for due in (self._claim_due, self._keys_due, self._check_due):
            due.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._outbox.run(session.publish, self._modes.active), name="outbox")
            tasks.create_task(_whenever(self._health_due, self._say_health), name="health")
            tasks.create_task(_whenever(self._claim_due, self._say_claim), name="claims")
            tasks.create_task(_whenever(self._keys_due, self._say_keys), name="keys")
            tasks.create_task(_whenever(self._mend_due, self._mend), name="mending")
            tasks.create_task(_whenever(self._check_due, self._check), name="checking")
            tasks.create_task(self._follow_applied(), name="applied")

    async def _follow_applied(self) -> None:
        """Ask for all reports that are retained, and those to come, once messages are being served.

        Before, only so many of QoS 0 would wait. The broker may refuse it: then nothing is known.
        """
        self._applied.forget()
        try:
            await self._session.subscribe([self._topics.all_applied], qos=0, retained=True)
        except BrokerLostError as error:
            logger().warning("applied_unheard", reason=error.args[0])

    async def last_word(self) -> Outbound:
        """Make the health document of a daemon that is gone: its Last Will, and its farewell."""
        return self._announcements.health(await self._position.identity(), ok=False, event="offline")

    async def farewell(self, session: Session) -> None:
        """Publish what is committed, and how far that is, then say that the daemon ends; all in bounded time."""
        if self._modes.active.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._outbox.settled()
        with contextlib.suppress(TimeoutError, SetpointdError):
            async with asyncio.timeout(FAREWELL_S):
                if self._modes.active.is_set():
                    await self._say_claim()
                await session.publish(await self.last_word())

    def _mode_changed(self) -> None:
        self._event = "mode"
        for due in (self._health_due, self._claim_due, self._keys_due, self._check_due):
            due.set()

    async def _say_health(self) -> None:
        event, self._event = self._event, "online"
        own = await self._position.identity()
        await self._session.publish(self._announcements.health(own, ok=True, event=event), urgent=True)

    async def _say_claim(self) -> None:
        await self._modes.active.wait()
        own = await self._position.identity()
        if self._claimed is not None and own.epoch != self._claimed.epoch:
            self._health_due.set()  # it names the epoch too
        if own != self._claimed:
            await self._session.publish(self._announcements.claim(own))
            self._claimed = own

    async def _say_keys(self) -> None:
        await self._modes.active.wait()
        await self._session.publish(self._announcements.keys())

    def _spoil(self, topic: str) -> None:
        if len(self._spoilt) < MAX_SPOILT:
            self._spoilt.add(topic)
            self._mend_due.set()
        else:  # somebody spoils more than is worth remembering: look at all of it
            self._check_due.set()

    async def _mend(self) -> None:
        """Publish again what somebody else has replaced."""
        await self._modes.active.wait()
        spoilt, self._spoilt = self._spoilt, set()
        if self._topics.epoch in spoilt:
            self._claimed = None
            self._claim_due.set()
        if self._topics.keys in spoilt:
            self._keys_due.set()
        try:
            await self._announce(spoilt)
        except StoreError:
            self._spoilt |= spoilt
            raise

    async def compare(self, retained: Found, current: Mapping[str, bytes], max_packet_bytes: int | None) -> None:
        """Have every retained document published (or cleared) whose payload is not what the store has.

        And every one that may be larger than this broker takes, so that it is told of. ``current`` is what the store
        had a moment ago, by topic: what has changed since is in the outbox.
        """
        there = {topic: said for topic, said in retained.items() if self._of_service(topic) is not None}
        same = {topic for topic, said in there.items() if said.payload == current.get(topic)}
        self._unchecked = {topic: there[topic] for topic in same}
        large = {
            topic
            for topic, payload in current.items()
            if max_packet_bytes is not None and len(payload) + ENVELOPE_BYTES > max_packet_bytes
        }
        await self._announce(((there.keys() | current.keys()) - same) | large)

    async def _check(self) -> None:
        """Have every retained document published again that has lost the daemon's signature, a few at a time.

        A daemon that has become the writer while it was connected looks and compares first.
        """
        await self._modes.active.wait()
        if self._unchecked is None:
            retained = await self._position.look()
            await self.compare(retained, await self._position.retainable(retained), self._session.max_packet_bytes)
        unchecked, self._unchecked = self._unchecked or {}, None
        for number, (topic, said) in enumerate(unchecked.items()):
            if not (said.jws and self._keys.made(topic, said.payload, said.jws)):
                self._position.disbelieve(topic)
                self._spoil(topic)
            if number % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _announce(self, topics: Iterable[str]) -> None:
        """Have the state of services and their schemas published, some at a time: no write holds up others for long."""
        due = sorted(found for topic in topics if (found := self._of_service(topic)) is not None)
        if due:
            services = sum(kind == "updated" for kind, _ in due)
            logger().info("repairing", services=services, schemas=len(due) - services)
        for start in range(0, len(due), ANNOUNCED_AT_ONCE):
            some = due[start : start + ANNOUNCED_AT_ONCE]
            await self._store.write(Stamp(rfc3339(self._clock()), None), partial(_announce, some))

    def _of_service(self, topic: str) -> tuple[DocumentKind, str] | None:
        """Say what of which service is retained on a topic; None: it is no service's."""
        if (service := self._topics.updated_service(topic)) is not None:
            return "updated", service
        if (service := self._topics.schema_service(topic)) is not None:
            return "schema", service
        return None


async def _whenever(due: asyncio.Event, do: Callable[[], Awaitable[None]]) -> None:
    """Do something whenever it is due, at most once a second, until cancelled; what fails is tried again."""
    while True:
        await due.wait()
        due.clear()
        try:
            await do()
        except (BrokerLostError, OperatorError, PublishRefusedError, StoreError):  # logged where it happened
            due.set()
        await asyncio.sleep(EVERY_S)


def _announce(due: list[tuple[DocumentKind, str]], tx: Tx) -> None:
    for kind, service in due:
        tx.outbox.add_document(kind, service)
