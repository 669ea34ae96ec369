"""A client of MQTT 5 by its conformance statements (appendix B of the standard), with a peer that breaks them."""

import asyncio
import time
from typing import Any

import mqtt5
import pytest

from setpointd.broker.mqtt import Client, PublishPacket, TopicFilter, Will
from setpointd.errors import BrokerLostError, PacketTooLargeError, PublishRefusedError, SessionTakenOverError
from tests.broker.peer import NOW, Peer, Server, connected, loss, message, new_client, serving
from tests.waiting import eventually

Reasons = mqtt5.DisconnectReasonCode


def heard(client: Client) -> list[PublishPacket]:
    """Collect what arrives from now on."""
    packets: list[PublishPacket] = []
    client.on_message = lambda packet, _received_at: packets.append(packet)
    return packets


async def refusal(server: Server, answer: mqtt5.ConnAckPacket | bytes) -> str:
    """Answer a CONNECT and return why the client does not like it."""
    entering = asyncio.create_task(new_client(server).__aenter__())
    peer = await server.peer()
    await peer.receive(mqtt5.ConnectPacket)
    peer.send(answer)
    with pytest.raises(BrokerLostError) as caught:
        await entering
    return str(caught.value)


async def test_connect_says_all_that_it_should() -> None:
    """MQTT-3.1: session expiry, Receive Maximum, user, no clean start, a signed Will; no packet limit."""
    will = Will("h", payload=b"{}", retain=True, content_type="application/json", user_properties=[("jws", "a..b")])
    async with serving() as server:
        client = new_client(
            server, username="u", password=b"p", session_expiry_interval=60, receive_max=7, keep_alive=9, will=will
        )
        entering = asyncio.create_task(client.__aenter__())
        peer = await server.peer()
        connect = await peer.accept(mqtt5.ConnAckPacket(session_present=True, max_packet_size=1234))
        await entering
        assert (client.session_present, client.max_packet_bytes) == (True, 1234)
        await client.disconnect()
        assert (await peer.receive(mqtt5.DisconnectPacket)).reason_code == Reasons.NORMAL_DISCONNECTION
    assert (connect.client_id, connect.username, connect.password) == ("c", "u", b"p")
    assert (connect.clean_start, connect.session_expiry_interval, connect.keep_alive) == (False, 60, 9)
    assert (connect.receive_max, connect.topic_alias_max, connect.max_packet_size) == (7, 0, None)
    assert connect.will is not None
    assert (connect.will.topic, connect.will.user_properties) == ("h", [("jws", "a..b")])


@pytest.mark.parametrize(
    "answer",
    [b"\x20\x02\x00\x01", mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION)],
)
async def test_a_broker_that_only_speaks_3_1_1_is_named(answer: bytes | mqtt5.ConnAckPacket) -> None:
    """MQTT-3.1.2-2: return code 1 of 3.1.1, or 0x84, gives one line that says which version is needed."""
    async with serving() as server:
        assert "does not speak MQTT 5" in await refusal(server, answer)


async def test_a_broker_that_hangs_up_on_connect_is_named() -> None:
    """MQTT-3.1.4-1: a broker may close the connection without a CONNACK; the line asks whether it speaks MQTT 5."""
    async with serving() as server:
        entering = asyncio.create_task(new_client(server).__aenter__())
        (await server.peer()).close()
        with pytest.raises(BrokerLostError, match="does it speak MQTT 5"):
            await entering


async def test_silence_after_connect_has_a_deadline() -> None:
    """MQTT-3.1.4-5 wants a CONNACK; without one the connection is given up."""
    async with serving() as server:
        with pytest.raises(BrokerLostError, match=r"no answer to CONNECT within 0\.2 s"):
            await new_client(server, timeout=0.2).__aenter__()
        assert (await (await server.peer()).receive(mqtt5.ConnectPacket)).client_id == "c"


async def test_no_broker_is_one_line() -> None:
    """Where nobody listens, the system's own words say so."""
    async with serving() as server:
        pass
    with pytest.raises(BrokerLostError, match=r"^Connection refused$"):
        await new_client(server).__aenter__()


