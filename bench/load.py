"""The load: a connection that keeps a number of commands in flight, or sends them at a steady pace, and times them.

Rules:

- Nothing is made while the clock runs: commands come signed, as whole packets.
- The client must not be the bottleneck: packets are read by ``mqtt5``, a codec in Rust, from one blocking socket with
  TCP_NODELAY. No event loop stands between.
- A command is done when a message arrives on the topic that it waits for. Everything is QoS 1, both ways.
"""

import gc
import math
import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

from mqtt5 import (
    ConnAckPacket,
    ConnectPacket,
    Packet,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    PublishPacket,
    QoS,
    RetainHandling,
    SubAckPacket,
    SubscribePacket,
    TopicFilter,
    read,
)

TIMEOUT_S = 20.0
_SILENT = f"no answer for {TIMEOUT_S:.0f} s"
_PACKET_IDS = 65_535
_MAX_READ = 262_144
_FAILURE = 0x80  # reason codes from here on are failures (MQTT 5, section 2.4)


class LoadError(Exception):
    """The load could not be put through; the message says at what."""


@dataclass(frozen=True, slots=True)
class Command:
    """A PUBLISH packet, and the topic of the message that says that it is done; ``expects`` is in its payload."""

    packet: bytes
    awaits: bytes
    expects: bytes = b""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a load: how long each command took, in the order of their ends, and how long all of it; seconds."""

    latencies_s: list[float]
    elapsed_s: float
    client_cpu_s: float

    @property
    def rate(self) -> float:
        """Commands per second."""
        return len(self.latencies_s) / self.elapsed_s

    def percentile_ms(self, percent: int, skip: int = 0) -> float:
        """The latency that ``percent`` of the commands do not exceed (nearest rank), without the first ``skip``."""
        ordered = sorted(self.latencies_s[skip:])
        return ordered[math.ceil(len(ordered) * percent / 100) - 1] * 1000


class Connection:
    """A connection to the broker on a port of 127.0.0.1, subscribed to some filters."""

    def __init__(self, port: int, filters: Iterable[str], client_id: str = "setpoint-bench") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        connected = self._exchange(ConnectPacket(client_id, clean_start=True).write())
        if not isinstance(connected, ConnAckPacket) or connected.reason_code.value >= _FAILURE:
            raise LoadError(f"the broker refuses the connection: {connected}")
        wanted = [
            TopicFilter(topic, max_qos=QoS.AT_LEAST_ONCE, retain_handling=RetainHandling.SEND_NEVER)
            for topic in filters
        ]
        subscribed = self._exchange(SubscribePacket(1, wanted).write())
        if not isinstance(subscribed, SubAckPacket) or any(code.value >= _FAILURE for code in subscribed.reason_codes):
            raise LoadError(f"the broker refuses a subscription: {subscribed}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, packets: bytes) -> None:
        """Send packets that nothing comes back for."""
        self._socket.sendall(packets)

    def drive(self, commands: Sequence[Command], in_flight: int, seconds: float = math.inf) -> Run:
        """Send commands, ``in_flight`` at a time, until all are done or no more are begun because time is up.

        Raises ``LoadError`` for an answer that is not as expected, or none.
        """
        with _Timing(self):
            return self._drive(iter(commands), in_flight, seconds)

    def pace(self, commands: Sequence[Command], per_s: float) -> Run:
        """Send so many commands a second, whatever comes back; each is timed from when it was due. Raises likewise."""
        with _Timing(self):
            return self._pace(commands, per_s)

    def queue(self, commands: Sequence[Command]) -> None:
        """Publish commands that nobody answers yet, and wait until the broker has taken them."""
        self.take_in_the_rest()
        for start in range(0, len(commands), 100):
            batch = commands[start : start + 100]
            self._socket.sendall(b"".join(command.packet for command in batch))
            taken = 0
            while taken < len(batch):
                taken += sum(isinstance(packet, PubAckPacket) for packet in self._receive())

    def collect(self, commands: Sequence[Command], since: float) -> Run:
        """Take the answers to what was queued; each is timed from ``since``, as ``time.perf_counter`` has it."""
        waiting = {command.awaits.decode(): (since, command.expects) for command in commands}
        latencies: list[float] = []
        cpu = time.process_time()
        try:
            while waiting:
                self._socket.sendall(self._answers(waiting, latencies))
        except TimeoutError:
            raise LoadError(f"{_SILENT}; {len(waiting)} of {len(commands)} are not answered") from None
        return Run(latencies, time.perf_counter() - since, time.process_time() - cpu)

    def take_in_the_rest(self) -> None:
        """Acknowledge what is still on its way from earlier commands, so that it is not taken for an answer to others.

        The broker sends it before the answer to a ping, but holds some back until what it sent is acknowledged: so on
        until a ping brings nothing more.
        """
        more = True
        while more:
            more = ponged = False
            self._socket.sendall(PingReqPacket().write())
            out: list[bytes] = []
            while not ponged:
                for packet in self._receive():
                    if isinstance(packet, PublishPacket):
                        more = True
                        out.append(_puback(packet))
                    ponged = ponged or isinstance(packet, PingRespPacket)
            self._socket.sendall(b"".join(out))

    def _drive(self, commands: Iterator[Command], in_flight: int, seconds: float) -> Run:
        latencies: list[float] = []
        waiting: dict[str, tuple[float, bytes]] = {}
        cpu, started = time.process_time(), time.perf_counter()
        self._socket.sendall(_begin(islice(commands, in_flight), started, waiting))
        while waiting:
            done = len(latencies)
            out = self._answers(waiting, latencies)
            now = time.perf_counter()
            if now - started < seconds:
                out += _begin(islice(commands, len(latencies) - done), now, waiting)
            self._socket.sendall(out)
        return Run(latencies, now - started, time.process_time() - cpu)

    def _pace(self, commands: Sequence[Command], per_s: float) -> Run:
        latencies: list[float] = []
        waiting: dict[str, tuple[float, bytes]] = {}
        cpu, started = time.process_time(), time.perf_counter()
        sent = 0
        while waiting or sent < len(commands):
            now = time.perf_counter()
            due = min(len(commands), int((now - started) * per_s) + 1)
            for number in range(sent, due):
                self._socket.sendall(_begin([commands[number]], started + number / per_s, waiting))
            sent = due
            pause = started + sent / per_s - time.perf_counter() if sent < len(commands) else TIMEOUT_S
            if select.select([self._socket], [], [], max(0.0, pause))[0]:
                self._socket.sendall(self._answers(waiting, latencies))
            elif sent == len(commands):
                raise TimeoutError
        return Run(latencies, time.perf_counter() - started, time.process_time() - cpu)

    def _answers(self, waiting: dict[str, tuple[float, bytes]], latencies: list[float]) -> bytes:
        """Wait for data, take the answers in it out of ``waiting``, and return what acknowledges them."""
        out: list[bytes] = []
        packets = self._receive()
        now = time.perf_counter()
        for packet in packets:
            if isinstance(packet, PublishPacket):
                out.append(_puback(packet))
                since, expects = waiting.pop(packet.topic, (None, b""))
                if since is None:
                    continue
                if expects not in packet.payload:
                    raise LoadError(f"{packet.topic}: {packet.payload.decode(errors='replace')}")
                latencies.append(now - since)
            elif not isinstance(packet, PubAckPacket) or packet.reason_code.value >= _FAILURE:
                raise LoadError(f"the broker refuses: {packet}")
        return b"".join(out)

    def _exchange(self, packet: bytes) -> Packet:
        self._socket.sendall(packet)
        return self._receive()[0]

    def _receive(self) -> list[Packet]:
        """Wait for data and return the packets that are whole."""
        found: list[Packet] = []
        while not found:
            data = self._socket.recv(_MAX_READ)
            if not data:
                raise LoadError("the broker closed the connection")
            data = self._rest + data
            view, at = memoryview(data), 0
            while at < len(data):
                try:
                    packet, size = read(view[at:])
                except IndexError:  # it is not all there yet
                    break
                found.append(packet)
                at += size
            self._rest = data[at:]
        return found


class _Timing:
    """What surrounds the timed part: nothing of before is on its way, and no garbage is collected."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.take_in_the_rest()
        gc.collect()
        gc.disable()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        gc.enable()
        if isinstance(error, TimeoutError):
            raise LoadError(_SILENT) from None


def _begin(commands: Iterable[Command], since: float, waiting: dict[str, tuple[float, bytes]]) -> bytes:
    """Have answers waited for; the packets to send."""
    packets = []
    for command in commands:
        waiting[command.awaits.decode()] = (since, command.expects)
        packets.append(command.packet)
    return b"".join(packets)


def _puback(packet: PublishPacket) -> bytes:
    return b"" if packet.packet_id is None else PubAckPacket(packet.packet_id).write()


def publish_packet(number: int, topic: str, payload: str) -> bytes:
    """A PUBLISH; ``number`` counts the messages of a connection."""
    packet_id = number % _PACKET_IDS + 1
    return PublishPacket(topic, payload.encode(), qos=QoS.AT_LEAST_ONCE, packet_id=packet_id).write()


def packet_of_qos_0(topic: str, payload: str) -> bytes:
    """A PUBLISH that nobody acknowledges."""
    return PublishPacket(topic, payload.encode()).write()
