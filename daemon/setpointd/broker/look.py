"""Looking at what is retained on the broker, on a throwaway connection.

It must not touch the daemon's session: it has a client id of its own each time, and leaves nothing behind.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from setpointd.broker.mqtt import Client, PublishPacket, QoS, TopicFilter
from setpointd.broker.tls import tls_context
from setpointd.errors import BrokerLostError
from setpointd.packets import JWS
from setpointd.settings import Settings

PATIENCE_S = 10.0
KEEP_ALIVE_S = 15
_UNREADABLE = "the broker does not let the daemon read what it publishes to {}; see the acl in mosquitto/"


@dataclass(frozen=True, slots=True)
class Retained:
    """A document as it was found: its payload, and the detached signature that came with it (wire section 4)."""

    payload: bytes
    jws: str | None


async def look(
    settings: Settings, filters: Iterable[str], end: str, patience_s: float = PATIENCE_S
) -> dict[str, Retained]:
    """Read retained messages: topic → document.

    Brokers send what is retained when they take a subscription, so a message of our own below ``end``, sent
    afterwards, arrives behind it. Raises ``BrokerLostError``, also when nothing arrives for ``patience_s`` seconds, or
    ``OperatorError``, as ``session.connect`` does.
    """
    end_topic = f"{end}/{secrets.token_hex(4)}"
    found: dict[str, Retained] = {}
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    arrived_at = loop.time()

    def take(packet: PublishPacket, received_at: float) -> None:
        nonlocal arrived_at
        arrived_at = received_at
        if packet.retain:
            found[packet.topic] = Retained(packet.payload, signature(packet.user_properties))
        if packet.topic == end_topic and not ended.done():
            ended.set_result(None)

    async with _reader(settings, loop.time) as client:
        client.on_message = take
        await client.subscribe(*(TopicFilter(topic, max_qos=QoS.AT_MOST_ONCE) for topic in (*filters, end_topic)))
        client.publish(end_topic, b"", qos=QoS.AT_MOST_ONCE)
        while not ended.done():
            left = arrived_at + patience_s - loop.time()
            if left <= 0:
                raise BrokerLostError(_UNREADABLE.format(end_topic))
            await asyncio.wait([ended, client.ended], timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if client.ended.done():
                client.ended.result()
        client.on_message = lambda _packet, _received_at: None  # what was found, which may be much, is the caller's now
    return found


def identifier(settings: Settings) -> str:
    """Make a client id for a throwaway connection."""
    return f"{settings.session_id}-look-{secrets.token_hex(4)}"


def signature(pairs: Iterable[tuple[str, str]]) -> str | None:
    """Find the detached signature among user properties."""
    return next((value for name, value in pairs if name == JWS), None)


def _reader(settings: Settings, clock: Callable[[], float]) -> Client:
    password = settings.broker_secret
    return Client(
        settings.broker_host,
        settings.broker_port,
        identifier=identifier(settings),
        clock=clock,
        ssl_context=tls_context(settings),
        username=settings.broker_user,
        password=None if password is None else password.get_secret_value().encode(),
        clean_start=True,
        keep_alive=KEEP_ALIVE_S,
        timeout=PATIENCE_S,
    )