Code = mqtt5.ConnAckReasonCode


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (mqtt5.ConnAckPacket(max_qos=mqtt5.QoS.AT_MOST_ONCE), "max_qos"),
        (mqtt5.ConnAckPacket(reason_code=Code.QUALITY_NOT_SUPPORTED), "max_qos"),
        (mqtt5.ConnAckPacket(retain_available=False), "retain_available"),
        (mqtt5.ConnAckPacket(reason_code=Code.RETAIN_NOT_SUPPORTED), "retain_available"),
        (mqtt5.ConnAckPacket(reason_code=Code.NOT_AUTHORIZED), "refuses the connection: not authorized"),
    ],
)
async def test_a_broker_that_will_not_do_is_refused(answer: mqtt5.ConnAckPacket, named: str) -> None:
    """MQTT-3.2.2-9 and -14: without QoS 1 or retained messages the line names the setting, else the broker's reason."""
    async with serving() as server:
        assert named in await refusal(server, answer)


async def test_fragments_of_one_byte_are_put_together() -> None:
    """MQTT-4.2-1: a stream has no packet boundaries, so packets may come a byte at a time."""
    async with connected() as (client, peer):
        packets = heard(client)
        for byte in message(1, payload=b"x" * 300).write() + message(2).write():
            peer.send(bytes([byte]))
            await peer.drain()
            await asyncio.sleep(0)
        await eventually(lambda: len(packets) == 2, "both are there")
        assert [(packet.topic, len(packet.payload)) for packet in packets] == [("t/1", 300), ("t/2", 5)]


async def test_a_large_packet_costs_no_quadratic_time() -> None:
    """A packet of 8 MiB in pieces of 1 KiB is read once, not once for every piece."""
    async with connected() as (client, peer):
        packets = heard(client)
        data = message(1, payload=bytes(8 << 20)).write()
        begun = time.process_time()
        for at in range(0, len(data), 1024):
            client.data_received(data[at : at + 1024])
        assert time.process_time() - begun < 1.0
        assert len(packets[0].payload) == 8 << 20
        peer.send(message(2))
        await eventually(lambda: len(packets) == 2, "the next is read as well")


@pytest.mark.parametrize("piece", [1, 7, 999, 1000, 1001, 20_000])
@pytest.mark.parametrize("qos", [0, 1])
async def test_of_a_huge_message_the_start_is_taken(piece: int, qos: int) -> None:
    """It comes with its topic and id, cut short, so that it can be refused and acknowledged; what follows is read."""
    async with connected(max_buffer=1000) as (client, peer):
        packets = heard(client)
        huge = message(3, qos=qos, payload=b"x" * 30_000).write()
        data = message(1).write() + huge + message(2).write() + huge + huge + message(4).write()
        for at in range(0, len(data), piece):
            client.data_received(data[at : at + piece])
        assert [packet.topic for packet in packets] == ["t/1", "t/3", "t/2", "t/3", "t/3", "t/4"]
        cut = packets[1]
        assert (cut.qos.value, cut.packet_id) == (qos, 4 if qos else None)
        assert cut.payload.endswith(b"x" * 900)
        assert len(cut.payload) < 1000
        client.puback(4)
        assert (await peer.receive(mqtt5.PubAckPacket)).packet_id == 4


async def test_another_packet_beyond_our_bound_ends_the_connection() -> None:
    """Only messages come from others; the rest is the broker's own, which has gone wrong then: 0x95."""
    async with connected(max_buffer=1000) as (client, peer):
        peer.send(mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode(0)], reason_str="x" * 2000).write()[:1500])
        assert (await peer.receive(mqtt5.DisconnectPacket)).reason_code == Reasons.PACKET_TOO_LARGE
        assert "a packet of 20" in await loss(client)


@pytest.mark.parametrize(
    "malformed",
    [
        b"\x00\x00",  # MQTT-2.1.2: a reserved type
        b"\x30\xff\xff\xff\xff\x01",  # MQTT-1.5.5: a length of five bytes
        b"\x36\x06\x00\x01a\x00\x01\x00",  # MQTT-3.3.1-4: QoS 3
        b"\x41\x02\x00\x01",  # MQTT-2.1.3-1: reserved flags
        b"\x30\x03\x00\x09a",  # a topic that is longer than its packet
    ],
)
async def test_a_malformed_packet_ends_the_connection(malformed: bytes) -> None:
    """MQTT-4.13.1-1: the broker is told 0x81, and what came before counts."""
    async with connected() as (client, peer):
        packets = heard(client)
        peer.send(message(), malformed)
        assert (await peer.receive(mqtt5.DisconnectPacket)).reason_code == Reasons.MALFORMED_PACKET
        assert await loss(client) == "the broker sent a malformed packet"
        assert len(packets) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the codec panics, and says so itself
