"""The client on real brokers: its limits, TLS, and one that is stopped."""

import asyncio
import os
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest

from setpointd.broker.mqtt import Client, PublishPacket, TopicFilter
from setpointd.errors import BrokerLostError, PacketTooLargeError
from tests.broker.peer import NOW, loss
from tests.brokers import Broker, LocalBroker
from tests.waiting import DEADLINE_S, eventually


def client(broker: Broker, *, tls: bool, **options: object) -> Client:
    """Make a client for a broker's plain or encrypted port."""
    context = ssl.create_default_context(cafile=broker.ca) if tls else None
    port = broker.tls_port if tls else broker.port
    name = f"c-{time.monotonic_ns()}"
    return Client(broker.host, port, identifier=name, clock=lambda: NOW, ssl_context=context, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("tls", [False, True])
async def test_messages_go_both_ways(broker: Broker, topic_prefix: str, *, tls: bool) -> None:
    """A thousand messages of up to 100 kB are published, come back in order, and are acknowledged; Nagle is off."""
    async with client(broker, tls=tls) as mqtt:
        arrived: list[PublishPacket] = []

        def take(packet: PublishPacket, _received_at: float) -> None:
            arrived.append(packet)
            mqtt.puback(packet.packet_id or 0)

        mqtt.on_message = take
        await mqtt.subscribe(TopicFilter(topic_prefix + "#"))
        payloads = [bytes([n % 256]) * (n * 100) for n in range(1000)]
        await asyncio.gather(*[mqtt.publish(topic_prefix + "t", payload) for payload in payloads])
        await eventually(lambda: len(arrived) == len(payloads), "all have come back")
        assert [packet.payload for packet in arrived] == payloads
        assert mqtt._transport is not None  # noqa: SLF001 - the socket is nobody else's business
        connection = mqtt._transport.get_extra_info("socket")  # noqa: SLF001
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_certificate_that_is_not_trusted_is_named(broker: Broker) -> None:
    """Without its authority a broker's certificate is refused, in the words of TLS."""
    context = ssl.create_default_context()
    mqtt = Client(broker.host, broker.tls_port, identifier="c", clock=lambda: NOW, ssl_context=context)
    with pytest.raises(BrokerLostError, match="certificate is not to be trusted: self"):
        await mqtt.__aenter__()


async def test_the_brokers_limit_is_known_and_kept(certificate: Path, tmp_path: Path) -> None:
    """With `max_packet_size` in Mosquitto, a larger publish fails here, and the connection lasts."""
    broker = LocalBroker(tmp_path, certificate, "allow_anonymous true\nmax_packet_size 2000")
    broker.start()
    try:
        async with client(broker, tls=False) as mqtt:
            assert mqtt.max_packet_bytes == 2000
            with pytest.raises(PacketTooLargeError):
                await mqtt.publish("t", bytes(2000))
            await mqtt.publish("t", bytes(1900))
    finally:
        broker.remove()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("talks", [False, True])
async def test_a_stopped_broker_is_noticed(certificate: Path, tmp_path: Path, *, talks: bool, tls: bool) -> None:
    """SIGSTOP leaves the connection standing; within twice the keep-alive it is given up, whatever we send."""
    broker = LocalBroker(tmp_path, certificate)
    broker.start()
    try:
        async with client(broker, tls=tls, keep_alive=2) as mqtt:
            await mqtt.publish("t", b"")
            os.kill(broker.pid, signal.SIGSTOP)
            begun = time.monotonic()
            while talks and not mqtt.ended.done():
                mqtt.publish("t", bytes(100_000))
                await asyncio.sleep(0.01)  # not to wait for anything, but to let it send
            assert await loss(mqtt) == "the broker does not answer any more"
            assert 2.0 < time.monotonic() - begun < 4.0
    finally:
        broker.remove()
    assert time.monotonic() - begun < DEADLINE_S
