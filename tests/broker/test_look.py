"""Looking at what is on the broker, on real ones and on one that only speaks 3.1.1."""

import asyncio
import json
import secrets
import time
from pathlib import Path

import aiomqtt
import mqtt5
import pytest

from setpointd.broker.look import Retained, look
from setpointd.broker.session import connect
from setpointd.broker.waiting import wait_for
from setpointd.errors import BrokerLostError
from setpointd.messages import Outbound
from setpointd.settings import Settings
from tests.broker.peer import Peer, serving
from tests.brokers import Broker
from tests.daemon import broker_settings
from tests.waiting import DEADLINE_S

DOCUMENTS = 10_000


@pytest.fixture
def settings(broker: Broker, tmp_path: Path) -> Settings:
    """Make settings for the shared broker, with a client id of the test's own."""
    return Settings(data_dir=tmp_path, client_id=f"look-{secrets.token_hex(4)}", **broker_settings(broker))


def other_client(broker: Broker) -> aiomqtt.Client:
    """Make somebody else, on the plain port."""
    return aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5)


async def take_look(peer: Peer) -> str:
    """Do a broker's part up to the marker, and return the marker's topic."""
    await peer.accept()
    subscribe = await peer.receive(mqtt5.SubscribePacket)
    granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE] * len(subscribe.topic_filters)
    peer.send(mqtt5.SubAckPacket(subscribe.packet_id, granted))
    return (await peer.receive(mqtt5.PublishPacket)).topic


def health(timestamp: str) -> bytes:
    """Make as much of a health document as counts here."""
    return json.dumps({"ok": True, "timestamp": timestamp}).encode()


async def test_it_finds_documents_and_their_signatures(settings: Settings, topic_prefix: str) -> None:
    """Each retained message below the filters comes with its payload and its `jws`, which may be missing."""
    signed = Outbound(f"{topic_prefix}a", b"signed", "h..s", retain=True)
    bare = Outbound(f"{topic_prefix}b", b"bare", retain=True)
    async with connect(settings, Outbound(f"{topic_prefix}will", b"{}"), time.time) as session:
        await asyncio.gather(session.publish(signed), session.publish(bare))
    found = await look(settings, [f"{topic_prefix}a", f"{topic_prefix}+"], f"{topic_prefix}look")
    assert found == {signed.topic: Retained(b"signed", "h..s"), bare.topic: Retained(b"bare", None)}


async def test_ten_thousand_documents_take_well_under_two_seconds(settings: Settings, topic_prefix: str) -> None:
    """A start on a broker with that many services is not held up by looking at them."""
    async with connect(settings, Outbound(f"{topic_prefix}will", b"{}"), time.time) as session:
        for begin in range(0, DOCUMENTS, 500):
            batch = [
                Outbound(f"{topic_prefix}u/{number}", b"x" * 200, "j" * 120, retain=True)
                for number in range(begin, begin + 500)
            ]
            await asyncio.gather(*[session.publish(message) for message in batch])
    begun = time.process_time()  # of the processor, or a busy machine would count
    found = await look(settings, [f"{topic_prefix}u/+"], f"{topic_prefix}look")
    assert time.process_time() - begun < 2.0
    assert len(found) == DOCUMENTS


async def test_it_waits_for_as_long_as_messages_come() -> None:
    """The patience is for the time without a message, not for all of it."""
    async with serving(tls=False) as server:
        settings = Settings(data_dir=Path("/"), broker=f"mqtt://127.0.0.1:{server.port}")
        looking = asyncio.create_task(look(settings, ["a/+"], "end", patience_s=0.5))
        peer = await server.peer()
        end = await take_look(peer)
        for number in range(10):
            await asyncio.sleep(0.1)  # the pauses are what this is about
            peer.send(mqtt5.PublishPacket(f"a/{number}", b"x", retain=True))
        peer.send(mqtt5.PublishPacket(end, b""))
        assert len(await looking) == 10
        looking = asyncio.create_task(look(settings, ["a/+"], "end", patience_s=0.2))
        await take_look(await server.peer())
        with pytest.raises(BrokerLostError, match="does not let the daemon read"):
            await looking


