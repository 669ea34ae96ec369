"""The command session with a peer that does what a broker should not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import mqtt5
import pytest

from setpointd.broker import session as command_session
from setpointd.broker.session import MAX_AT_WORK, Session
from setpointd.errors import BrokerLostError, SessionTakenOverError
from setpointd.messages import Handle, Inbound, Outbound
from tests.broker.peer import NOW, Peer, connected, message
from tests.waiting import eventually


class Gate:
    """A handler that holds every message until it is let through, and answers with what it was told."""

    def __init__(self, answer: Callable[[Inbound], Outbound | None] = lambda _: None) -> None:
        self.inbound: list[Inbound] = []
        self.open = asyncio.Event()
        self._answer = answer

    async def __call__(self, inbound: Inbound) -> Outbound | None:
        """Hold it."""
        self.inbound.append(inbound)
        await self.open.wait()
        return self._answer(inbound)


@asynccontextmanager
async def serving(
    handle: Handle,
    answer: mqtt5.ConnAckPacket | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Session, Peer, "asyncio.Task[None]"]]:
    """Serve a peer's messages."""
    async with connected(answer, **options) as (client, peer):
        session = Session(client)
        task = asyncio.create_task(session.serve(handle))
        await asyncio.sleep(0)
        yield session, peer, task
        session.stop()
        peer.close()
        await asyncio.wait([task])
        assert task.done()


def echo(inbound: Inbound) -> Outbound:
    """Answer with the same bytes."""
    return Outbound("r/" + inbound.topic, inbound.payload)


async def answer_at_once(inbound: Inbound) -> Outbound:
    """Answer with the same bytes, at once."""
    return echo(inbound)


async def test_a_message_is_handed_over_with_all_it_has() -> None:
    """Topic, payload, retain flag, time of arrival, and the properties that count."""
    gate = Gate()
    async with serving(gate) as (_, peer, _task):
        peer.send(
            mqtt5.PublishPacket(
                "t", b"x", retain=True, response_topic="r", correlation_data=b"c", message_expiry_interval=9
            )
        )
        await eventually(lambda: gate.inbound, "it arrives")
        assert gate.inbound == [Inbound("t", b"x", True, NOW, "r", b"c", 9)]  # noqa: FBT003 - its own order
        gate.open.set()


async def test_acknowledged_in_order_and_after_the_replys_puback() -> None:
    """MQTT-4.6.0-2: the second is done first; its PUBACK comes second, and none before its reply is confirmed."""
    first_may_end = asyncio.Event()

    async def handle(inbound: Inbound) -> Outbound:
        if inbound.topic == "t/0":
            await first_may_end.wait()
        return echo(inbound)

    async with serving(handle) as (session, peer, _task):
        peer.send(message(0), message(1))
        second = await peer.receive(mqtt5.PublishPacket)
        assert second.topic == "r/t/1"
        peer.send(mqtt5.PubAckPacket(second.packet_id or 0))
        first_may_end.set()
        first = await peer.receive(mqtt5.PublishPacket)
        assert first.topic == "r/t/0"
        session.publish(Outbound("marker", b""))
        marker = await peer.receive(mqtt5.PublishPacket)  # a PUBACK that came too early would be here
        assert marker.topic == "marker"
        peer.send(mqtt5.PubAckPacket(first.packet_id or 0))
        assert [(await peer.receive(mqtt5.PubAckPacket)).packet_id for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("reason", [mqtt5.PubAckReasonCode.NOT_AUTHORIZED, mqtt5.PubAckReasonCode.QUOTA_EXCEEDED])
async def test_a_refused_reply_is_acknowledged(reason: mqtt5.PubAckReasonCode) -> None:
    """Nothing more can come of a message whose reply the broker refuses, so it must not come again."""
    async with serving(answer_at_once) as (_, peer, _task):
        peer.send(message())
        reply = await peer.receive(mqtt5.PublishPacket)
        peer.send(mqtt5.PubAckPacket(reply.packet_id or 0, reason_code=reason))
        assert (await peer.receive(mqtt5.PubAckPacket)).packet_id == 1


async def test_a_handler_that_fails_does_not_hold_up_the_others() -> None:
    """An inner failure is logged; the message is acknowledged, and so are those behind it."""

    async def handle(inbound: Inbound) -> Outbound | None:
        if inbound.topic == "t/0":
            raise ZeroDivisionError
        return None

    async with serving(handle) as (_, peer, _task):
        peer.send(message(0), message(1))
        assert [(await peer.receive(mqtt5.PubAckPacket)).packet_id for _ in range(2)] == [1, 2]


async def test_messages_before_serving_are_kept_in_order() -> None:
    """What a resumed session brings before `serve` begins is worked off first."""
    async with connected() as (client, peer):
        session = Session(client)
        subscribing = asyncio.create_task(session.subscribe(["t/#"]))
        packet = await peer.receive(mqtt5.SubscribePacket)
        peer.send(message(0), message(1))
        peer.send(mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]))
        await subscribing
        gate = Gate()
        gate.open.set()
        serving = asyncio.create_task(session.serve(gate))
        assert [(await peer.receive(mqtt5.PubAckPacket)).packet_id for _ in range(2)] == [1, 2]
        assert [inbound.topic for inbound in gate.inbound] == ["t/0", "t/1"]
        session.stop()
        await serving


async def turns() -> None:
    """Let the event loop go round so often that whatever is ready would be taken."""
    for _ in range(1000):
        await asyncio.sleep(0)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("qos", [0, 1])
