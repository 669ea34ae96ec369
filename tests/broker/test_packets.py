"""The size of a PUBLISH packet, against the packet that the codec makes."""

import mqtt5
from hypothesis import example, given
from hypothesis import strategies as st

from setpointd.messages import Outbound
from setpointd.packets import CONTENT_TYPE, packet_bytes, publish_bytes

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), max_size=200)
messages = st.builds(
    Outbound,
    topic=text.filter(bool),
    payload=st.one_of(st.binary(max_size=300), st.integers(0, 2_200_000).map(bytes)),
    jws=st.none() | text,
    retain=st.booleans(),
    correlation_data=st.none() | st.binary(max_size=300),
)


def packet(message: Outbound) -> bytes:
    """Make the packet as the session does."""
    return mqtt5.PublishPacket(
        message.topic,
        message.payload,
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=1,
        retain=message.retain,
        payload_format_indicator=1 if message.payload else 0,
        content_type=CONTENT_TYPE if message.payload else None,
        correlation_data=message.correlation_data,
        user_properties=None if message.jws is None else [("jws", message.jws)],
    ).write()


@given(messages)
@example(Outbound("t", b""))
@example(Outbound("t", bytes(127 - 27)))
@example(Outbound("t", bytes(128 - 27)))
def test_the_size_is_that_of_the_packet(message: Outbound) -> None:
    """For any message, to the byte; and the fixed header says the same."""
    made = packet(message)
    assert publish_bytes(message) == len(made) == packet_bytes(made)
