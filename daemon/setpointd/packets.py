"""How long packets are, and how a large one begins, without making one (MQTT 5, sections 1.5, 2.1 and 3.3)."""

from typing import NamedTuple

from setpointd.messages import Outbound

CONTENT_TYPE = "application/json"
JWS = "jws"
"""Name of the user property with the detached signature (wire section 4)."""

ENVELOPE_BYTES = 2048
"""More than all that the packet of a retained document holds beside the config: the rest of it, and the signature."""

_PUBLISH = 3  # the type of the packet, in the upper half of its first byte
_LENGTH = 2  # before every string and every binary value
_PACKET_ID = 2
_IDENTIFIER = 1  # of a property
_PAYLOAD_FORMAT = _IDENTIFIER + 1


def publish_bytes(message: Outbound) -> int:
    """Return the size in bytes of the PUBLISH packet that a message becomes, for CONNACK's Maximum Packet Size."""
    properties = _properties_bytes(message)
    topic = _LENGTH + len(message.topic.encode())
    remaining = topic + _PACKET_ID + _varint_bytes(properties) + properties + len(message.payload)
    return 1 + _varint_bytes(remaining) + remaining


def packet_bytes(data: bytes, at: int = 0) -> int:
    """Return the size in bytes of the packet that begins at ``at``, by its fixed header.

    While that is not all there, one more than there is.
    """
    length = 0
    for place, byte in enumerate(data[at + 1 : at + 5]):
        length |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return 2 + place + length
    return len(data) - at + 1


class PublishStart(NamedTuple):
    """The start of a PUBLISH; ``payload`` is what stands behind topic and packet id, properties included."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int | None


def start_of_publish(data: bytes) -> PublishStart:
    """Read topic and packet id of a PUBLISH (MQTT 5, section 3.3) of which not all is there.

    Raises ``ValueError`` when it is another packet, or is malformed.
    """
    at = next(place for place in range(1, 5) if not data[place] & 0x80) + 1
    topic_end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH])
    qos = data[0] >> 1 & 3
    if data[0] >> 4 != _PUBLISH or qos > 1 or topic_end + _PACKET_ID > len(data):
        raise ValueError
    packet_id = int.from_bytes(data[topic_end : topic_end + _PACKET_ID]) if qos else None
    payload = data[topic_end + (_PACKET_ID if qos else 0) :]
    return PublishStart(data[at + _LENGTH : topic_end].decode(), payload, qos, bool(data[0] & 1), packet_id)


def _properties_bytes(message: Outbound) -> int:
    size = 0
    if message.payload:
        size += _PAYLOAD_FORMAT + _IDENTIFIER + _LENGTH + len(CONTENT_TYPE)
    if message.jws is not None:
        size += _IDENTIFIER + _LENGTH + len(JWS) + _LENGTH + len(message.jws.encode())
    if message.correlation_data is not None:
        size += _IDENTIFIER + _LENGTH + len(message.correlation_data)
    return size


def _varint_bytes(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))