async def test_a_broker_that_goes_away_ends_the_look() -> None:
    """What was seen until then is not taken for all that there is, and nobody waits for the rest."""
    async with serving(tls=False) as server:
        settings = Settings(data_dir=Path("/"), broker=f"mqtt://127.0.0.1:{server.port}")
        looking = asyncio.create_task(look(settings, ["a/+"], "end", patience_s=60))
        peer = await server.peer()
        await take_look(peer)
        peer.send(mqtt5.PublishPacket("a/1", b"x", retain=True))
        peer.send(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN))
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(BrokerLostError, match="shutting down"):
                await looking


async def test_a_change_ends_the_waiting(settings: Settings, broker: Broker, topic_prefix: str) -> None:
    """What is known already is passed by; anything else, retained or new, is a change."""
    topic = f"{topic_prefix}health"
    async with other_client(broker) as other:
        await other.publish(topic, b"known", qos=1, retain=True)
        waiting = asyncio.create_task(wait_for(settings, topic, is_new))
        await other.publish(topic, b"known", qos=1)
        await other.publish(topic, b"new", qos=1, retain=True)
        assert await waiting == Retained(b"new", None)
        assert await wait_for(settings, topic, is_new) == Retained(b"new", None)


def is_new(said: Retained) -> bool:
    """Wait for anything but what is known."""
    return said.payload != b"known"


async def test_a_lost_broker_ends_the_waiting(own_broker: Broker, tmp_path: Path) -> None:
    """Waiting for a change raises when the broker goes away, and logs nothing of its own."""
    settings = Settings(data_dir=tmp_path, **broker_settings(own_broker))
    listening = asyncio.Event()

    def nothing(_said: Retained) -> bool:
        listening.set()
        return False

    async with other_client(own_broker) as other:
        await other.publish("t", b"known", qos=1, retain=True)
    waiting = asyncio.create_task(wait_for(settings, "t", nothing))
    await listening.wait()
    await asyncio.to_thread(own_broker.kill)
    with pytest.raises(BrokerLostError):
        await waiting


async def test_who_is_asked_and_answers_is_heard(settings: Settings, broker: Broker, topic_prefix: str) -> None:
    """The question is published once the answer would be heard, and what is no answer is passed over."""
    ask, topic = f"{topic_prefix}ask", f"{topic_prefix}health"
    async with other_client(broker) as daemon:
        await daemon.publish(topic, b"known", qos=1, retain=True)
        await daemon.subscribe(ask, qos=1)
        asking = asyncio.create_task(wait_for(settings, topic, is_answer, ask=ask, wait_s=20))
        await anext(daemon.messages)
        for payload in (b"", b"[]", b"known", b"answer"):
            await daemon.publish(topic, payload, qos=1)
        assert await asking == Retained(b"answer", None)


def is_answer(said: Retained) -> bool:
    """Wait for the answer."""
    return said.payload == b"answer"


async def test_who_does_not_answer_is_given_up(settings: Settings, topic_prefix: str) -> None:
    """After the wait there is nothing, and no error."""
    begun = time.monotonic()
    ask, topic = f"{topic_prefix}ask", f"{topic_prefix}health"
    assert await wait_for(settings, topic, is_answer, ask=ask, wait_s=0.3) is None
    assert 0.3 <= time.monotonic() - begun < 10


async def test_an_answer_that_nobody_waits_for_any_more_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A daemon that is stopped while it subscribes says nothing of what the broker still answers, whenever it comes."""
    async with serving(tls=False) as server:
        settings = Settings(data_dir=Path("/"), broker=f"mqtt://127.0.0.1:{server.port}")
        for turns in range(6):
            waiting = asyncio.create_task(wait_for(settings, "t", is_answer))
            peer = await server.peer()
            await peer.accept()
            subscribe = await peer.receive(mqtt5.SubscribePacket)
            waiting.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
            peer.send(mqtt5.SubAckPacket(subscribe.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]))
            with pytest.raises(asyncio.CancelledError):
                await waiting
    assert not caplog.records


async def test_a_broker_that_only_speaks_3_1_1_is_named() -> None:
    """The daemon looks before it connects, so it is here that it meets one; the line is the session's."""
    async with serving(tls=False) as server:
        settings = Settings(data_dir=Path("/"), broker=f"mqtt://127.0.0.1:{server.port}")
        looking = asyncio.create_task(look(settings, ["a"], "end"))
        (await server.peer()).send(b"\x20\x02\x00\x01")
        with pytest.raises(BrokerLostError, match="does not speak MQTT 5"):
            await looking
