"""The connection to the broker, kept again and again. The only module of the client that knows aiomqtt.

Rules:

- What is wanted (subscriptions) is remembered here and asked for anew at every connect: the session is clean each time,
  since a reply can be asked for again and documents are retained.
- Messages go to their receivers where they arrive, in aiomqtt's queue class: it would make a task for each otherwise.
- Publishing does not wait. aiomqtt's ``publish`` notices a lost connection only at its timeout, and what counts is the
  reply; so a publish is a task that nobody waits for.
- aiomqtt logs the answer to a question that nobody waits for any more as an error; it is none.
- aiomqtt has the socket watched for writing a turn of the loop later and by its number; by then it may be another's.
"""

import asyncio
import contextlib
import logging
import random
import re
import secrets
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.matcher import MQTTMatcher
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from setpoint.errors import Unreachable
from setpoint.settings import Broker
from setpoint_contracts.signing import JWS_USER_PROPERTY

logger = logging.getLogger("setpoint")

_KEEP_ALIVE_S = 15  # a broker that hangs is noticed in so many seconds, twice at most
_PATIENCE_S = 5.0  # for CONNACK, SUBACK
_END_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_MANY = 1_000_000  # aiomqtt warns of many publishes under way, which are no fault here
_REFUSED = 0x80  # reason codes from here on are refusals (MQTT 5, section 2.4)

_NUMBERS = re.compile(r"^\[(code:|Errno )-?\d+\] ")  # before the words of paho's and the system's errors

