"""etcd without a client library: requests of its gRPC as frames of HTTP/2 that are made before the clock starts.

The counterpart of load.py, with the same rules. It speaks just as much HTTP/2 (RFC 9113) as that takes: every request
has the same headers, written without HPACK's table (RFC 7541, 6.2.2); of an answer only its frames are looked at. A
stream that ends without a message was refused.
"""

import gc
import math
import socket
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Self

from load import TIMEOUT_S, LoadError, Run

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_HEAD_BYTES = 9
_MAX_READ = 262_144
_INITIAL_WINDOW_SIZE = b"\x00\x04" + (2**31 - 1).to_bytes(4)
_MORE_WINDOW = (2**31 - 65_536).to_bytes(4)  # on top of the 65,535 that a connection begins with
_STREAMS = 2**31 // 2


def put(key: bytes, value: bytes) -> tuple[str, bytes]:
    """The method and the message of a put (etcd's rpc.proto, PutRequest)."""
    return "/etcdserverpb.KV/Put", _field(1, key) + _field(2, value)


def get(key: bytes) -> tuple[str, bytes]:
    """The method and the message of a get of one key (RangeRequest)."""
    return "/etcdserverpb.KV/Range", _field(1, key)


class EtcdConnection:
    """A connection to etcd on a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._authority = f"127.0.0.1:{port}"
        self._rest = b""
        self._streams = iter(range(1, _STREAMS, 2))
        settings = _frame(_SETTINGS, 0, 0, _INITIAL_WINDOW_SIZE)
        self._socket.sendall(_PREFACE + settings + _frame(_WINDOW_UPDATE, 0, 0, _MORE_WINDOW))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def requests(self, messages: Sequence[tuple[str, bytes]]) -> list[tuple[int, bytes]]:
        """Make requests, each the number of its stream and its frames; they must be sent in this order."""
        made = []
        for path, message in messages:
            stream = next(self._streams)
            headers = _frame(_HEADERS, _END_HEADERS, stream, _headers(path, self._authority))
            body = b"\x00" + len(message).to_bytes(4) + message  # gRPC's prefix: not compressed, length
            made.append((stream, headers + _frame(_DATA, _END_STREAM, stream, body)))
        return made

    def drive(self, requests: Sequence[tuple[int, bytes]], in_flight: int, seconds: float = math.inf) -> Run:
        """Send requests, as ``load.Connection.drive`` does commands."""
        gc.collect()
        gc.disable()
        try:
            return self._drive(iter(requests), in_flight, seconds)
        except TimeoutError:
            raise LoadError(f"etcd did not answer for {TIMEOUT_S:.0f} s") from None
        finally:
            gc.enable()

    def _drive(self, requests: Iterator[tuple[int, bytes]], in_flight: int, seconds: float) -> Run:
        latencies: list[float] = []
        cpu, started = time.process_time(), time.perf_counter()
        first = list(islice(requests, in_flight))
        waiting = {stream: started for stream, _ in first}
        self._socket.sendall(b"".join(frames for _, frames in first))
        now, answered = started, set[int]()
        while waiting:
            out = []
            for kind, flags, stream, body in self._receive():
                if kind == _DATA:
                    answered.add(stream)
                elif kind == _HEADERS and flags & _END_STREAM:
                    if stream not in answered:
                        raise LoadError("etcd refuses a request")
                    now = time.perf_counter()
                    latencies.append(now - waiting.pop(stream))
                    if now - started < seconds and (following := next(requests, None)):
                        waiting[following[0]] = now
                        out.append(following[1])
                else:
                    out.append(_manners(kind, flags, body))
            self._socket.sendall(b"".join(out))
        return Run(latencies, now - started, time.process_time() - cpu)

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        """Wait for data and return the frames that are whole: type, flags, stream and payload."""
        found: list[tuple[int, int, int, bytes]] = []
        while not found:
            data = self._socket.recv(_MAX_READ)
            if not data:
                raise LoadError("etcd closed the connection")
            data = self._rest + data
            at = 0
            while at + _HEAD_BYTES <= len(data):
                end = at + _HEAD_BYTES + int.from_bytes(data[at : at + 3])
                if end > len(data):
                    break
                stream = int.from_bytes(data[at + 5 : at + 9])
                found.append((data[at + 3], data[at + 4], stream, data[at + 9 : end]))
                at = end
            self._rest = data[at:]
        return found


def _manners(kind: int, flags: int, body: bytes) -> bytes:
    """What the other side has to be answered."""
    if kind in {_RST_STREAM, _GOAWAY}:
        raise LoadError("etcd ends a stream or the connection")
    return _frame(kind, _ACK, 0, body if kind == _PING else b"") if _asks(kind, flags) else b""


def _asks(kind: int, flags: int) -> bool:
    return kind in {_SETTINGS, _PING} and not flags & _ACK


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


def _headers(path: str, authority: str) -> bytes:
    """The header block; 0x83 and 0x86 are ``:method: POST`` and ``:scheme: http`` (RFC 7541, appendix A)."""
    return (
        b"\x83\x86\x04"
        + _string(path)
        + b"\x01"
        + _string(authority)
        + b"\x0f\x10"
        + _string("application/grpc")
        + b"\x00"
        + _string("te")
        + _string("trailers")
    )


def _string(text: str) -> bytes:
    """A string of less than 127 bytes, without Huffman coding (RFC 7541, 5.2)."""
    return bytes([len(text)]) + text.encode()


def _field(number: int, value: bytes) -> bytes:
    """A bytes field of a protobuf message."""
    length, rest = bytearray(), len(value)
    while rest > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([number << 3 | 2, *length, rest]) + value
