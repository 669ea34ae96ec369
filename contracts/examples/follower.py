"""Follow configs as contracts/following.md says. An example to read and to take over.

    follower.py VECTORS.json                            go through a file of vectors/, e.g. followers.json
    follower.py mqtt://HOST:PORT STATE.json [PREFIX]    follow a broker, and go on from STATE.json the next time

Both print one line of JSON for each message: what became of it, and what is held then. A broker that is lost ends it;
whatever starts it again loses nothing, because what it holds is in the file and what is newer is retained.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiomqtt

from setpoint_contracts import Topics, strictjson, verify_detached
from setpoint_contracts.keys import public_key
from setpoint_contracts.numbers import MAX_INTEGER
from setpoint_contracts.signing import JWS_USER_PROPERTY, VerifyingKey

Json = dict[str, Any]


class Follower:
    """Knows of every service the newest document that a pinned key signed, tombstones too. No network, file or clock.

    ``pinned`` are public Ed25519 JWKs; with none, the key of the first key set is pinned. ``holds`` maps a service to
    its document. Both may be looked at and kept after every message, to make a new ``Follower`` of.
    """

    def __init__(self, pinned: list[Json], holds: dict[str, Json], topics: Topics) -> None:
        self.pinned = list(pinned)
        self.holds = dict(holds)
        self._topics = topics

    def take(self, topic: str, payload: bytes, jws: str | None) -> str:
        """Take a message, retained or not; ``jws`` is its user property. Returns its outcome, a word of the table."""
        if not payload:
            return "empty"
        if jws is None:
            return "unsigned"
        if topic == self._topics.keys:
            return self._take_keys(topic, payload, jws)
        if not self.pinned:
            return "no_key"
        if not any(is_signed(jwk, topic, payload, jws) for jwk in self.pinned):
            return "bad_signature"
        return self._take_document(self._topics.updated_service(topic), _read(payload))

    def _take_keys(self, topic: str, payload: bytes, jws: str) -> str:
        if self.pinned:
            return "known_key" if any(is_signed(jwk, topic, payload, jws) for jwk in self.pinned) else "other_key"
        found = _read(payload)
        keys = found.get("keys") if isinstance(found, dict) else None
        signers = [jwk for jwk in keys if is_signed(jwk, topic, payload, jws)] if isinstance(keys, list) else []
        self.pinned = [{name: signers[0][name] for name in ("kty", "crv", "kid", "x")}] if signers else []
        return "pinned" if signers else "other_key"

    def _take_document(self, service: str | None, document: Any) -> str:
        if service is None or not _is_document(document, service):
            return "bad_document"
        held = self.holds.get(service)
        if held is not None and _order(document) <= _order(held):
            return "same" if _order(document) == _order(held) else "older"
        self.holds[service] = document
        return "taken"


def _order(document: Json) -> tuple[int, int]:
    return document["epoch"], document["revision"]


def is_signed(jwk: Any, topic: str, payload: bytes, jws: str) -> bool:
    """Whether this key made the signature; False also for what is no public Ed25519 JWK."""
    try:
        kind, kid, x = (jwk["kty"], jwk["crv"]), jwk["kid"], str(jwk["x"])
        key = public_key(x)
    except (TypeError, KeyError, ValueError):
        return False
    return kind == ("OKP", "Ed25519") and verify_detached(payload, topic, jws, kid, VerifyingKey("Ed25519", key))


def _read(payload: bytes) -> Any:
    try:
        return strictjson.loads(payload)
    except strictjson.InvalidJsonError:
        return None


def _is_document(document: Any, service: str) -> bool:
    """Whether it says which version of this service it is, and either its config or that it is deleted."""
    if not isinstance(document, dict) or document.get("service") != service:
        return False
    if not all(_is_count(document.get(name)) for name in ("version", "revision", "epoch")):
        return False
    if "deleted" in document:
        return document["deleted"] is True and "config" not in document
    return isinstance(document.get("config"), dict)


def _is_count(value: Any) -> bool:
    # 5.0 is the integer 5 (wire section 2), and true is none.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= MAX_INTEGER and value % 1 == 0


def go_through(path: Path) -> None:
    """Print for each message of a file of vectors what became of it."""
    for sequence in json.loads(path.read_text("utf-8"))["sequences"]:
        follower = Follower(sequence["pinned"], sequence["holds"], Topics(sequence.get("topic_prefix", "")))
        for message in sequence["messages"]:
            outcome = follower.take(message["topic"], message["payload"].encode(), message.get("jws"))
            _print(sequence=sequence["name"], outcome=outcome, holds=follower.holds)


async def follow(url: str, state: Path, topics: Topics) -> None:
    """Follow all services on a broker, until it is lost (``aiomqtt.MqttError``)."""
    broker = urlsplit(url)
    follower = load(state, topics)
    mqtt5 = aiomqtt.ProtocolVersion.V5  # 3.1.1 has no user properties, so no signatures
    async with aiomqtt.Client(broker.hostname or "127.0.0.1", broker.port or 1883, protocol=mqtt5) as client:
        await client.subscribe(topics.keys, qos=1)
        if follower.pinned:  # documents are asked for when there is a key to check them with: they are retained
            await client.subscribe(topics.all_updated, qos=1)
        async for message in client.messages:
            outcome = follower.take(str(message.topic), bytes(message.payload), signature_of(message))
            if outcome in {"taken", "pinned"}:
                save(state, follower)  # before anybody acts on it
            if outcome == "pinned":
                await client.subscribe(topics.all_updated, qos=1)
            _print(topic=str(message.topic), outcome=outcome, holds=follower.holds)


def signature_of(message: Any) -> str | None:
    """Return the ``jws`` of a message of aiomqtt or paho; None when there is none, or more than one."""
    properties = getattr(message.properties, "UserProperty", [])
    signatures = [value for name, value in properties if name == JWS_USER_PROPERTY]
    return signatures[0] if len(signatures) == 1 else None


def load(state: Path, topics: Topics) -> Follower:
    """Make a follower that goes on from a file; one that knows nothing if the file is not there yet."""
    stored = json.loads(state.read_text("utf-8")) if state.exists() else {"pinned": [], "holds": {}}
    return Follower(stored["pinned"], stored["holds"], topics)


def save(state: Path, follower: Follower) -> None:
    """Keep what it has pinned and what it holds."""
    new = state.with_name(state.name + ".new")
    with new.open("w", encoding="utf-8") as file:
        json.dump({"pinned": follower.pinned, "holds": follower.holds}, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(state)  # at once: a power cut leaves the old one or the new one


def _print(**line: Any) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    first, *rest = sys.argv[1:]
    if not rest:
        go_through(Path(first))
        sys.exit()
    try:
        asyncio.run(follow(first, Path(rest[0]), Topics(*rest[1:])))
    except aiomqtt.MqttError as error:
        sys.exit(f"follower: {first}: {error}")
    except KeyboardInterrupt:
        sys.exit()
