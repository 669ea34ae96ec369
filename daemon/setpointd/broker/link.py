"""A TCP or TLS connection that carries bytes, with back pressure both ways. It knows nothing of MQTT.

Rules:

- Nothing is read while the application has enough (``pause``), or while the other side does not take what we write.
- What is written in one turn of the event loop goes out together.
"""

import asyncio
import ssl
from typing import cast

from typing_extensions import override

_CLOSE_TIMEOUT_S = 1.0


class Link(asyncio.Protocol):
    """One connection. Whoever inherits it takes the bytes in ``data_received``, and knows the end in ``ended_by``."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._paused = False
        self._blocked = False
        self._out: list[bytes] = []
        self._written = 0

    async def open(self, hostname: str, port: int, context: ssl.SSLContext | None) -> None:
        """Connect; raises ``OSError``, of which those of TLS are some."""
        # asyncio sets TCP_NODELAY: without, Nagle's algorithm and delayed ACKs cost 40 ms and more per round trip.
        await self._loop.create_connection(lambda: self, hostname, port, ssl=context)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that takes something to write."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def held_back(self) -> bool:
        """Whether nothing is to be read."""
        return self._paused or self._blocked

    @property
    def deaf(self) -> bool:
        """Whether nothing is read because the application has enough."""
        return self._paused and not self._blocked

    @property
    def unwritten_bytes(self) -> int:
        """How many bytes the other side has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def taken_while_blocked(self) -> int | None:
        """How many bytes the other side has taken since the beginning, while it does not take them all; else None."""
        return self._written - self.unwritten_bytes if self._blocked else None

    def pause(self) -> None:
        """Read no more: TCP holds the other side back. May be called again."""
        if not self._paused:
            self._paused = True
            self._follow()

    def resume(self) -> None:
        """Go on reading; may be called again."""
        if self._paused:
            self._paused = False
            self._follow()

    def write(self, data: bytes) -> None:
        """Write at the end of this turn of the event loop; nothing happens when the connection is gone."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def close(self) -> None:
        """Close when all that was written is gone."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until it is closed; a connection that cannot get rid of what it has to write is aborted."""
        if self._transport is not None:
            await asyncio.wait([self._closed], timeout=_CLOSE_TIMEOUT_S)
            self._transport.abort()

    def read_on(self) -> None:
        """Take what was read already when the pause began, and is not done with."""

    def ended_by(self, error: Exception | None) -> None:
        """Take note of the end; ``error`` is what broke the connection, None: the other side closed it, or we did."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.ended_by(exc)
        if not self._closed.done():
            self._closed.set_result(None)

    @override
    def pause_writing(self) -> None:
        self._blocked = True
        self._follow()

    @override
    def resume_writing(self) -> None:
        self._blocked = False
        self._follow()

    def _follow(self) -> None:
        if self._transport is None:
            return
        if not self.held_back:
            self.read_on()  # after which it may be held back again
        if self.held_back:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _flush(self) -> None:
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        if data and self._transport is not None and self.is_open:
            self._written += len(data)
            self._transport.write(data)
