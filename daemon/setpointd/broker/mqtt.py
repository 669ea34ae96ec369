"""MQTT 5 on one connection: the only module that knows ``mqtt5``, the codec. It knows nothing of commands.

Rules:

- A connection is used once. When it is lost, ``ended`` says why, and nothing that waits for the broker is confirmed.
- What CONNACK says is obeyed: publishes beyond the broker's Receive Maximum wait in order, and a packet larger than its
  Maximum Packet Size is never written. We send no Maximum Packet Size of our own: Mosquitto 2.0.11 never gives back the
  place in Receive Maximum of a message that it discards for it, so anybody could deafen us.
- A connection on which nothing arrives any more is given up within twice the keep-alive, whatever we send meanwhile.
- What the codec cannot read ends the connection: it is no packet of MQTT 5, and nothing after it can be.
"""

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mqtt5 import (
    ConnAckPacket,
    ConnAckReasonCode,
    ConnectPacket,
    DisconnectPacket,
    DisconnectReasonCode,
    Packet,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    PublishPacket,
    QoS,
    RetainHandling,
    SubAckPacket,
    SubscribePacket,
    TopicFilter,
    Will,
    read,
)
from typing_extensions import override

from setpointd.broker import confirmation, losses
from setpointd.broker.flight import Flight, Publish
from setpointd.broker.keepalive import KeepAlive
from setpointd.broker.link import Link
from setpointd.errors import BrokerLostError, PacketTooLargeError, PublishRefusedError, SetpointdError
from setpointd.log import logger
from setpointd.packets import packet_bytes, start_of_publish

__all__ = ["Client", "PublishPacket", "QoS", "RetainHandling", "TopicFilter", "Will"]

KEEP_ALIVE_S = 15
CONNECT_TIMEOUT_S = 10.0
CONFIRM_TIMEOUT_S = 60.0
MAX_BUFFER_BYTES = 17_825_792
"""So much of a packet is kept: more than the largest command. What a larger one holds behind it is passed over."""

_FAILURE = 0x80  # reason codes from here on are failures (MQTT 5, section 2.4); only their values have an order
_MQTT_3_CONNACK = b"\x20\x02"  # MQTT 5 has a third byte behind these: the length of the properties
_PINGREQ = PingReqPacket().write()


