"""A TCP proxy between a daemon or a client and its broker, which can cut connections, or let them hang half open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.brokers import Broker, free_port
from tests.daemon import Daemon


class Proxy:
    """Passes bytes on in both directions."""

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self._target = (host, port)
        self._writers: list[asyncio.StreamWriter] = []
        self._serving: list[asyncio.Task[None]] = []
        self._hanging: list[asyncio.Event] = []
        self._passing = asyncio.Event()
        self._passing.set()
        self.held = 0
        """How many bytes it has and does not pass on, of all connections that ever hung."""

    def cut(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        for hanging in self._hanging:
            hanging.set()

    def hang(self) -> None:
        """Pass nothing on any more, and keep every connection open: neither side is told."""
        self._passing.clear()

    def mend(self) -> None:
        """Serve new connections; those that hang do so until they are cut."""
        self._hanging.append(self._passing)
        self._passing = asyncio.Event()
        self._passing.set()

    async def ended(self) -> None:
        """Wait for the end of all connections."""
        await asyncio.gather(*self._serving)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._serving.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing = self._passing
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._writers += [writer, far_writer]
            await asyncio.gather(
                self._pass_on(reader, far_writer, passing),
                self._pass_on(far_reader, writer, passing),
            )

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if not passing.is_set():
                    self.held += len(data)
                await passing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxied_to(host: str, port: int) -> AsyncIterator[Proxy]:
    """Put a proxy before a broker; in the end it is cut."""
    proxy = Proxy(host, port)
    server = await asyncio.start_server(proxy.serve, host, proxy.port)
    try:
        yield proxy
    finally:
        server.close()
        proxy.mend()
        proxy.cut()
        await proxy.ended()


@asynccontextmanager
async def proxied(broker: Broker, daemon: Daemon) -> AsyncIterator[Proxy]:
    """Put a proxy between a daemon that is to be started and its broker."""
    port = broker.tls_port if str(daemon.settings["broker"]).startswith("mqtts:") else broker.port
    async with proxied_to(broker.host, port) as proxy:
        daemon.settings["broker"] = str(daemon.settings["broker"]).replace(str(port), str(proxy.port))
        yield proxy
