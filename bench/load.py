"""The load: a connection that keeps a number of commands in flight and times them.

Rules:

- Nothing is made while the clock runs: commands come signed, as whole packets.
- The client must not be the bottleneck, so it is no MQTT library but the few packets of MQTT 5 that it needs, on one
  blocking socket with TCP_NODELAY.
- A command is done when a message arrives on the topic that it waits for. Everything is QoS 1, both ways.
"""

import gc
import math
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

TIMEOUT_S = 20.0
_PACKET_IDS = 65_535
_MAX_READ = 262_144
_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK = 0x10, 0x20, 0x30, 0x40, 0x80, 0x90
_PINGREQ, _PINGRESP = b"\xc0\x00", 0xD0
_FAILURE = 0x80  # reason codes from here on are failures (MQTT 5, section 2.4)
_QOS_1 = 0x02  # in the flags of PUBLISH; also the fixed flags of SUBSCRIBE
_QOS_1_NOTHING_RETAINED = 0x21  # subscription options: QoS 1, Retain Handling 2


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
        self._buffer = bytearray()
        # Clean start, no keep-alive, no properties.
        self._exchange(_packet(_CONNECT, _text("MQTT") + b"\x05\x02\x00\x00\x00" + _text(client_id)), _CONNACK)
        wanted = b"".join(_text(topic) + bytes([_QOS_1_NOTHING_RETAINED]) for topic in filters)
        self._exchange(_packet(_SUBSCRIBE | _QOS_1, b"\x00\x01\x00" + wanted), _SUBACK)

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
        self._take_in_the_rest()
        gc.collect()
        gc.disable()
        try:
            return self._drive(iter(commands), in_flight, seconds)
        except TimeoutError:
            raise LoadError(f"no answer for {TIMEOUT_S:.0f} s") from None
        finally:
            gc.enable()

    def _take_in_the_rest(self) -> None:
        """Acknowledge what is still on its way from earlier commands, so that it is not taken for an answer to these.

        The broker sends it before the answer to a ping, but holds some back until what it sent is acknowledged: so on
        until a ping brings nothing more.
        """
        published = None
        while published != []:
            published = []
            kinds: set[int] = set()
            self._socket.sendall(_PINGREQ)
            while _PINGRESP not in kinds:
                packets = self._receive()
                kinds = {first & 0xF0 for first, _ in packets}
                published += [_message(body) for first, body in packets if first & 0xF0 == _PUBLISH]
            self._socket.sendall(b"".join(_puback(packet_id) for packet_id, _, _ in published))

    def _drive(self, commands: Iterator[Command], in_flight: int, seconds: float) -> Run:
        latencies: list[float] = []
        cpu, started = time.process_time(), time.perf_counter()
        first = list(islice(commands, in_flight))
        waiting = {command.awaits: (started, command.expects) for command in first}
        self._socket.sendall(b"".join(command.packet for command in first))
        now = started
        while waiting:
            out = bytearray()
            for packet_id, topic, payload in self._messages():
                out += _puback(packet_id)
                since, expects = waiting.pop(topic, (None, b""))
                if since is None:
                    continue
                now = time.perf_counter()
                if expects not in payload:
                    raise LoadError(f"{topic.decode()}: {payload.decode(errors='replace')}")
                latencies.append(now - since)
                if now - started < seconds and (command := next(commands, None)):
                    out += command.packet
                    waiting[command.awaits] = (time.perf_counter(), command.expects)
            self._socket.sendall(out)
        return Run(latencies, now - started, time.process_time() - cpu)

    def _messages(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Wait for data; the packet id, topic and payload of each message in it."""
        for first, body in self._receive():
            kind = first & 0xF0
            if kind == _PUBLISH:
                yield _message(body)
            elif kind != _PUBACK or body[2:3] >= bytes([_FAILURE]):
                raise LoadError(f"the broker refuses (packet {first:#04x}, {body.hex()})")

    def _exchange(self, packet: bytes, answer: int) -> None:
        self._socket.sendall(packet)
        [(first, body)] = self._receive()
        reason = body[1] if answer == _CONNACK else body[-1]
        if first != answer or reason >= _FAILURE:
            raise LoadError(f"the broker refuses (packet {first:#04x}, {body.hex()})")

    def _receive(self) -> list[tuple[int, bytes]]:
        """Wait for data and return the packets that are whole: first byte and body."""
        found: list[tuple[int, bytes]] = []
        while not found:
            data = self._socket.recv(_MAX_READ)
            if not data:
                raise LoadError("the broker closed the connection")
            self._buffer += data
            at = 0
            while (packet := _split(self._buffer, at)) is not None:
                first, body, at = packet
                found.append((first, body))
            del self._buffer[:at]
        return found


def _split(data: bytearray, at: int) -> tuple[int, bytes, int] | None:
    """The packet that begins there, and where it ends; None when it is not all there yet."""
    try:
        length, start = _varint(data, at + 1)
    except IndexError:
        return None
    end = start + length
    return None if end > len(data) else (data[at], bytes(data[start:end]), end)


def _message(body: bytes) -> tuple[bytes, bytes, bytes]:
    """The packet id, topic and payload of a PUBLISH; its properties are of no interest."""
    end = 2 + int.from_bytes(body[:2])
    length, start = _varint(body, end + 2)
    return body[end : end + 2], body[2:end], body[start + length :]


def _puback(packet_id: bytes) -> bytes:
    return bytes([_PUBACK, len(packet_id)]) + packet_id


def _varint(data: Sequence[int], at: int) -> tuple[int, int]:
    """A variable byte integer (MQTT 5, section 1.5.5), and where it ends."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1


def _packet(first: int, body: bytes) -> bytes:
    length, rest = bytearray(), len(body)
    while rest > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes([first]) + length + body


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2) + data


def publish_packet(number: int, topic: str, payload: str) -> bytes:
    """A PUBLISH; ``number`` counts the messages of a connection."""
    packet_id = (number % _PACKET_IDS + 1).to_bytes(2)
    return _packet(_PUBLISH | _QOS_1, _text(topic) + packet_id + b"\x00" + payload.encode())


def packet_of_qos_0(topic: str, payload: str) -> bytes:
    """A PUBLISH that nobody acknowledges."""
    return _packet(_PUBLISH, _text(topic) + b"\x00" + payload.encode())
