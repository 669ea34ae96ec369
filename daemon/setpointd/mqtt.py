"""The broker. The only module that knows aiomqtt and paho; it knows nothing of commands.

Rules:

- A message is acknowledged after the broker has its answer, once, in the order received (MQTT 5, section 4.6). What was
  not acknowledged when the connection ended comes again with the next one.
- A connection is used once. When it is lost, ``Session.serve`` raises and the caller makes another.
- Intake is bounded by CONNECT's Receive Maximum; never by a full queue, which would drop and acknowledge. Mosquitto
  before 2.0.13 does not keep to it, and QoS 0 knows no such thing: so beyond ``MAX_AT_WORK`` the socket is not read.
"""

import asyncio
import contextlib
import secrets
import socket
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from setpointd import confirmation
from setpointd.errors import BrokerLostError, OperatorError, PublishRefusedError, SessionTakenOverError
from setpointd.log import logger
from setpointd.messages import Answerer, Inbound, Outbound
from setpointd.settings import Settings

KEEPALIVE_S = 15
CONNECT_TIMEOUT_S = 10.0
MAX_AT_WORK = 1024
_NODELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
_SESSION_TAKEN_OVER = 0x8E


@dataclass(slots=True)
class _Taken:
    """A message at work, in the order of arrival."""

    mid: int
    qos: int
    settled: bool = False