async def test_text_that_is_not_utf8_ends_the_connection() -> None:
    """MQTT-1.5.4-1: it is a malformed packet like others, although the codec panics at it."""
    async with connected() as (client, peer):
        peer.send(b"\x30\x06\x00\x02\xff\xfe\x00x")
        assert (await peer.receive(mqtt5.DisconnectPacket)).reason_code == Reasons.MALFORMED_PACKET
        assert await loss(client) == "the broker sent a malformed packet"


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (message(qos=2), Reasons.PROTOCOL_ERROR),
        (mqtt5.PublishPacket("t", b"", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=0), Reasons.PROTOCOL_ERROR),
        (mqtt5.PublishPacket("", b"", topic_alias=1), Reasons.TOPIC_ALIAS_INVALID),
        (mqtt5.PingReqPacket(), Reasons.PROTOCOL_ERROR),
        (mqtt5.ConnAckPacket(), Reasons.PROTOCOL_ERROR),
    ],
    ids=["MQTT-3.3.4", "MQTT-2.2.1-3", "MQTT-3.3.2-10", "MQTT-3.12", "MQTT-3.2.0-2"],
)
async def test_a_violation_of_the_protocol_ends_the_connection(packet: mqtt5.Packet, reason: Reasons) -> None:
    """MQTT-4.13.2: QoS 2 that nobody asked for, packet id 0, a topic alias, packets that are not for a client."""
    async with connected() as (client, peer):
        packets = heard(client)
        peer.send(packet)
        assert (await peer.receive(mqtt5.DisconnectPacket)).reason_code == reason
        assert "does not keep to MQTT 5" in await loss(client)
        assert packets == []


async def test_packet_ids_wrap_and_pass_by_those_in_use() -> None:
    """MQTT-2.2.1-2: after 65535 comes 1, unless it waits for its PUBACK still."""
    async with connected() as (client, peer):
        held = client.publish("held", b"")
        assert (await peer.receive(mqtt5.PublishPacket)).packet_id == 1
        for turn in range(2, 65_536, 200):
            confirmed = [client.publish("t", b"") for _ in range(turn, min(turn + 200, 65_536))]
            ids = [(await peer.receive(mqtt5.PublishPacket)).packet_id or 0 for _ in confirmed]
            assert ids == list(range(turn, min(turn + 200, 65_536)))
            peer.send(*(mqtt5.PubAckPacket(packet_id) for packet_id in ids))
            await asyncio.gather(*confirmed)
        client.publish("t", b"")
        assert (await peer.receive(mqtt5.PublishPacket)).packet_id == 2
        assert not held.done()


async def test_a_puback_that_nobody_asked_for_is_ignored() -> None:
    """MQTT-4.3.2-2: it confirms nothing, neither what is not there nor what waits to be sent."""
    async with connected(mqtt5.ConnAckPacket(receive_max=1)) as (client, peer):
        sent, waiting = client.publish("a", b""), client.publish("b", b"")
        await peer.receive(mqtt5.PublishPacket)
        peer.send(mqtt5.PubAckPacket(999), mqtt5.PubAckPacket(2), mqtt5.PubAckPacket(1))
        await sent
        assert (await peer.receive(mqtt5.PublishPacket)).topic == "b"
        assert not waiting.done()
        peer.send(mqtt5.PubAckPacket(2))
        await waiting


async def test_a_receive_maximum_of_one_is_kept() -> None:
    """MQTT-3.3.4-7: no second publish before the first one's PUBACK, and they go in order."""
    async with connected(mqtt5.ConnAckPacket(receive_max=1)) as (client, peer):
        confirmed = [client.publish(f"t/{n}", b"x") for n in range(5)]
        for n in range(5):
            publish = await peer.receive(mqtt5.PublishPacket)
            assert publish.topic == f"t/{n}"
            assert client.unconfirmed == 5 - n
            client.puback(99)
            await peer.receive(mqtt5.PubAckPacket)  # a second publish would have come before it
            peer.send(mqtt5.PubAckPacket(publish.packet_id or 0))
            await confirmed[n]
        assert client.unsent_bytes == 0


async def test_what_is_urgent_waits_for_no_other() -> None:
    """While the broker's Receive Maximum holds publishes back, an urgent one is the next to go."""
    async with connected(mqtt5.ConnAckPacket(receive_max=1)) as (client, peer):
        for n in range(3):
            client.publish(f"t/{n}", b"x")
        client.publish("urgent/1", b"x", urgent=True)
        client.publish("urgent/2", b"x", urgent=True)
        topics = []
        for _ in range(5):
            publish = await peer.receive(mqtt5.PublishPacket)
            topics.append(publish.topic)
            peer.send(mqtt5.PubAckPacket(publish.packet_id or 0))
        assert topics == ["t/0", "urgent/1", "urgent/2", "t/1", "t/2"]


