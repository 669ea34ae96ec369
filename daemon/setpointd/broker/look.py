"""Looking at what is on the broker, on throwaway connections. The only module of the daemon that knows aiomqtt.

Rules:

- A look must not touch the daemon's session: it has a client id of its own each time, and leaves nothing behind.
- What may be thousands of messages is read by the daemon's own ``Client``, in a tenth of the time; one message is
  waited for with aiomqtt.
- aiomqtt makes a task for every message that is waited for. Its queue class is the hook to go round that: messages are
  looked at where they arrive, and only the awaited one is waited for.
"""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

import aiomqtt

from setpointd.broker import losses
from setpointd.broker.mqtt import Client, PublishPacket, QoS, TopicFilter
from setpointd.broker.tls import tls_context
from setpointd.errors import BrokerLostError
from setpointd.packets import JWS
from setpointd.settings import Settings

PATIENCE_S = 10.0
KEEP_ALIVE_S = 15
_END_S = 1.0
_UNSUPPORTED_PROTOCOL_VERSION = 0x84
_NODELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
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
            found[packet.topic] = Retained(packet.payload, _jws(packet.user_properties))
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
    return found


async def wait_for(
    settings: Settings,
    topic: str,
    is_awaited: Callable[[Retained], bool],
    *,
    ask: str | None = None,
    wait_s: float | None = None,
) -> Retained | None:
    """Wait for a document on a topic, what is retained there included; None when none came within ``wait_s`` seconds.

    ``ask`` is a topic to which an empty message is published first. Raises what ``look`` raises.
    """
    async with _listening(settings, lambda message: is_awaited(_retained(message))) as (client, arrived):
        await _subscribe(client, [topic], qos=1)
        if ask is not None:
            await client.publish(ask, b"", qos=1)
        await asyncio.wait([arrived], timeout=wait_s)
        return _retained(arrived.result()) if arrived.done() else None


async def clear(settings: Settings, topic: str) -> None:
    """Clear what is retained on a topic; raises what ``look`` raises."""
    async with _listening(settings, lambda _: False) as (client, _):
        await client.publish(topic, b"", qos=1, retain=True)


def _retained(message: aiomqtt.Message) -> Retained:
    return Retained(bytes(message.payload), _jws(getattr(message.properties, "UserProperty", ())))


def _jws(pairs: Iterable[tuple[str, str]]) -> str | None:
    return next((value for name, value in pairs if name == JWS), None)


def _reader(settings: Settings, clock: Callable[[], float]) -> Client:
    password = settings.broker_secret
    return Client(
        settings.broker_host,
        settings.broker_port,
        identifier=_identifier(settings),
        clock=clock,
        ssl_context=tls_context(settings),
        username=settings.broker_user,
        password=None if password is None else password.get_secret_value().encode(),
        clean_start=True,
        keep_alive=KEEP_ALIVE_S,
        timeout=PATIENCE_S,
    )


def _identifier(settings: Settings) -> str:
    return f"{settings.session_id}-look-{secrets.token_hex(4)}"


@contextlib.asynccontextmanager
async def _listening(
    settings: Settings,
    is_awaited: Callable[[aiomqtt.Message], bool],
) -> AsyncIterator[tuple[aiomqtt.Client, asyncio.Future[aiomqtt.Message]]]:
    """Connect; the future is the first message that is awaited, or ``BrokerLostError``."""

    class Intake(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            if is_awaited(item):
                super().put_nowait(item)

    awaited: asyncio.Future[aiomqtt.Message] = asyncio.get_running_loop().create_future()
    client = _client(settings, Intake)
    reader = None
    try:
        async with client:
            reader = asyncio.create_task(_read(client, awaited), name="look")
            yield client, awaited
    except aiomqtt.MqttError as error:
        raise _loss(error) from None
    finally:
        if reader is not None:  # it ends with the connection, and has looked at why
            await asyncio.wait([reader], timeout=_END_S)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        awaited.cancel()


async def _read(client: aiomqtt.Client, awaited: asyncio.Future[aiomqtt.Message]) -> None:
    try:
        async for message in client.messages:
            if not awaited.done():
                awaited.set_result(message)
    except aiomqtt.MqttError as error:
        if not awaited.done():
            awaited.set_exception(_loss(error.__cause__ or error))
            awaited.exception()  # whether somebody waits for it or not


def _client(settings: Settings, intake: type[asyncio.Queue[aiomqtt.Message]]) -> aiomqtt.Client:
    password = settings.broker_secret
    return aiomqtt.Client(
        settings.broker_host,
        settings.broker_port,
        username=settings.broker_user,
        password=None if password is None else password.get_secret_value(),
        identifier=_identifier(settings),
        protocol=aiomqtt.ProtocolVersion.V5,
        queue_type=intake,
        timeout=PATIENCE_S,
        keepalive=KEEP_ALIVE_S,
        socket_options=_NODELAY,
        tls_context=tls_context(settings),
    )


async def _subscribe(client: aiomqtt.Client, topics: Iterable[str], qos: int) -> None:
    granted = await client.subscribe([(topic, qos) for topic in topics])
    refused = [str(code) for code in granted if not isinstance(code, int) and code.is_failure]
    if refused:
        raise losses.refused_subscriptions(refused[0])


def _loss(error: BaseException) -> BrokerLostError:
    """Name the end of a connection in our own terms; the text is the broker's reason or the system's."""
    reason = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
    if getattr(reason, "value", None) == _UNSUPPORTED_PROTOCOL_VERSION:
        return BrokerLostError(losses.ONLY_MQTT_3)
    return BrokerLostError(str(reason if reason is not None else error or losses.CLOSED))
