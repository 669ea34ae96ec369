"""Publishes at QoS 1 from when they are made until their PUBACK: packet ids, and the broker's Receive Maximum."""

from collections import deque
from collections.abc import Callable, Container

from setpointd.broker import confirmation
from setpointd.errors import BrokerLostError, PublishRefusedError
from setpointd.log import logger

_PACKET_IDS = 65_535


class Publish:
    """A publish without its PUBACK: ``packet`` until it is sent; ``sent_at`` from then on, a number of ticks."""

    __slots__ = ("confirmed", "packet", "sent_at", "topic")

    def __init__(self, topic: str, packet: bytes) -> None:
        self.topic = topic
        self.packet: bytes | None = packet
        self.confirmed = confirmation.awaited()
        self.sent_at = 0

    def refuse(self, error: PublishRefusedError) -> None:
        """Fail it alone, and say so: what the broker does not take, its publisher may not be looking for."""
        logger().warning("publish_refused", topic=self.topic, reason=str(error.args[0]))
        confirmation.fail(self.confirmed, error)


class Flight:
    """The publishes of one connection. At most ``receive_max`` are sent and not confirmed; the others wait in order."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._last_id = 0
        self._unconfirmed: dict[int, Publish] = {}
        self._waiting: deque[Publish] = deque()
        self._urgent: deque[Publish] = deque()
        self.waiting_bytes = 0
        self.receive_max = 0
        self.ticks = 0
        """The time, as its keeper counts it."""

    def __len__(self) -> int:
        return len(self._unconfirmed)

    @property
    def age(self) -> int:
        """For how many ticks the oldest that was sent has been waiting for its PUBACK."""
        oldest = next((publish for publish in self._unconfirmed.values() if publish.packet is None), None)
        return 0 if oldest is None else self.ticks - oldest.sent_at

    def free_id(self, also_in_use: Container[int] = ()) -> int:
        """Return a packet id that is not in use (MQTT 5, section 2.2.1); raises ``BrokerLostError`` when all are."""
        for _ in range(_PACKET_IDS):
            self._last_id = self._last_id % _PACKET_IDS + 1
            if self._last_id not in self._unconfirmed and self._last_id not in also_in_use:
                return self._last_id
        raise BrokerLostError("the broker confirms none of 65,535 messages")

    def add(self, packet_id: int, publish: Publish, size: int, *, urgent: bool = False) -> None:
        """Send a publish of so many bytes as soon as it may be sent; an urgent one before all that are not."""
        self._unconfirmed[packet_id] = publish
        (self._urgent if urgent else self._waiting).append(publish)
        self.waiting_bytes += size
        self.go_on()

    def land(self, packet_id: int) -> Publish | None:
        """Take out what a PUBACK is for; None: it is for nothing that was sent."""
        publish = self._unconfirmed.get(packet_id)
        if publish is None or publish.packet is not None:
            return None
        return self._unconfirmed.pop(packet_id)

    def go_on(self) -> None:
        """Send what waits, as far as the broker's Receive Maximum allows."""
        while (waiting := self._urgent or self._waiting) and self._sent < self.receive_max:
            publish = waiting.popleft()
            packet, publish.packet, publish.sent_at = publish.packet, None, self.ticks
            if packet is not None:
                self.waiting_bytes -= len(packet)
                self._send(packet)

    @property
    def _sent(self) -> int:
        return len(self._unconfirmed) - len(self._waiting) - len(self._urgent)

    def lose(self, reason: str) -> None:
        """Give up all: ``BrokerLostError``."""
        for publish in self._unconfirmed.values():
            confirmation.fail(publish.confirmed, BrokerLostError(reason))
        self._unconfirmed.clear()
        self._waiting.clear()
        self._urgent.clear()
        self.waiting_bytes = 0