class Client(Link):
    """One connection, as an async context manager; its interface follows that of aiomqtt 3.

    ``on_message`` is called with every PUBLISH and the time at which it arrived, as ``clock`` has it. ``timeout`` is
    for connecting, CONNACK and SUBACK each, ``confirm_timeout`` for a PUBACK, both in seconds. Of a PUBLISH of more
    than ``max_buffer`` bytes the start comes as its payload; another packet of that size ends the connection.

    Entering raises ``BrokerLostError`` when there is no broker, or none that will do.
    """

    def __init__(  # noqa: PLR0913 - as aiomqtt 3 has them
        self,
        hostname: str,
        port: int,
        *,
        identifier: str,
        clock: Callable[[], float],
        ssl_context: ssl.SSLContext | None = None,
        username: str | None = None,
        password: bytes | None = None,
        clean_start: bool = False,
        session_expiry_interval: int = 0,
        will: Will | None = None,
        keep_alive: int = KEEP_ALIVE_S,
        receive_max: int = 65_535,
        timeout: float = CONNECT_TIMEOUT_S,
        confirm_timeout: float = CONFIRM_TIMEOUT_S,
        max_buffer: int = MAX_BUFFER_BYTES,
    ) -> None:
        super().__init__()
        self._address = (hostname, port)
        self._ssl = ssl_context
        self._clock = clock
        self._connect = ConnectPacket(
            identifier,
            username=username,
            password=password,
            clean_start=clean_start,
            will=will,
            keep_alive=keep_alive,
            session_expiry_interval=session_expiry_interval,
            receive_max=receive_max,
        )
        self._timeout = timeout
        self._confirm_timeout = confirm_timeout
        self._max_buffer = max_buffer
        self.on_message: Callable[[PublishPacket, float], None] = lambda _packet, _received_at: None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is over: without a result after ``disconnect``, else with why it was lost."""
        self.session_present = False
        self.max_packet_bytes: int | None = None
        """The largest packet that the broker takes, in bytes; None: any."""
        self._connected: asyncio.Future[ConnAckPacket] = self._loop.create_future()
        self._rest = bytearray()
        self._needed = 0
        self._skip = 0
        self._arrived = 0.0
        self._flight = Flight(self.write)
        self._subscriptions: dict[int, asyncio.Future[SubAckPacket]] = {}
        self._keep_alive = KeepAlive()
        self._tick_s = keep_alive / 2
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._timeout):
                await self.open(*self._address, self._ssl)
            async with asyncio.timeout(self._timeout):
                self.write(self._connect.write())
                self._accept(await self._connected)
        except TimeoutError:
            silent = "no connection to the broker" if self._transport is None else "no answer to CONNECT"
            self._lose(BrokerLostError(f"{silent} within {self._timeout:g} s"))
        except OSError as error:
            self._lose(losses.broken(error))
        except SetpointdError as error:
            self._lose(error, DisconnectReasonCode.NORMAL_DISCONNECTION)
        except BaseException:
            self._lose(BrokerLostError("given up"))
            raise
        if self.ended.done():
            await self.wait_closed()
            self.ended.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect(with_will=error is not None)

    async def disconnect(self, *, with_will: bool = False) -> None:
        """Take leave of the broker, which publishes the Will only if told; may be called again."""
        if not self.ended.done():
            self.ended.set_result(None)
            reasons = DisconnectReasonCode
            self._farewell(reasons.DISCONNECT_WITH_WILL_MESSAGE if with_will else reasons.NORMAL_DISCONNECTION)
        await self.wait_closed()

    async def subscribe(self, *topic_filters: TopicFilter) -> None:
        """Subscribe; raises ``BrokerLostError`` when the broker refuses one of them or does not answer."""
        packet_id = self._flight.free_id(self._subscriptions)
        answered: asyncio.Future[SubAckPacket] = self._loop.create_future()
        self._subscriptions[packet_id] = answered
        if self.ended.done():
            confirmation.fail(answered, BrokerLostError(losses.LOST))
        self.write(SubscribePacket(packet_id, list(topic_filters)).write())
        try:
            async with asyncio.timeout(self._timeout):
                codes = (await answered).reason_codes
        except TimeoutError:
            raise BrokerLostError(f"no answer to SUBSCRIBE within {self._timeout:g} s") from None
        finally:
            del self._subscriptions[packet_id]
        if len(codes) != len(topic_filters):
            self._violate("a SUBACK does not fit its SUBSCRIBE")
            raise BrokerLostError(losses.LOST)
        if refused := [code for code in codes if code.value >= _FAILURE]:
            raise losses.refused_subscriptions(losses.words(refused[0].name))

    def publish(  # noqa: PLR0913 - as aiomqtt 3 has them, and one more
        self,
        topic: str,
        payload: bytes,
        *,
        qos: QoS = QoS.AT_LEAST_ONCE,
        retain: bool = False,
        payload_format_indicator: int = 0,
        content_type: str | None = None,
        correlation_data: bytes | None = None,
        user_properties: list[tuple[str, str]] | None = None,
        urgent: bool = False,
    ) -> asyncio.Future[None]:
        """Publish; the future is done at the PUBACK, or at once with QoS 0.

        What is ``urgent`` does not wait for what the broker has to confirm before it takes more.
        It fails with ``PublishRefusedError``, of which ``PacketTooLargeError`` is one, or ``BrokerLostError``. A caller
        that does not mind need not look at it.
        """
        if self.ended.done():
            return confirmation.failed(losses.LOST)
        try:
            packet_id = self._flight.free_id(self._subscriptions) if qos == QoS.AT_LEAST_ONCE else None
        except BrokerLostError as error:
            return confirmation.failed(str(error.args[0]))
        packet = PublishPacket(
            topic,
            payload,
            qos=qos,
            retain=retain,
            packet_id=packet_id,
            payload_format_indicator=payload_format_indicator,
            content_type=content_type,
            correlation_data=correlation_data,
            user_properties=user_properties,
        ).write()
        publish = Publish(topic, packet)
        if self.max_packet_bytes is not None and len(packet) > self.max_packet_bytes:
            reason = f"it has {len(packet)} bytes, and the broker takes {self.max_packet_bytes} at most"
            publish.refuse(PacketTooLargeError(reason))
        elif packet_id is None:
            self.write(packet)
            publish.confirmed.set_result(None)
        else:
            self._flight.add(packet_id, publish, len(packet), urgent=urgent)
        return publish.confirmed

    def puback(self, packet_id: int) -> None:
        """Acknowledge a message that came at QoS 1, in the order in which they came (MQTT 5, section 4.6)."""
        self.write(PubAckPacket(packet_id).write())

    @property
    def unconfirmed(self) -> int:
        """How many publishes have no PUBACK yet."""
        return len(self._flight)

    @property
    def unsent_bytes(self) -> int:
        """How many bytes wait here because the broker does not take them."""
        return self._flight.waiting_bytes + self.unwritten_bytes

    # What the connection calls

    @override
    def data_received(self, data: bytes) -> None:
        self._keep_alive.heard()
        if self._skip:
            passed, data = len(data), data[self._skip :]
            self._skip = max(0, self._skip - passed)
            if not data:
                return
        if not self._rest or self._needed:  # else a pause holds back what came earlier
            self._arrived = self._clock()
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        self._read(data)

    @override
    def read_on(self) -> None:
        if self._rest and not self._needed:
            data = bytes(self._rest)
            self._rest.clear()
            self._read(data)

    @override
    def ended_by(self, error: Exception | None) -> None:
        self._lose(losses.broken(error) if self._connected.done() else losses.unanswered(error))

    # Reading

    def _read(self, data: bytes) -> None:
        """Take the packets in ``data`` until there is no whole one, or reading is to pause; keep the rest."""
        view = memoryview(data)
        at = self._needed = 0
        while at < len(data) and not (self.held_back or self.ended.done()):
            try:
                packet, size = read(view[at:])
            except IndexError:
                self._needed = packet_bytes(data, at)
                if self._needed > self._max_buffer:
                    if len(data) - at < self._max_buffer:
                        self._needed = self._max_buffer
                        break
                    at += self._take_huge(view[at:])
                    continue
                break
            except BaseException as error:
                # The codec panics at text that is not UTF-8, and its panic is no Exception.
                if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
                    raise
                self._lose(self._malformed(data[at:]), DisconnectReasonCode.MALFORMED_PACKET)
                break
            at += size
            self._take(packet)
        if at < len(data) and not self.ended.done():
            self._rest += view[at:]

    def _take_huge(self, view: memoryview) -> int:
        """Take the start of a PUBLISH, so that it can be refused and acknowledged; how many bytes of it were there.

        Else the broker would deliver it again with every connection.
        """
        size = packet_bytes(bytes(view[:5]))
        taken = min(size, len(view))
        try:
            start = start_of_publish(bytes(view[: self._max_buffer]))
        except ValueError:
            self._lose(losses.huge(size), DisconnectReasonCode.PACKET_TOO_LARGE)
            return taken
        self._skip, self._needed = size - taken, 0
        qos, retain, packet_id = QoS(start.qos), start.retain, start.packet_id
        self._take(PublishPacket(start.topic, start.payload, qos=qos, retain=retain, packet_id=packet_id))
        return taken

    def _malformed(self, data: bytes) -> BrokerLostError:
        if not self._connected.done() and data.startswith(_MQTT_3_CONNACK):
            return BrokerLostError(losses.ONLY_MQTT_3)
        return BrokerLostError("the broker sent a malformed packet")

    def _take(self, packet: Packet) -> None:
        if not self._connected.done():
            if isinstance(packet, ConnAckPacket):
                self._connected.set_result(packet)
            else:
                self._violate("it sent something else before CONNACK")
        elif isinstance(packet, PublishPacket):
            self._take_message(packet)
        elif isinstance(packet, PubAckPacket):
            self._take_puback(packet)
        elif isinstance(packet, SubAckPacket):
            answered = self._subscriptions.get(packet.packet_id)
            if answered is not None and not answered.done():
                answered.set_result(packet)
        elif isinstance(packet, DisconnectPacket):
            self._lose(losses.disconnected(packet.reason_code.value, packet.reason_code.name))
        elif not isinstance(packet, PingRespPacket):
            self._violate(f"{type(packet).__name__} is not for a client")

    def _take_message(self, packet: PublishPacket) -> None:
        if packet.topic_alias is not None:
            self._violate("it uses a topic alias", DisconnectReasonCode.TOPIC_ALIAS_INVALID)
        elif packet.packet_id == 0 or packet.qos == QoS.EXACTLY_ONCE:
            self._violate("a PUBLISH has the packet id 0, or the QoS 2 that nobody asked for")
        else:
            self.on_message(packet, self._arrived)

    def _take_puback(self, packet: PubAckPacket) -> None:
        publish = self._flight.land(packet.packet_id)
        if publish is None:
            logger().debug("puback_unasked", packet_id=packet.packet_id)
            return
        if packet.reason_code.value >= _FAILURE:
            publish.refuse(PublishRefusedError(losses.words(packet.reason_code.name)))
        elif not publish.confirmed.done():
            publish.confirmed.set_result(None)
        self._flight.go_on()

    # Beginning and end

    def _accept(self, packet: ConnAckPacket) -> None:
        code = packet.reason_code
        if code == ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
            raise BrokerLostError(losses.ONLY_MQTT_3)
        if code == ConnAckReasonCode.RETAIN_NOT_SUPPORTED or not packet.retain_available:
            raise BrokerLostError(losses.NO_RETAIN)
        if code == ConnAckReasonCode.QUALITY_NOT_SUPPORTED or packet.max_qos == QoS.AT_MOST_ONCE:
            raise BrokerLostError(losses.NO_QOS_1)
        if code != ConnAckReasonCode.SUCCESS:
            raise BrokerLostError(f"the broker refuses the connection: {losses.words(code.name)}")
        self.session_present = packet.session_present
        self.max_packet_bytes = packet.max_packet_size
        self._flight.receive_max = packet.receive_max
        if packet.server_keep_alive:  # 0 asks for none; ours does no harm then
            self._tick_s = min(self._tick_s, packet.server_keep_alive / 2)
        if self._tick_s:
            self._timer = self._loop.call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        """Every half keep-alive: look for life, and ask for more of it."""
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        taken = self.taken_while_blocked
        self._flight.ticks += not self.deaf
        if not self._keep_alive.lives(deaf=self.deaf, taken=taken):
            self._lose(BrokerLostError("the broker does not answer any more"))
        elif self._flight.age * self._tick_s > self._confirm_timeout:
            self._lose(BrokerLostError(f"the broker has not confirmed a message for {self._confirm_timeout:g} s"))
        elif taken is None:
            self.write(_PINGREQ)

    def _violate(self, what: str, reason: DisconnectReasonCode = DisconnectReasonCode.PROTOCOL_ERROR) -> None:
        self._lose(BrokerLostError(f"the broker does not keep to MQTT 5: {what}"), reason)

    def _lose(self, loss: SetpointdError, reason: DisconnectReasonCode | None = None) -> None:
        """End the connection, with a word to the broker if there is a reason; no effect when it has ended."""
        if self.ended.done():
            return
        confirmation.fail(self.ended, loss)
        confirmation.fail(self._connected, loss)
        if reason is not None:
            self._farewell(reason, loss)
            return
        self._let_go(loss)
        self.abort()

    def _farewell(self, reason: DisconnectReasonCode, loss: SetpointdError | None = None) -> None:
        self.write(DisconnectPacket(reason_code=reason).write())
        self._let_go(loss)
        self.close()

    def _let_go(self, loss: SetpointdError | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._flight.lose(losses.LOST)
        for answered in self._subscriptions.values():
            confirmation.fail(answered, loss or BrokerLostError(losses.LOST))
        self._rest.clear()
