"""Publishing on the daemon's own topics: as a stranger, with a key of one's own, or with the daemon's."""

import json
from pathlib import Path
from typing import Any

import aiomqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from setpoint_contracts import sign_detached
from setpoint_contracts.keys import thumbprint
from setpoint_contracts.signing import VerifyingKey
from setpointd.keys import Keys
from tests.caller import publish_properties


def key_of(data_dir: Path) -> tuple[str, VerifyingKey]:
    """Take the signing key of a daemon, as a copy of its card has it."""
    keys = Keys.load(data_dir)
    return keys.kid, keys.signing


def strange_key() -> tuple[str, VerifyingKey]:
    """Make a key that no daemon has."""
    key = Ed25519PrivateKey.generate()
    return thumbprint(key.public_key())[:16], VerifyingKey("Ed25519", key)


async def say(
    mqtt: aiomqtt.Client,
    topic: str,
    document: dict[str, Any] | bytes,
    key: tuple[str, VerifyingKey] | None = None,
    *,
    retain: bool = True,
) -> None:
    """Publish a document, signed with ``key`` if there is one."""
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    properties = None
    if key is not None:
        properties = publish_properties(UserProperty=[("jws", sign_detached(payload, topic, *key))])
    await mqtt.publish(topic, payload, qos=1, retain=retain, properties=properties)
