"""How long packets are, without reading or making one (MQTT 5, sections 1.5, 2.1 and 3.3)."""

from setpointd.messages import Outbound

CONTENT_TYPE = "application/json"
JWS = "jws"
"""Name of the user property with the detached signature (wire section 4)."""

ENVELOPE_BYTES = 2048
"""More than all that the packet of a retained document holds beside the config: the rest of it, and the signature."""

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
