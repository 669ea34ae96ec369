"""The brokers that the other integration tests stand on, and the configuration that they load."""

import asyncio
import queue
import shutil

import aiomqtt
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.brokers import Broker, BrokerError, answers_connect, choose_kind

ANSWER_TIMEOUT_S = 10.0


def client(broker: Broker, client_id: str) -> aiomqtt.Client:
    """Make an MQTT 5 client whose session outlives its connection."""
    connect = Properties(PacketTypes.CONNECT)
    connect.SessionExpiryInterval = 300
    return aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=connect,
    )


async def next_payload(mqtt: aiomqtt.Client) -> object:
    """Wait for one message."""
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        return (await anext(mqtt.messages)).payload


async def test_the_shared_broker_carries_a_message(broker: Broker, topic_prefix: str) -> None:
    """What one client publishes, another that has subscribed receives."""
    async with client(broker, topic_prefix) as mqtt:
        await mqtt.subscribe(topic_prefix + "a", qos=1)
        await mqtt.publish(topic_prefix + "a", b"hello", qos=1)
        assert await next_payload(mqtt) == b"hello"


async def test_a_stopped_broker_returns_on_its_port_with_what_it_held(own_broker: Broker) -> None:
    """Over stop and start the port stays, and so do sessions, the messages queued for them, and retained messages."""
    async with client(own_broker, "daemon") as mqtt:
        await mqtt.subscribe("commands", qos=1)
    async with client(own_broker, "caller") as mqtt:
        await mqtt.publish("commands", b"queued", qos=1)
        await mqtt.publish("state", b"kept", qos=1, retain=True)
    port = own_broker.port

    own_broker.stop()
    assert not answers_connect(own_broker.host, port)
    own_broker.start()

    assert own_broker.port == port
    async with client(own_broker, "daemon") as mqtt:
        assert await next_payload(mqtt) == b"queued"
        await mqtt.subscribe("state", qos=1)
        assert await next_payload(mqtt) == b"kept"


def test_a_killed_broker_returns_on_its_port(own_broker: Broker) -> None:
    """A broker that was taken away by force can be started again, and listens where it did."""
    own_broker.kill()
    assert not answers_connect(own_broker.host, own_broker.port)
    own_broker.start()
    assert answers_connect(own_broker.host, own_broker.port)


def test_the_broker_runs_with_the_projects_limits(broker: Broker) -> None:
    """CONNACK tells the limits of mosquitto/mosquitto.conf, so the file was loaded."""
    connacks: queue.Queue[Properties] = queue.Queue()
    mqtt = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    mqtt.on_connect = lambda *arguments: connacks.put(arguments[4])
    mqtt.connect(broker.host, broker.port)
    mqtt.loop_start()
    limits = vars(connacks.get(timeout=ANSWER_TIMEOUT_S))
    mqtt.disconnect()
    mqtt.loop_stop()
    assert limits["MaximumPacketSize"] == 16_777_216
    assert limits["ReceiveMaximum"] == 1000


def test_without_engine_or_mosquitto_the_tests_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with neither kind of broker gets one sentence that names both ways out."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(BrokerError, match="start a Docker engine, or install mosquitto"):
        choose_kind("auto")