_mqtt_logger = logging.getLogger("mqtt.setpoint")  # below aiomqtt's own, and its level
_mqtt_logger.addFilter(lambda record: not str(record.msg).startswith("Unexpected message ID"))


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came. ``jws``: its one user property of that name; None when there is none, or more than one."""

    topic: str
    payload: bytes
    retained: bool
    jws: str | None


class Link:
    """A connection to a broker that is made again whenever it is lost, for as long as ``run`` runs."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._client: aiomqtt.Client | None = None
        self._connected = asyncio.Event()
        self._closed = False
        self._wanted: Counter[str] = Counter()
        self._refused: set[str] = set()
        self._receivers = MQTTMatcher()
        self._on_connected: list[Callable[[], None]] = []
        self._on_lost: list[Callable[[], None]] = []
        self._publishing: set[asyncio.Task[None]] = set()
        self.max_packet_bytes: int | None = None
        """The largest packet that the broker takes, as its CONNACK says; None: it sets no limit."""
        self.last_error: str | None = None
        """Why there is no connection, in a line for people; None once there is one."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, and all that is wanted is subscribed to."""
        return self._connected.is_set() and not self._closed

    async def wait_connected(self) -> None:
        """Wait for a connection on which all that is wanted is subscribed to; ``Unreachable`` once it is closed."""
        await self._connected.wait()
        if self._closed:
            raise Unreachable("the client was closed before there was a connection")

    def is_refused(self, pattern: str) -> bool:
        """Whether the broker has refused a subscription; the connection goes on without it."""
        return pattern in self._refused

    def on_message(self, pattern: str, receive: Callable[[Received], None]) -> None:
        """Hand messages whose topic matches a filter to a receiver, which must not raise. One receiver a filter."""
        self._receivers[pattern] = receive

    def off_message(self, pattern: str) -> None:
        """Hand messages of a filter to nobody."""
        del self._receivers[pattern]

    def on_connected(self, connected: Callable[[], None]) -> None:
        """Call something after each connect, once all that is wanted is subscribed to."""
        self._on_connected.append(connected)

    def on_lost(self, lost: Callable[[], None]) -> None:
        """Call something whenever a connection is lost."""
        self._on_lost.append(lost)

    async def subscribe(self, pattern: str) -> None:
        """Want a subscription, at QoS 1, as often as it is asked for; while away it is remembered.

        Asked for again, what is retained comes again.
        """
        self._wanted[pattern] += 1
        if self._client is not None:
            with contextlib.suppress(aiomqtt.MqttError):  # then the connection is lost, and it is asked for anew
                await self._subscribe(self._client, [pattern])

    async def unsubscribe(self, pattern: str) -> None:
        """Want a subscription no more."""
        self._wanted[pattern] -= 1
        if self._wanted[pattern] > 0:
            return
        del self._wanted[pattern]
        self._refused.discard(pattern)
        if self._client is not None:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._client.unsubscribe(pattern)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish at QoS 1, without waiting; nothing while away."""
        if self._client is None:
            return
        task = asyncio.create_task(_publish(self._client, topic, payload, retain=retain), name="setpoint publish")
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def close(self) -> None:
        """Wait, not for long, until the broker has taken what was published; then tell all who wait that it is over."""
        if self._publishing:
            await asyncio.wait(self._publishing, timeout=_END_S)
        self._closed = True
        self._connected.set()

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        pause, loop = _FIRST_PAUSE_S, asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                async with _connection(self._new_client()) as client:
                    await self._stay(client)
            except (aiomqtt.MqttError, OSError) as error:
                self._say(error)
            finally:
                held = self.is_connected and loop.time() - began > _LONGEST_PAUSE_S  # not one that is lost at once
                self._leave()
            _look_for_cancellation()  # an error of aiomqtt's while it takes leave hides one
            pause = _FIRST_PAUSE_S if held else min(2 * pause, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all come at once

    async def _stay(self, client: aiomqtt.Client) -> None:
        """Subscribe, and stay until the connection is lost, which raises ``MqttError``."""
        client.pending_calls_threshold = _MANY
        _send_at_once(client._client)  # noqa: SLF001 - as in _new_client
        self._client = client
        if self._wanted:
            await self._subscribe(client, list(self._wanted))
        _look_for_cancellation()
        self.last_error = None
        self._connected.set()
        for connected in self._on_connected:
            connected()
        async for _ in client.messages:  # never one: they are taken before they get here
            pass

    def _leave(self) -> None:
        self._client = None
        if self.is_connected:
            self._connected.clear()
            for lost in self._on_lost:
                lost()

    async def _subscribe(self, client: aiomqtt.Client, patterns: list[str]) -> None:
        answers = await client.subscribe([(pattern, 1) for pattern in patterns])
        for pattern, answer in zip(patterns, answers, strict=True):
            if _number(answer) < _REFUSED:
                self._refused.discard(pattern)
            elif pattern not in self._refused:
                self._refused.add(pattern)
                logger.warning("the broker refuses the subscription to %s: look at its acl", pattern)

    def _say(self, error: Exception) -> None:
        text = _words(error)
        if text != self.last_error:
            logger.warning("no connection to the broker %s: %s", self._broker, text)
        self.last_error = text

    def _new_client(self) -> aiomqtt.Client:
        broker, link = self._broker, self
        if broker.tls is not None:
            broker.tls.sslsocket_class = _TlsSocket

        class Intake(asyncio.Queue[aiomqtt.Message]):
            def put_nowait(self, item: aiomqtt.Message) -> None:
                link._take(item)

        client = aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.user,
            password=broker.password,
            identifier=f"setpoint-{secrets.token_hex(8)}",
            protocol=aiomqtt.ProtocolVersion.V5,  # 3.1.1 has no user properties, so no signatures
            transport=broker.transport,
            websocket_path=broker.path,
            tls_context=broker.tls,
            queue_type=Intake,
            timeout=_PATIENCE_S,
            keepalive=_KEEP_ALIVE_S,
            clean_start=True,
            logger=_mqtt_logger,
        )
        _watch_for_writing(client._client)  # noqa: SLF001 - aiomqtt has no public way to it
        self._note_limits(client._client)  # noqa: SLF001 - the same
        return client

    def _note_limits(self, paho: PahoClient) -> None:
        """Read off CONNACK how large a packet may be: a larger one would end the connection."""
        connected: Any = paho.on_connect

        def note(*answer: Any) -> None:
            self.max_packet_bytes = getattr(answer[-1], "MaximumPacketSize", None)
            connected(*answer)

        paho.on_connect = note

    def _take(self, message: aiomqtt.Message) -> None:
        received = Received(
            str(message.topic), bytes(message.payload), bool(message.retain), _signature(message.properties)
        )
        for receive in self._receivers.iter_match(received.topic):
            receive(received)


def _send_at_once(paho: PahoClient) -> None:
    """Switch Nagle's algorithm off: where it meets delayed acknowledgements a round trip takes 44 ms, or 88.

    aiomqtt's ``socket_options`` do not reach the socket below a WebSocket.
    """
    connection: Any = paho.socket()
    below = getattr(connection, "_socket", connection)
    if below is not None:
        below.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _watch_for_writing(paho: PahoClient) -> None:
    """Have the event loop watch the socket for writing while it is open."""
    loop, thread = asyncio.get_running_loop(), threading.get_ident()

    def register(_paho: PahoClient, _data: object, connection: Any) -> None:
        def watch() -> None:
            if connection.fileno() >= 0:
                loop.add_writer(connection, paho.loop_write)

        # While it connects, paho calls from another thread.
        if threading.get_ident() == thread:
            watch()
        else:
            loop.call_soon_threadsafe(watch)

    paho.on_socket_register_write = register


class _TlsSocket(ssl.SSLSocket):
    """One that does not stay open when there is no agreement; paho leaves it to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as it is there
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _look_for_cancellation() -> None:
    """Before Python 3.12 ``asyncio.wait_for``, in which aiomqtt waits, can lose one."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _abandoning(paho: PahoClient) -> Callable[[], None]:
    """Return what closes the sockets of a connect that has failed.

    aiomqtt leaves one open that is not answered, and paho forgets one whose handshake as a WebSocket fails.
    """
    opened, connect = contextlib.ExitStack(), paho._create_socket_connection  # noqa: SLF001 - as in _new_client

    def note() -> socket.socket:
        connection = connect()
        opened.callback(connection.close)
        return connection

    def abandon() -> None:
        paho._sock_close()  # noqa: SLF001 - the event loop stops watching it first
        opened.close()

    paho._create_socket_connection = note  # type: ignore[method-assign] # noqa: SLF001 - the same
    return abandon


def _has_failed(connecting: asyncio.Task[Any]) -> bool:
    return connecting.cancelled() or connecting.exception() is not None


@contextlib.asynccontextmanager
async def _connection(client: aiomqtt.Client) -> AsyncIterator[aiomqtt.Client]:
    """Connect and take leave. A cancellation waits until it is connected or refused: half of it cannot be closed."""
    abandon = _abandoning(client._client)  # noqa: SLF001 - as in _new_client
    connecting = asyncio.create_task(client.__aenter__(), name="setpoint connect")
    connecting.add_done_callback(lambda done: abandon() if _has_failed(done) else None)
    try:
        await asyncio.shield(connecting)
    except (ValueError, LookupError, struct.error) as error:  # paho's, of what is no answer of a broker
        msg = "what answers there is no MQTT broker"
        raise aiomqtt.MqttError(msg) from error
    except asyncio.CancelledError:
        await asyncio.wait([connecting])
        if connecting.exception() is None:
            await client.__aexit__(None, None, None)
        raise
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_exit(client.__aexit__)
        yield client


async def _publish(client: aiomqtt.Client, topic: str, payload: bytes, *, retain: bool) -> None:
    with contextlib.suppress(aiomqtt.MqttError):
        await client.publish(topic, payload, qos=1, retain=retain, properties=_JSON if retain else None)


def _json_properties() -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/json"
    properties.PayloadFormatIndicator = 1
    return properties


_JSON = _json_properties()


def _signature(properties: Properties | None) -> str | None:
    signatures = [value for name, value in getattr(properties, "UserProperty", ()) if name == JWS_USER_PROPERTY]
    return signatures[0] if len(signatures) == 1 else None


def _number(answer: object) -> int:
    return int(getattr(answer, "value", answer))  # type: ignore[call-overload, no-any-return] # a reason code or a QoS


def _words(error: BaseException) -> str:
    """Say why in words; the texts of aiomqtt and paho hold no password."""
    if isinstance(error, MqttConnectError):
        return f"the broker refuses it ({error.rc}): look at user and password" if _is_login(error) else str(error)
    if isinstance(error.__cause__, ValueError | LookupError | struct.error):
        return str(error)
    cause = error.__cause__ or error.__context__ or error  # aiomqtt hides the one that it was given
    if (verification := getattr(cause, "verify_message", None)) is not None:  # ssl.SSLCertVerificationError
        return f"its certificate is not to be trusted: {verification}"
    if isinstance(cause, OSError):
        return cause.strerror or str(cause) or "it does not answer"
    return _NUMBERS.sub("", str(cause)) or "it does not answer"


def _is_login(error: MqttConnectError) -> bool:
    return _number(error.rc) in {4, 5, 0x86, 0x87}  # bad user name or password, not authorized: MQTT 3 and 5