async def test_a_refused_publish_fails_alone() -> None:
    """MQTT-4.3.2: a PUBACK with a reason from 0x80 on fails that publish; 0x10, nobody listens, does not."""
    async with connected() as (client, peer):
        refused, nobody = client.publish("a", b""), client.publish("b", b"")
        peer.send(mqtt5.PubAckPacket(1, reason_code=mqtt5.PubAckReasonCode.NOT_AUTHORIZED))
        peer.send(mqtt5.PubAckPacket(2, reason_code=mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS))
        await nobody
        with pytest.raises(PublishRefusedError, match="not authorized"):
            await refused


async def test_a_packet_too_large_for_the_broker_is_never_written() -> None:
    """MQTT-3.2.2-15: it fails with both sizes; one of exactly the limit is sent, at QoS 0 too."""
    async with connected(mqtt5.ConnAckPacket(max_packet_size=100)) as (client, peer):
        with pytest.raises(PacketTooLargeError, match="101 bytes, and the broker takes 100 at most"):
            await client.publish("t", bytes(101 - 8))
        with pytest.raises(PacketTooLargeError, match="101 bytes"):
            await client.publish("t", bytes(101 - 6), qos=mqtt5.QoS.AT_MOST_ONCE)
        client.publish("t", bytes(100 - 8))
        assert len((await peer.receive(mqtt5.PublishPacket)).write()) == 100
        await client.publish("t", bytes(100 - 6), qos=mqtt5.QoS.AT_MOST_ONCE)
        assert len((await peer.receive(mqtt5.PublishPacket)).write()) == 100


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Reasons.PACKET_TOO_LARGE, "the broker closed the connection: packet too large"),
        (Reasons.SERVER_SHUTTING_DOWN, "the broker closed the connection: server shutting down"),
        (Reasons.NORMAL_DISCONNECTION, "the broker closed the connection"),
    ],
)
async def test_the_brokers_disconnect_is_put_into_words(reason: Reasons, said: str) -> None:
    """MQTT-3.14.4: the reason is named, and nothing that waits will be confirmed."""
    async with connected() as (client, peer):
        confirmed = client.publish("t", b"")
        peer.send(mqtt5.DisconnectPacket(reason_code=reason))
        assert await loss(client) == said
        for lost in (confirmed, client.publish("t", b"")):
            with pytest.raises(BrokerLostError):
                await lost


async def test_a_session_taken_over_is_an_error_of_its_own() -> None:
    """MQTT-3.1.4-3: 0x8E is no mere loss, because coming back would push the other one out."""
    async with connected() as (client, peer):
        peer.send(mqtt5.DisconnectPacket(reason_code=Reasons.SESSION_TAKEN_OVER))
        assert "another client took over the session" in await loss(client)
        assert isinstance(client.ended.exception(), SessionTakenOverError)


async def test_the_will_is_called_for_when_something_went_wrong() -> None:
    """MQTT-3.14.4-3: leaving with an error asks the broker to publish the Will."""
    async with serving() as server:
        entering = asyncio.create_task(fail_inside(new_client(server)))
        peer = await server.peer()
        await peer.accept()
        with pytest.raises(ZeroDivisionError):
            await entering
        assert (await peer.receive(mqtt5.DisconnectPacket)).reason_code == Reasons.DISCONNECT_WITH_WILL_MESSAGE


async def fail_inside(client: Client) -> None:
    """Fail while connected."""
    async with client:
        raise ZeroDivisionError


async def quiet(answer: mqtt5.ConnAckPacket | None, client_talks: Any, **options: Any) -> tuple[str, float]:
    """Connect to a peer that says nothing any more; why and after how many seconds that is the end."""
    async with connected(answer, **options) as (client, peer):
        begun = time.monotonic()
        talking = asyncio.create_task(client_talks(client, peer))
        said = await loss(client)
        talking.cancel()
        return said, time.monotonic() - begun


async def keep_silent(_client: Client, peer: Peer) -> None:
    """Take what comes and answer nothing."""
    await peer.closed()


async def keep_talking(client: Client, peer: Peer) -> None:
    """Publish all the while; the peer takes it, and answers nothing."""
    taking = asyncio.create_task(peer.closed())
    while not client.ended.done():
        client.publish("t", b"x")
        await asyncio.sleep(0.01)
    await taking


