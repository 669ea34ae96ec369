"""What the broker shows of the writer, and what a daemon makes of it (wire section 7). Pure, but for signatures.

Rules:

- What claims to be of this store counts only with a signature of its own key.
- What a key of the retained key set has signed, and that is not its own, is another store's. It holds a fresh daemon
  back, and never moves one that runs.
- The rest is nobody's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from setpoint_contracts import Topics, strictjson, verify_detached
from setpoint_contracts.signing import VerifyingKey
from setpointd.broker.modes import Event
from setpointd.keys import Keys, read_jwks
from setpointd.records import Identity, Sighting


class Published(Protocol):
    """Something published: its payload, and its detached signature."""

    @property
    def payload(self) -> bytes:
        """The payload."""

    @property
    def jws(self) -> str | None:
        """The user property ``jws``."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A document that somebody signed; ``own``: with this store's own key."""

    document: dict[str, Any]
    own: bool

    def number(self, member: str) -> int:
        """Return an integer member; 0 when there is none."""
        value = self.document.get(member)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0


def listen(
    topic: str,
    said: Published | None,
    keys: Keys,
    others: Mapping[str, VerifyingKey] = MappingProxyType({}),
) -> Spoken | None:
    """Make out what was said on a topic and by whom; None when it is nobody's word: unsigned, forged or no object.

    ``others`` are the keys by which another store's daemon is known.
    """
    if said is None or said.jws is None:
        return None
    document = _object(said.payload)
    if document is None:
        return None
    if keys.made(topic, said.payload, said.jws):
        return Spoken(document, own=True)
    jws, payload = said.jws, said.payload
    known = any(verify_detached(payload, topic, jws, kid, key) for kid, key in others.items() if kid != keys.kid)
    return Spoken(document, own=False) if known else None


@dataclass(slots=True)
class Sight:
    """What a look at the broker found. ``documents``: the retained documents that are not as this store has them.

    ``others`` are the keys of another store's daemon; ``occupied``: some daemon's claim or documents are retained.
    """

    own: Identity
    health: Spoken | None
    claim: Spoken | None
    documents: dict[str, Spoken]
    others: Mapping[str, VerifyingKey]
    occupied: bool
    disbelieved: list[str] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        retained: Mapping[str, Published],
        current: Mapping[str, bytes],
        own: Identity,
        topics: Topics,
        keys: Keys,
    ) -> "Sight":
        """Judge what is retained. ``current`` has the payload that this store would retain, by topic."""
        key_set = retained.get(topics.keys)
        others = read_jwks(key_set.payload) if key_set is not None else {}
        sight = cls(own, None, None, {}, others, occupied=bool(retained.keys() - {topics.health, topics.keys}))
        for topic, said in retained.items():
            if not said.payload or current.get(topic) == said.payload or topic == topics.keys:
                continue
            spoken = listen(topic, said, keys, sight.others)
            if spoken is None or (topic == topics.epoch and _is_forged(spoken, own)):
                sight.disbelieved.append(topic)
            elif topic == topics.health:
                sight.health = spoken
            elif topic == topics.epoch:
                sight.claim = spoken
            elif (service := topics.updated_service(topic)) is not None:
                sight.documents[service] = spoken
        return sight

    @property
    def living(self) -> Spoken | None:
        """The health document of another instance that is said to live; whether it does has to be asked."""
        return self.health if self.health is not None and self.health.document.get("ok") is True else None

    @property
    def foreign(self) -> bool:
        """Whether another store's claim is retained."""
        return self.claim is not None and self.claim.document.get("store_id") != self.own.store_id

    def sighting(self) -> Sighting:
        """The highest of this store that is in sight."""
        claims = list(self._of_own_store())
        return Sighting(
            epoch=max((claim.number("epoch") for claim in claims), default=0),
            revision=max((claim.number("revision") for claim in claims), default=0),
            versions={service: said.number("version") for service, said in self.documents.items() if said.own},
        )

    def _of_own_store(self) -> Iterator[Spoken]:
        yield from (said for said in self.documents.values() if said.own)
        yield from (said for said in (self.claim, self.health) if said is not None and said.own)

    def decide(self, alive: str | None) -> tuple[Event, str | None]:
        """Say what a starting daemon has to do with; ``alive`` is the instance that has proved to live."""
        if alive is not None:
            return "alive", f"instance {alive} is alive"
        if self.foreign:
            return "foreign_store", None
        seen = self.sighting()
        if seen.epoch > self.own.epoch or seen.revision > self.own.revision:
            return "stale_store", None
        return "clear", None

    def superseded(self, instance: str) -> bool:
        """Whether the claim in sight is another daemon's of this store, and no older than its own."""
        return self.claim is not None and supersedes(self.claim, self.own, instance)


def supersedes(claim: Spoken, own: Identity, instance: str) -> bool:
    """Whether a claim ends this daemon's being the writer."""
    document = claim.document
    same_store = claim.own and document.get("store_id") == own.store_id
    return same_store and document.get("instance") != instance and claim.number("epoch") >= own.epoch


def _is_forged(claim: Spoken, own: Identity) -> bool:
    store_id = claim.document.get("store_id")
    return not isinstance(store_id, str) or (not claim.own and store_id == own.store_id)


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        document = strictjson.loads(payload)
    except strictjson.InvalidJsonError:
        return None
    return document if isinstance(document, dict) else None
