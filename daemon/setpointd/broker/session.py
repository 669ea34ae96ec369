"""The command session: what arrives is answered, published and acknowledged. It knows no MQTT library.

Rules:

- A message is acknowledged after the broker has its reply, once, in the order received (MQTT 5, section 4.6). What was
  not acknowledged when the connection ended comes again with the next one.
- A connection is used once. When it is lost, ``Session.serve`` raises and the caller makes another.
- Intake is bounded by CONNECT's Receive Maximum; never by a full queue, which would drop and acknowledge. Mosquitto
  before 2.0.13 does not keep to it, and QoS 0 knows no such thing: so beyond ``MAX_AT_WORK`` nothing is read.
- What waits for its PUBACK only is not at work: that comes from the socket that a pause leaves unread. While too much
  waits so, messages of QoS 0 are dropped, which is what their sender chose.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal

from setpointd.broker.mqtt import Client, PublishPacket, QoS, RetainHandling, TopicFilter, Will
from setpointd.broker.tls import tls_context
from setpointd.errors import BrokerLostError, PublishRefusedError
from setpointd.log import logger
from setpointd.messages import Handle, Inbound, Outbound
from setpointd.packets import CONTENT_TYPE, JWS
from setpointd.settings import Settings

MAX_AT_WORK = 1024
MAX_UNCONFIRMED = 16_384
MAX_UNSENT_BYTES = 16_777_216
_DROPPED_EVERY_S = 10.0


class _Taken:
    """A message of QoS 1 without its PUBACK, in the order of arrival."""

    __slots__ = ("packet_id", "settled")

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id
        self.settled = False


class Session:
    """One connection to the broker, from CONNACK until it is lost or left."""

    def __init__(self, client: Client) -> None:
        self._client = client
        client.on_message = self._take
        self._early: deque[tuple[PublishPacket, float]] = deque()
        self._tasks: asyncio.TaskGroup | None = None
        self._handle: Handle
        self._order: deque[_Taken] = deque()
        self._at_work = 0
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.dropped = 0
        """How many messages of QoS 0 were dropped because the broker does not keep up."""
        self._say_dropped_at = 0.0

    @property
    def max_packet_bytes(self) -> int | None:
        """The largest packet that the broker takes, in bytes; None: any."""
        return self._client.max_packet_bytes

    async def subscribe(
        self, topics: Iterable[str], *, qos: Literal[0, 1] = 1, no_local: bool = False, retained: bool = False
    ) -> None:
        """Subscribe, without the ``retained`` messages unless told; a live one shows its retain flag."""
        await self._client.subscribe(
            *(
                TopicFilter(
                    topic,
                    max_qos=QoS(qos),
                    no_local=no_local,
                    retain_as_published=True,
                    retain_handling=RetainHandling.SEND_ALWAYS if retained else RetainHandling.SEND_NEVER,
                )
                for topic in topics
            )
        )

    def publish(self, message: Outbound, *, urgent: bool = False) -> asyncio.Future[None]:
        """Publish at QoS 1, before what is not urgent if it is; the future is done at the PUBACK.

        It fails with ``PublishRefusedError`` or ``BrokerLostError``. A caller that does not mind need not look at it.
        """
        return self._client.publish(
            message.topic,
            message.payload,
            retain=message.retain,
            payload_format_indicator=1 if message.payload else 0,
            content_type=CONTENT_TYPE if message.payload else None,
            correlation_data=message.correlation_data,
            user_properties=None if message.jws is None else [(JWS, message.jws)],
            urgent=urgent,
        )

    async def serve(self, handle: Handle) -> None:
        """Hand every message to ``handle``, publish its reply, acknowledge. Returns after ``stop``.

        Raises ``BrokerLostError`` or ``SessionTakenOverError`` when the connection ends.
        """
        self._handle = handle
        async with asyncio.TaskGroup() as self._tasks:
            while self._early and not self._stop.done():
                self._begin(self._tasks, *self._early.popleft())
            await asyncio.wait((self._stop, self._client.ended), return_when=asyncio.FIRST_COMPLETED)
            stopped = self._stop.done()
            self.stop()
        if not stopped:
            self._client.ended.result()

    def stop(self) -> None:
        """End ``serve`` once what was taken is settled; what was not taken stays with the broker."""
        self._client.on_message = lambda _packet, _received_at: None
        if not self._stop.done():
            self._stop.set_result(None)

    def _take(self, packet: PublishPacket, received_at: float) -> None:
        if packet.packet_id is None and self._overloaded():
            self._note_dropped()
        elif self._tasks is None:
            self._early.append((packet, received_at))
        else:
            self._begin(self._tasks, packet, received_at)

    def _overloaded(self) -> bool:
        return (
            self._client.unconfirmed >= MAX_UNCONFIRMED
            or self._client.unsent_bytes >= MAX_UNSENT_BYTES
            or len(self._early) >= MAX_AT_WORK
        )

    def _note_dropped(self) -> None:
        self.dropped += 1
        now = asyncio.get_running_loop().time()
        if now >= self._say_dropped_at:
            self._say_dropped_at = now + _DROPPED_EVERY_S
            logger().warning("qos0_dropped", dropped=self.dropped)

    def _begin(self, tasks: asyncio.TaskGroup, packet: PublishPacket, received_at: float) -> None:
        taken = None
        if packet.packet_id is not None:
            taken = _Taken(packet.packet_id)
            self._order.append(taken)
        inbound = Inbound(
            topic=packet.topic,
            payload=packet.payload,
            retain=packet.retain,
            received_at=received_at,
            response_topic=packet.response_topic,
            correlation_data=packet.correlation_data,
            expiry_s=packet.message_expiry_interval,
            jws=next((value for name, value in packet.user_properties if name == JWS), None),
        )
        tasks.create_task(self._settle(taken, inbound), name="command")
        self._at_work += 1
        if self._at_work == MAX_AT_WORK:
            self._client.pause()

    async def _settle(self, taken: _Taken | None, inbound: Inbound) -> None:
        """Answer a message, and acknowledge it when nothing more can come of it."""
        try:
            try:
                reply = await self._handle(inbound)
            finally:
                self._worked_off()
            del inbound  # it may be large, and the confirmation may take its time
            if reply is not None:
                confirmed = self.publish(reply)
                if taken is not None:
                    # Beyond the broker's Receive Maximum a publish waits here: acknowledged now, a crash would lose it.
                    await confirmed
        except (BrokerLostError, PublishRefusedError):
            pass  # either the message comes again, and so does its reply; or it was logged that nobody may have it
        except Exception as error:  # noqa: BLE001 - the acknowledging edge: no message may come forever
            logger().error("unanswered", exc_info=error)
        if taken is not None:
            taken.settled = True
            self._acknowledge()

    def _acknowledge(self) -> None:
        while self._order and self._order[0].settled:
            self._client.puback(self._order.popleft().packet_id)

    def _worked_off(self) -> None:
        self._at_work -= 1
        if self._at_work == MAX_AT_WORK // 2:
            self._client.resume()


@contextlib.asynccontextmanager
async def connect(settings: Settings, will: Outbound, clock: Callable[[], float]) -> AsyncIterator[Session]:
    """Connect with the daemon's own client id and its persistent session (MQTT 5, clean start off).

    Raises ``BrokerLostError`` when there is no broker or it refuses us, ``OperatorError`` for a CA file of no use.
    """
    password = settings.broker_secret
    client = Client(
        settings.broker_host,
        settings.broker_port,
        identifier=settings.session_id,
        clock=clock,
        ssl_context=tls_context(settings),
        username=settings.broker_user,
        password=None if password is None else password.get_secret_value().encode(),
        clean_start=False,
        session_expiry_interval=settings.session_expiry_s,
        keep_alive=settings.keep_alive_s,
        receive_max=settings.receive_maximum,
        will=Will(
            will.topic,
            payload=will.payload,
            qos=QoS.AT_LEAST_ONCE,
            retain=will.retain,
            payload_format_indicator=1,
            content_type=CONTENT_TYPE,
            user_properties=None if will.jws is None else [(JWS, will.jws)],
        ),
    )
    session = Session(client)
    async with client:
        yield session