class Session:
    """One connection to the broker, from CONNACK until it is lost or left."""

    def __init__(
        self,
        client: aiomqtt.Client,
        inbox: asyncio.Queue[aiomqtt.Message | None],
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._paho = _take_over_acknowledgements(client, self._on_puback)
        self._reader = _Reader(self._paho)
        self._inbox = inbox
        self._clock = clock
        self._order: deque[_Taken] = deque()
        self._at_work = 0
        self._confirmations: dict[int, tuple[asyncio.Future[None], str]] = {}
        self._lost = False
        self._stopping = False

    async def subscribe(self, topics: Iterable[str], *, no_local: bool = False) -> None:
        """Subscribe at QoS 1, without the retained messages; a live one shows its retain flag."""
        options = SubscribeOptions(
            qos=1,
            noLocal=no_local,
            retainAsPublished=True,
            retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND,
        )
        await _subscribe(self._client, topics, options)

    def publish(self, message: Outbound) -> asyncio.Future[None]:
        """Publish at QoS 1; the future is done at the PUBACK.

        It fails with ``PublishRefusedError`` or ``BrokerLostError``. A caller that does not mind need not look at it.
        """
        if self._lost:
            return confirmation.failed("the connection was lost")
        confirmed = confirmation.awaited()
        info = self._paho.publish(
            message.topic, message.payload, 1, message.retain, _properties(message, PacketTypes.PUBLISH)
        )
        self._confirmations[info.mid] = (confirmed, message.topic)
        return confirmed

    async def serve(self, handle: Answerer) -> None:
        """Hand every message to ``handle``, publish its answer, acknowledge. Returns after ``stop``.

        Raises ``BrokerLostError`` or ``SessionTakenOverError`` when the connection ends.
        """
        async with asyncio.TaskGroup() as tasks:
            while (message := await self._inbox.get()) is not None and not self._stopping:
                taken = _Taken(message.mid, message.qos)
                self._order.append(taken)
                tasks.create_task(self._settle(taken, self._inbound(message), handle), name="command")
                self._at_work += 1
                if self._at_work == MAX_AT_WORK:
                    self._reader.pause()
        if not self._stopping:
            raise _as_ours(self._client._disconnected.exception())  # noqa: SLF001 - see _take_over_acknowledgements

    def stop(self) -> None:
        """End ``serve`` once what was taken is settled; what was not taken stays with the broker."""
        self._stopping = True
        self._inbox.put_nowait(None)

    async def _settle(self, taken: _Taken, inbound: Inbound, handle: Answerer) -> None:
        await self._answer(taken, inbound, handle)
        taken.settled = True
        while self._order and self._order[0].settled:
            done = self._order.popleft()
            if not self._lost:
                self._paho.ack(done.mid, done.qos)

    async def _answer(self, taken: _Taken, inbound: Inbound, handle: Answerer) -> None:
        """Publish the answer; returns when nothing more can come of the message, so that it may be acknowledged."""
        try:
            try:
                answer = await handle(inbound)
            finally:
                self._worked_off()
            if answer is not None:
                confirmed = self.publish(answer)
                if taken.qos:
                    # Beyond some number paho holds publishes back: acknowledged now, a crash would lose the reply.
                    await confirmed
        except (BrokerLostError, PublishRefusedError):
            pass  # either the message comes again, and so does its answer; or it was logged that nobody may have it
        except Exception as error:  # noqa: BLE001 - the acknowledging edge: no message may come forever
            logger().error("unanswered", exc_info=error)

    def _worked_off(self) -> None:
        # What waits for its confirmation only is not at work: that comes from the socket that a pause leaves unread.
        self._at_work -= 1
        if self._at_work < MAX_AT_WORK and not self._lost:
            self._reader.resume()

    def _inbound(self, message: aiomqtt.Message) -> Inbound:
        properties = message.properties
        return Inbound(
            topic=str(message.topic),
            payload=bytes(message.payload),
            retain=message.retain,
            received_at=self._clock(),
            response_topic=getattr(properties, "ResponseTopic", None),
            correlation_data=getattr(properties, "CorrelationData", None),
            expiry_s=getattr(properties, "MessageExpiryInterval", None),
        )

    def _on_puback(self, mid: int, reason: ReasonCode) -> None:
        confirmed, topic = self._confirmations.pop(mid, (None, ""))
        if confirmed is None or confirmed.done():
            return
        if reason.is_failure:
            logger().warning("publish_refused", topic=topic, reason=str(reason))
            confirmed.set_exception(PublishRefusedError(str(reason)))
        else:
            confirmed.set_result(None)

    def lose(self) -> None:
        """Note that the connection is gone: nothing that waits for the broker will be confirmed."""
        self._lost = True
        for confirmed, _ in self._confirmations.values():
            if not confirmed.done():
                confirmed.set_exception(BrokerLostError("the connection was lost"))
        self._confirmations.clear()
        self._inbox.put_nowait(None)


class _Reader:
    """Stops and goes on reading the socket, so that TCP holds back a broker that sends faster than we can work."""

    def __init__(self, paho: PahoClient) -> None:
        self._paho = paho
        self._paused = False

    def pause(self) -> None:
        """Read no more; may be called again."""
        if not self._paused and isinstance(connection := self._paho.socket(), socket.socket):
            asyncio.get_running_loop().remove_reader(connection)
            self._paused = True

    def resume(self) -> None:
        """Go on reading; may be called again."""
        if self._paused and isinstance(connection := self._paho.socket(), socket.socket):
            asyncio.get_running_loop().add_reader(connection, self._read)
            self._paused = False

    def _read(self) -> None:
        # As aiomqtt's own callback does, which is not at hand: what TLS has decrypted already makes no socket readable.
        self._paho.loop_read()
        while isinstance(connection := self._paho.socket(), ssl.SSLSocket) and connection.pending():
            self._paho.loop_read()


@contextlib.asynccontextmanager
async def connect(settings: Settings, will: Outbound, clock: Callable[[], float]) -> AsyncIterator[Session]:
    """Connect with the daemon's own client id and its persistent session (MQTT 5, clean start off).

    Raises ``BrokerLostError`` when there is no broker, ``OperatorError`` when it refuses us.
    """
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = settings.session_expiry_s
    properties.ReceiveMaximum = settings.receive_maximum
    # No Maximum Packet Size: Mosquitto 2.0.11 never gives back the place in Receive Maximum of a message that was too
    # large, so anybody could deafen the daemon. Larger messages arrive, and are refused by their length.
    inbox: asyncio.Queue[aiomqtt.Message | None] = asyncio.Queue()
    client = _client(
        settings,
        identifier=settings.session_id,
        inbox=inbox,
        clean_start=False,
        properties=properties,
        will=aiomqtt.Will(will.topic, will.payload, 1, will.retain, _properties(will, PacketTypes.WILLMESSAGE)),
    )
    session = Session(client, inbox, clock)
    async with _connected(client):
        client._disconnected.add_done_callback(lambda _: session.lose())  # noqa: SLF001 - see _take_over_acknowledgements
        yield session


async def look(settings: Settings, filters: Iterable[str], end: str) -> dict[str, bytes]:
    """Read retained messages on a throwaway connection: topic → payload.

    Brokers send what is retained when they take a subscription, so a message of our own below ``end``, sent
    afterwards, arrives behind it. Raises ``BrokerLostError`` or ``OperatorError``, as ``connect`` does.
    """
    inbox: asyncio.Queue[aiomqtt.Message | None] = asyncio.Queue()
    once = secrets.token_hex(4)
    client = _client(settings, identifier=f"{settings.session_id}-look-{once}", inbox=inbox)
    end_topic = f"{end}/{once}"
    found: dict[str, bytes] = {}
    async with _connected(client):
        await _subscribe(client, [*filters, end_topic], SubscribeOptions(qos=0))
        await client.publish(end_topic, b"")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while (message := await inbox.get()) is not None and str(message.topic) != end_topic:
                    if message.retain:
                        found[str(message.topic)] = bytes(message.payload)
        except TimeoutError:
            msg = f"the broker does not let the daemon read what it publishes to {end_topic}; see the acl in mosquitto/"
            raise BrokerLostError(msg) from None
    return found


async def wait_for_change(settings: Settings, topic: str, known: bytes | None) -> None:
    """Wait on a throwaway connection until what is published to ``topic`` is something else than ``known``."""
    inbox: asyncio.Queue[aiomqtt.Message | None] = asyncio.Queue()
    client = _client(settings, identifier=f"{settings.session_id}-look-{secrets.token_hex(4)}", inbox=inbox)
    async with _connected(client):
        client._disconnected.add_done_callback(lambda _: inbox.put_nowait(None))  # noqa: SLF001 - see _take_over_acknowledgements
        await _subscribe(client, [topic], SubscribeOptions(qos=1))
        while (message := await inbox.get()) is not None and bytes(message.payload) == known:
            pass


def _client(
    settings: Settings,
    *,
    identifier: str,
    inbox: asyncio.Queue[aiomqtt.Message | None],
    **more: Any,
) -> aiomqtt.Client:
    class Intake(asyncio.Queue[aiomqtt.Message]):
        """aiomqtt's own iterator makes a task per message; its queue class is a public hook to go round that."""

        def put_nowait(self, item: aiomqtt.Message) -> None:
            inbox.put_nowait(item)

    password = settings.broker_secret
    client = aiomqtt.Client(
        settings.broker_host,
        settings.broker_port,
        username=settings.broker_user,
        password=None if password is None else password.get_secret_value(),
        identifier=identifier,
        protocol=aiomqtt.ProtocolVersion.V5,
        queue_type=Intake,
        timeout=CONNECT_TIMEOUT_S,
        keepalive=KEEPALIVE_S,
        # Without it, Nagle's algorithm and delayed ACKs cost 40 ms and more per round trip.
        socket_options=_NODELAY,
        tls_context=_tls(settings),
        **more,
    )
    _watch_for_writing(client._client)  # noqa: SLF001 - see _take_over_acknowledgements
    return client


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.broker_tls:
        return None
    try:
        return ssl.create_default_context(cafile=settings.broker_ca)
    except (OSError, ssl.SSLError) as error:
        msg = f"the CA file {settings.broker_ca} cannot be used: {error.strerror}"
        raise OperatorError(msg) from None


@contextlib.asynccontextmanager
async def _connected(client: aiomqtt.Client) -> AsyncIterator[None]:
    try:
        async with client:
            # aiomqtt does not look at it when the connection is lost, and asyncio would complain that nobody did.
            client._disconnected.add_done_callback(confirmation.look_at)  # noqa: SLF001 - see _take_over_acknowledgements
            yield
    except aiomqtt.MqttError as error:
        raise _as_ours(error) from None


def _as_ours(error: BaseException | None) -> Exception:
    """Name the end of a connection in our own terms; the text is the broker's reason or the system's."""
    reason = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
    if isinstance(reason, ReasonCode) and reason.value == _SESSION_TAKEN_OVER:
        msg = "another client took over the session; is a second daemon running with this client id?"
        return SessionTakenOverError(msg)
    return BrokerLostError(str(reason if reason is not None else error or "the broker closed the connection"))


async def _subscribe(client: aiomqtt.Client, topics: Iterable[str], options: SubscribeOptions) -> None:
    granted = await client.subscribe([(topic, options) for topic in topics])
    refused = [str(code) for code in granted if isinstance(code, ReasonCode) and code.is_failure]
    if refused:
        msg = f"the broker refuses the daemon's subscriptions ({refused[0]}); see the acl in mosquitto/"
        raise BrokerLostError(msg)


def _properties(message: Outbound, packet: int) -> Properties:
    properties = Properties(packet)
    if message.payload:
        properties.ContentType = "application/json"
        properties.PayloadFormatIndicator = 1
    if message.jws is not None:
        properties.UserProperty = [("jws", message.jws)]
    if message.correlation_data is not None:
        properties.CorrelationData = message.correlation_data
    return properties


def _watch_for_writing(paho: PahoClient) -> None:
    """Have the event loop watch the socket for writing while it is open.

    aiomqtt does so a turn of the loop later and by number. By then the socket of a lost connection may be closed, and
    its number another file's.
    """
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


def _take_over_acknowledgements(client: aiomqtt.Client, on_puback: Callable[[int, ReasonCode], None]) -> PahoClient:
    """Reach below aiomqtt 2.5, the one place that does, for three things that it does not offer.

    Manual acknowledgement, or a crash would lose what was acknowledged before it was handled; publishing without a
    list of all pending calls per call; and the reason code of a PUBACK. aiomqtt 3 has them in public.
    """
    paho = client._client  # noqa: SLF001 - see _take_over_acknowledgements
    paho.manual_ack_set(on=True)

    def on_publish(
        _client: PahoClient,
        _data: object,
        mid: int,
        reason: ReasonCode,
        _properties: Mapping[str, Any],
    ) -> None:
        on_puback(mid, reason)

    paho.on_publish = on_publish  # type: ignore[assignment]
    return paho
