"""A peer that misbehaves on demand: an MQTT server that does what a test tells it, packet by packet.

It talks TLS where the daemons of the tests do, or where a test says so.
"""

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import mqtt5

from setpointd.broker.mqtt import Client
from setpointd.packets import packet_bytes
from tests.brokers import KEY, make_certificate
from tests.daemon import TLS
from tests.waiting import DEADLINE_S

P = TypeVar("P", bound=mqtt5.Packet)

NOW = 1_800_000_000.0


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *packets: mqtt5.Packet | bytes) -> None:
        """Send packets, or bytes that may be none, at once."""
        self._writer.write(b"".join(p if isinstance(p, bytes) else p.write() for p in packets))

    async def drain(self) -> None:
        """Wait until the client has taken most of what was sent."""
        await self._writer.drain()

    async def receive(self, kind: type[P]) -> P:
        """Wait for the next packet, pings aside, which must be of one kind."""
        while True:
            async with asyncio.timeout(DEADLINE_S):
                data = await self._reader.readexactly(2)
                while len(data) < (size := packet_bytes(data)):
                    data += await self._reader.readexactly(1 if size == len(data) + 1 else size - len(data))
            packet, _ = mqtt5.read(memoryview(data))
            if not isinstance(packet, mqtt5.PingReqPacket) or isinstance(packet, kind):
                assert isinstance(packet, kind), packet
                return packet

    async def accept(self, answer: mqtt5.ConnAckPacket | None = None) -> mqtt5.ConnectPacket:
        """Take the CONNECT and answer it."""
        connect = await self.receive(mqtt5.ConnectPacket)
        self.send(answer or mqtt5.ConnAckPacket())
        return connect

    async def answer_pings(self) -> None:
        """Answer pings for as long as the connection lasts, and leave everything else unanswered."""
        while data := await self._reader.read(65_536):
            if data.endswith(mqtt5.PingReqPacket().write()):
                self.send(mqtt5.PingRespPacket())

    async def closed(self) -> bytes:
        """Wait for the end of the connection; what came before it."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    def close(self) -> None:
        """End the connection."""
        self._writer.close()

    def pause(self) -> None:
        """Read no more, as a process that is stopped."""
        self._reader._transport.pause_reading()  # type: ignore[attr-defined] # noqa: SLF001 - as streams do it

    @property
    def unsent(self) -> int:
        """How many bytes the client has not taken."""
        return self._writer.transport.get_write_buffer_size()


class Server:
    """Takes connections on a port of 127.0.0.1."""

    def __init__(self, port: int, peers: asyncio.Queue[Peer], context: ssl.SSLContext | None) -> None:
        self.port = port
        self.context = context
        """The TLS with which it is to be talked to; None: in clear."""
        self._peers = peers

    async def peer(self) -> Peer:
        """Wait for the next connection."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._peers.get()


@cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a server's TLS, and that of a client which trusts it."""
    with tempfile.TemporaryDirectory() as directory:
        certificate = make_certificate(Path(directory))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate, certificate.parent / KEY)
        return server, ssl.create_default_context(cafile=certificate)


@asynccontextmanager
async def serving(*, tls: bool = TLS) -> AsyncIterator[Server]:
    """Listen, and end every connection at the end."""
    own, others = tls_contexts() if tls else (None, None)
    peers: asyncio.Queue[Peer] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        peers.put_nowait(Peer(reader, writer))

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=own)
    async with listener:
        yield Server(listener.sockets[0].getsockname()[1], peers, others)
        for writer in writers:
            writer.transport.abort()


def new_client(server: Server, **options: object) -> Client:
    """Make a client for a server that names what it expects."""
    options = {"identifier": "c", "clock": lambda: NOW, "timeout": DEADLINE_S, **options}
    return Client("127.0.0.1", server.port, ssl_context=server.context, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def connected(
    answer: mqtt5.ConnAckPacket | None = None,
    *,
    tls: bool = TLS,
    **options: object,
) -> AsyncIterator[tuple[Client, Peer]]:
    """Connect a client to a peer, which answers its CONNECT."""
    async with serving(tls=tls) as server:
        client = new_client(server, **options)
        entering = asyncio.create_task(client.__aenter__())
        peer = await server.peer()
        await peer.accept(answer)
        await entering
        try:
            yield client, peer
        finally:
            peer.close()
            await client.disconnect()


def message(number: int = 0, *, qos: int = 1, payload: bytes = b"hello") -> mqtt5.PublishPacket:
    """Make a PUBLISH of a server; at QoS 1 its packet id is one more than its number."""
    packet_id = number + 1 if qos else None
    return mqtt5.PublishPacket(f"t/{number}", payload, qos=list(mqtt5_qos())[qos], packet_id=packet_id)


def mqtt5_qos() -> tuple[mqtt5.QoS, ...]:
    """List the levels of QoS by their number."""
    return (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE, mqtt5.QoS.EXACTLY_ONCE)


async def loss(client: Client) -> str:
    """Wait for the end of a connection, and return why it was lost."""
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait([client.ended])
    return str(client.ended.exception())