async def test_a_broker_that_sends_more_than_it_may_is_held_back(qos: int, *, tls: bool) -> None:
    """Beyond so many at work nothing is read, so that TCP holds it back, over TLS too; then all are worked off."""
    count, payload = 20_000, bytes(1000)
    gate = Gate()
    async with serving(gate, tls=tls, receive_max=10) as (_, peer, _task):
        for number in range(count):
            peer.send(message(number, qos=qos, payload=payload))
            if number % 100 == 0:
                await asyncio.sleep(0)  # or the peer's TLS would hand all of it on where it cannot be seen
        await eventually(lambda: len(gate.inbound) == MAX_AT_WORK, "so many are at work")
        await turns()
        assert len(gate.inbound) == MAX_AT_WORK
        assert peer.unsent > count * len(payload) // 4
        gate.open.set()
        await eventually(lambda: len(gate.inbound) == count, "all are worked off")
        if qos:
            assert [(await peer.receive(mqtt5.PubAckPacket)).packet_id for _ in range(count)] == list(
                range(1, count + 1)
            )


async def test_qos_0_is_dropped_while_the_broker_confirms_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies that wait for their turn bound what is taken at QoS 0; QoS 1 is still answered, and later QoS 0 again."""
    monkeypatch.setattr(command_session, "MAX_UNCONFIRMED", 10)
    async with serving(answer_at_once, mqtt5.ConnAckPacket(receive_max=1)) as (session, peer, _task):
        client = session._client  # noqa: SLF001 - what waits there is nobody else's business
        for _ in range(10):
            peer.send(message(0, qos=0))
            await asyncio.sleep(0)
        ids = [(await peer.receive(mqtt5.PublishPacket)).packet_id or 0]
        await eventually(lambda: client.unconfirmed == 10, "ten wait")
        peer.send(message(1, qos=0), message(2, qos=0), message(3))
        await eventually(lambda: client.unconfirmed == 11, "the one of QoS 1 waits as well")
        assert session.dropped == 2
        topics = []
        for _ in range(10):
            peer.send(mqtt5.PubAckPacket(ids[-1]))
            reply = await peer.receive(mqtt5.PublishPacket)
            ids.append(reply.packet_id or 0)
            topics.append(reply.topic)
        assert topics == ["r/t/0"] * 9 + ["r/t/3"]
        peer.send(mqtt5.PubAckPacket(ids[-1]), message(4, qos=0))
        assert (await peer.receive(mqtt5.PubAckPacket)).packet_id == 4
        assert (await peer.receive(mqtt5.PublishPacket)).topic == "r/t/4"


async def test_nothing_is_read_while_the_broker_takes_nothing() -> None:
    """A broker that sends commands and does not read replies is not read either: what waits here is bounded."""
    replies = 0

    async def handle(_: Inbound) -> Outbound:
        nonlocal replies
        replies += 1
        return Outbound("r", bytes(100_000))

    async with serving(handle) as (session, peer, _task):
        peer.pause()
        for number in range(20_000):
            peer.send(message(number, qos=0, payload=bytes(1000)))
        await eventually(lambda: session._client.held_back, "it reads no more")  # noqa: SLF001
        taken = replies
        await turns()
        assert replies - taken < MAX_AT_WORK
        assert replies < 5_000


async def test_serving_ends_with_the_connection() -> None:
    """The loss is raised as what it is, and replies that wait for their PUBACK do not hold it up."""
    async with serving(answer_at_once) as (_, peer, task):
        peer.send(message())
        await peer.receive(mqtt5.PublishPacket)
        peer.send(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER))
        with pytest.raises(SessionTakenOverError):
            await task


async def test_stopping_settles_what_was_taken() -> None:
    """After `stop` nothing more is taken; what was taken is answered and acknowledged, then `serve` returns."""
    gate = Gate(echo)
    async with serving(gate) as (session, peer, task):
        peer.send(message(0))
        await eventually(lambda: gate.inbound, "it arrives")
        session.stop()
        peer.send(message(1))
        gate.open.set()
        reply = await peer.receive(mqtt5.PublishPacket)
        assert not task.done()
        peer.send(mqtt5.PubAckPacket(reply.packet_id or 0))
        assert (await peer.receive(mqtt5.PubAckPacket)).packet_id == 1
        await task
        assert len(gate.inbound) == 1


async def test_a_reply_too_large_for_the_broker_costs_nobody_else_the_connection() -> None:
    """It fails here, its command is acknowledged, and the next one is answered."""
    answers = {"t/0": bytes(1000), "t/1": b"small"}

    async def handle(inbound: Inbound) -> Outbound:
        return Outbound("r", answers[inbound.topic])

    async with serving(handle, mqtt5.ConnAckPacket(max_packet_size=500)) as (session, peer, _task):
        assert session.max_packet_bytes == 500
        peer.send(message(0), message(1))
        assert (await peer.receive(mqtt5.PubAckPacket)).packet_id == 1
        assert (await peer.receive(mqtt5.PublishPacket)).payload == b"small"


async def test_publishing_after_the_end_fails() -> None:
    """A confirmation of what could not be published is there at once."""
    async with serving(answer_at_once) as (session, peer, task):
        peer.close()
        with pytest.raises(BrokerLostError):
            await task
        with pytest.raises(BrokerLostError):
            await session.publish(Outbound("t", b""))
