"""Waiting for one message, on a throwaway connection. The only module of the daemon that knows aiomqtt.

Rules:

- A look must not touch the daemon's session: it has a client id of its own each time, and leaves nothing behind.
- aiomqtt makes a task for every message that is waited for. Its queue class is the hook to go round that: messages are
  looked at where they arrive, and only the awaited one is waited for.
- Whoever stops waiting may leave before the broker has answered; aiomqtt logs such an answer as an error.
- A daemon imports it when it must wait, which most never do: aiomqtt and paho under it take 2 MiB.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterable

import aiomqtt

from setpointd.broker import losses
from setpointd.broker.look import KEEP_ALIVE_S, PATIENCE_S, Retained, identifier, signature
from setpointd.broker.tls import tls_context
from setpointd.errors import BrokerLostError
from setpointd.settings import Settings

_END_S = 1.0
_UNSUPPORTED_PROTOCOL_VERSION = 0x84
_NODELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
_NOBODY_WAITS = "Unexpected message ID"


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NOBODY_WAITS)


_LOGGER = logging.getLogger("mqtt.waiting")  # its level is that of "mqtt", which the log sets
_LOGGER.addFilter(_is_news)


async def wait_for(
    settings: Settings,
    topic: str,
    is_awaited: Callable[[Retained], bool],
    *,
    ask: str | None = None,
    wait_s: float | None = None,
) -> Retained | None:
    """Wait for a document on a topic, what is retained there included; None when none came within ``wait_s`` seconds.

    ``ask`` is a topic to which an empty message is published first. Raises what ``look.look`` raises.
    """
    async with _listening(settings, lambda message: is_awaited(_retained(message))) as (client, arrived):
        await _subscribe(client, [topic], qos=1)
        if ask is not None:
            await client.publish(ask, b"", qos=1)
        await asyncio.wait([arrived], timeout=wait_s)
        return _retained(arrived.result()) if arrived.done() else None


async def clear(settings: Settings, topic: str) -> None:
    """Clear what is retained on a topic; raises what ``look.look`` raises."""
    async with _listening(settings, lambda _: False) as (client, _):
        await client.publish(topic, b"", qos=1, retain=True)


def _retained(message: aiomqtt.Message) -> Retained:
    return Retained(bytes(message.payload), signature(getattr(message.properties, "UserProperty", ())))


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
        identifier=identifier(settings),
        protocol=aiomqtt.ProtocolVersion.V5,
        queue_type=intake,
        timeout=PATIENCE_S,
        keepalive=KEEP_ALIVE_S,
        socket_options=_NODELAY,
        tls_context=tls_context(settings),
        logger=_LOGGER,
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