async def keep_pushing(client: Client, peer: Peer) -> None:
    """Publish more than the peer, which has stopped reading, can be sent."""
    peer.pause()
    while not client.ended.done():
        client.publish("t", bytes(100_000))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("client_talks", [keep_silent, keep_talking, keep_pushing])
async def test_a_broker_that_falls_silent_is_noticed(client_talks: Any) -> None:
    """MQTT-3.1.2.10: without an answer to PINGREQ the end comes within twice the keep-alive, whatever we send."""
    said, after = await quiet(None, client_talks, keep_alive=1)
    assert said == "the broker does not answer any more"
    assert 1.0 < after < 2.0


async def test_the_brokers_keep_alive_counts() -> None:
    """MQTT-3.1.2-21: CONNACK's Server Keep Alive is used instead of a longer one of ours."""
    said, after = await quiet(mqtt5.ConnAckPacket(server_keep_alive=1), keep_silent, keep_alive=600)
    assert said == "the broker does not answer any more"
    assert 1.0 < after < 2.0


async def answer_pings_only(client: Client, peer: Peer) -> None:
    """Publish once; the peer answers pings and nothing else."""
    client.publish("t", b"x")
    await peer.answer_pings()


async def test_a_publish_that_is_never_confirmed_ends_the_connection() -> None:
    """MQTT-4.3.2-2 wants a PUBACK; without one the connection is given up although pings are answered."""
    said, after = await quiet(None, answer_pings_only, keep_alive=1, confirm_timeout=1.0)
    assert said == "the broker has not confirmed a message for 1 s"
    assert after < 3.0


async def test_pings_keep_a_quiet_connection() -> None:
    """MQTT-3.1.2-20: nothing is said for three times the keep-alive but pings, and the connection lasts."""
    async with connected(keep_alive=1) as (client, peer):
        pinging = asyncio.create_task(peer.answer_pings())
        done, _ = await asyncio.wait([client.ended], timeout=3.0)
        assert not done
        pinging.cancel()


async def test_a_subscription_says_what_it_wants() -> None:
    """MQTT-3.8: QoS, No Local, Retain As Published and Retain Handling are those that were asked for."""
    async with connected() as (client, peer):
        wanted = TopicFilter("a/#", max_qos=mqtt5.QoS.AT_LEAST_ONCE, no_local=True, retain_as_published=True)
        subscribing = asyncio.create_task(client.subscribe(wanted))
        packet = await peer.receive(mqtt5.SubscribePacket)
        assert packet.topic_filters == [wanted]
        peer.send(mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]))
        await subscribing


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ([mqtt5.SubAckReasonCode.NOT_AUTHORIZED], r"refuses the daemon's subscriptions \(not authorized\)"),
        ([], "the connection was lost"),
        (None, "no answer to SUBSCRIBE within 1 s"),
    ],
)
async def test_a_subscription_that_is_not_granted_fails(codes: list[Any] | None, said: str) -> None:
    """MQTT-3.9.3: a refusal, a SUBACK that does not fit, and none at all end in one line."""
    async with connected(timeout=1.0) as (client, peer):
        subscribing = asyncio.create_task(client.subscribe(TopicFilter("a")))
        packet = await peer.receive(mqtt5.SubscribePacket)
        if codes is not None:
            peer.send(mqtt5.SubAckPacket(packet.packet_id, codes))
        with pytest.raises(BrokerLostError, match=said):
            await subscribing


async def test_a_message_carries_the_time_at_which_it_arrived() -> None:
    """Held back by a pause, it keeps the time of its arrival."""
    now = NOW

    async with connected(clock=lambda: now) as (client, peer):
        times: list[float] = []

        def take(_packet: PublishPacket, received_at: float) -> None:
            times.append(received_at)
            client.pause()

        client.on_message = take
        peer.send(message(0), message(1))
        await eventually(lambda: times, "the first is taken")
        now += 60
        client.resume()
        await eventually(lambda: len(times) == 2, "the second is taken")
        assert times == [NOW, NOW]


async def test_what_is_written_in_one_turn_goes_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten PUBACKs of one turn of the event loop are one write."""
    async with connected() as (client, peer):
        writes: list[bytes] = []
        transport = client._transport  # noqa: SLF001 - what it is given is to be seen
        assert transport is not None
        write = transport.write

        def note(data: bytes) -> None:
            writes.append(data)
            write(data)

        monkeypatch.setattr(transport, "write", note)
        for packet_id in range(1, 11):
            client.puback(packet_id)
        assert [(await peer.receive(mqtt5.PubAckPacket)).packet_id for _ in range(10)] == list(range(1, 11))
        assert len(writes) == 1
