"""The bare echoes: each answers the messages below its topic with the same bytes, and does nothing else.

Started by the benchmark as a process of its own: ``python bench/echo.py KIND PORT``, with the broker's port on
127.0.0.1. No JSON, no signature, no store; QoS 1 both ways. It prints a line once it is subscribed.

- ``echo``: aiomqtt with callbacks, no properties. What the daemon is measured against.
- ``echo_paho``: paho by itself, no event loop, no properties: the floor of earlier figures.
- ``echo_properties``: the same with the properties of a reply.
- ``echo_mqtt5``: an ``asyncio.Protocol`` on the codec that the daemon uses, with the properties of a reply.
"""

import asyncio
import socket
import sys
from typing import Any, cast

import aiomqtt
from mqtt5 import (
    ConnectPacket,
    PubAckPacket,
    PublishPacket,
    QoS,
    SubAckPacket,
    SubscribePacket,
    TopicFilter,
    read,
)
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

KINDS = ("echo", "echo_paho", "echo_properties", "echo_mqtt5")
_HOST = "127.0.0.1"
# paho's own limit of 20 would make it wait for PUBACKs; the broker's, in mosquitto.conf, is the one that counts.
_MAX_INFLIGHT = 1000
# As long as those of a reply: the header of a detached JWS with a reply topic, and an HS256 signature.
_JWS = "eyJ0b3BpYyI6" * 12 + ".." + "c2lnbmF0dXJl" * 3 + "c2lnbmF0"
_CORRELATION = b"0123456789abcdef"


def asked(kind: str) -> str:
    """The topic below which an echo is asked."""
    return f"bench/{kind}/asked/"


def echoed(kind: str) -> str:
    """The topic below which it answers."""
    return f"bench/{kind}/echoed/"


def _answer_topic(kind: str, topic: str) -> str:
    return echoed(kind) + topic[len(asked(kind)) :]


class _Callback(asyncio.Queue[aiomqtt.Message]):
    """What aiomqtt calls with every message, in place of its queue."""

    client: Any  # paho's
    kind: str

    def put_nowait(self, item: aiomqtt.Message) -> None:
        properties = None if self.kind == "echo" else _reply_properties()
        topic = _answer_topic(self.kind, item.topic.value)
        self.client.publish(topic, item.payload, qos=1, properties=properties)


def _reply_properties() -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    properties.PayloadFormatIndicator = 1
    properties.ContentType = "application/json"
    properties.CorrelationData = _CORRELATION
    properties.UserProperty = ("jws", _JWS)
    return properties


async def _run_aiomqtt(kind: str, port: int) -> None:
    client = aiomqtt.Client(
        _HOST,
        port,
        protocol=aiomqtt.ProtocolVersion.V5,
        queue_type=_Callback,
        max_inflight_messages=_MAX_INFLIGHT,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    _Callback.client = client._client  # noqa: SLF001 - its own publish is a coroutine, which waits for the PUBACK
    _Callback.kind = kind
    async with client:
        await client.subscribe(asked(kind) + "#", qos=1)
        print("subscribed", flush=True)
        await asyncio.get_running_loop().create_future()


def _run_paho(kind: str, port: int) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.max_inflight_messages_set(_MAX_INFLIGHT)
    client.on_socket_open = lambda *given: given[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.on_subscribe = lambda *_: print("subscribed", flush=True)

    def subscribe(*_: object) -> None:
        client.subscribe(asked(kind) + "#", qos=1)

    def answer(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        client.publish(_answer_topic(kind, message.topic), message.payload, qos=1)

    client.on_connect = subscribe
    client.on_message = answer
    client.connect(_HOST, port)
    while client.loop() is MQTTErrorCode.MQTT_ERR_SUCCESS:
        pass


class _OnCodec(asyncio.Protocol):
    def __init__(self, kind: str, ended: asyncio.Future[None]) -> None:
        self._kind = kind
        self._ended = ended
        self._rest = b""
        self._next_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        topics = [TopicFilter(asked(self._kind) + "#", max_qos=QoS.AT_LEAST_ONCE)]
        self._transport.write(ConnectPacket(f"bench-{self._kind}", clean_start=True).write())
        self._transport.write(SubscribePacket(1, topics).write())

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        view, at = memoryview(data), 0
        out: list[bytes] = []
        while at < len(data):
            try:
                packet, size = read(view[at:])
            except IndexError:
                break
            at += size
            if isinstance(packet, PublishPacket):
                out += self._answer(packet)
            elif isinstance(packet, SubAckPacket):
                print("subscribed", flush=True)
        self._rest = data[at:]
        if out:
            self._transport.write(b"".join(out))

    def _answer(self, packet: PublishPacket) -> tuple[bytes, bytes]:
        self._next_id = self._next_id % 65_535 + 1
        answer = PublishPacket(
            _answer_topic(self._kind, packet.topic),
            packet.payload,
            qos=QoS.AT_LEAST_ONCE,
            packet_id=self._next_id,
            payload_format_indicator=1,
            content_type="application/json",
            correlation_data=_CORRELATION,
            user_properties=[("jws", _JWS)],
        )
        return answer.write(), PubAckPacket(packet.packet_id or 0).write()


async def _run_codec(kind: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    await loop.create_connection(lambda: _OnCodec(kind, ended), _HOST, port)
    await ended


def main(kind: str, port: int) -> None:
    """Echo until the process is ended."""
    if kind == "echo_paho":
        _run_paho(kind, port)
    else:
        asyncio.run(_run_codec(kind, port) if kind == "echo_mqtt5" else _run_aiomqtt(kind, port))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
