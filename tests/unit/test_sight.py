"""Who is the writer: what a daemon makes of what the broker shows, and whom it believes (wire section 7)."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import Topics
from setpoint_contracts.system import EpochClaim, Health
from setpointd.broker.announcements import Announcements
from setpointd.broker.modes import Event
from setpointd.broker.sight import Sight, listen, supersedes
from setpointd.keys import Keys
from setpointd.records import Identity, Sighting
from tests.calls import INSTANCE, KEYS, NOW, new_keys, new_runtime

STORE, OTHER_STORE = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
PREVIOUS, OTHER = (str(uuid.UUID(int=number)) for number in (11, 12))
TOPICS = Topics("site1/")
OWN = Identity(STORE, epoch=3, revision=100, instance=PREVIOUS)
OTHERS = new_keys("other-key")
FORGER = new_keys(KEYS.kid)
AT = "2026-11-23T10:00:00.123Z"


@dataclass(frozen=True)
class Said:
    """Something published, and by whom: signed with keys, or not at all."""

    payload: bytes
    jws: str | None = None


def said(topic: str, document: object, keys: Keys | None = KEYS) -> Said:
    """Publish a document as the holder of some keys does, None: as one who has none; bytes stay what they are."""
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Said(payload, None if keys is None else keys.signed(topic, payload, retain=True).jws)


def claim(**changed: object) -> dict[str, Any]:
    """Make a claim, the previous life's own unless told otherwise."""
    own = {"store_id": STORE, "epoch": 3, "revision": 100, "instance": PREVIOUS, "since": AT}
    return {**own, **changed}


def document(service: str, **changed: object) -> dict[str, Any]:
    """Make a config document as it is retained."""
    head = {"service": service, "version": 1, "revision": 7, "epoch": 1, "updated_at": AT, "updated_by": "admin"}
    return {**head, "config": {"a": 1}, **changed}


def alive(instance: object, *, ok: object = True, epoch: object = 3) -> dict[str, Any]:
    """Make a health document of an instance."""
    return {"ok": ok, "event": "online", "instance": instance, "epoch": epoch}


def seen(
    claim: object = None,
    health: object = None,
    *,
    by: Keys | None = KEYS,
    current: dict[str, bytes] | None = None,
    **documents: object,
) -> Sight:
    """Judge what is retained, all of it signed with the keys given; None is not retained."""
    found = {TOPICS.epoch: claim, TOPICS.health: health, TOPICS.keys: OTHERS.public_jwks()}
    found |= {TOPICS.updated(service): document for service, document in documents.items()}
    retained = {topic: said(topic, content, by) for topic, content in found.items() if content is not None}
    return Sight.make(retained, current or {}, OWN, TOPICS, KEYS)


FOREIGN = claim(store_id=OTHER_STORE, instance=OTHER)
CLEAR: tuple[Event, None] = ("clear", None)
STALE: tuple[Event, None] = ("stale_store", None)

DECISIONS = {
    "nothing is retained": (seen(), *CLEAR),
    "its own previous life": (seen(claim()), *CLEAR),
    "its own previous life, as that was further back": (seen(claim(epoch=2, revision=40)), *CLEAR),
    "its own previous life, which died without a word": (seen(claim(), alive(PREVIOUS)), *CLEAR),
    "the same store run by another, not above its own": (seen(claim(instance=OTHER)), *CLEAR),
    "documents up to its own revision": (seen(claim(), a=document("a", revision=100)), *CLEAR),
    "another one has ended": (seen(claim(), alive(OTHER, ok=False)), *CLEAR),
    "a higher epoch": (seen(claim(epoch=4)), *STALE),
    "a higher revision": (seen(claim(revision=101)), *STALE),
    "a document of a higher revision": (seen(claim(), a=document("a", revision=101)), *STALE),
    "a document of a higher epoch": (seen(claim(), a=document("a", epoch=4)), *STALE),
    "documents alone, of a higher revision": (seen(None, a=document("a", revision=101)), *STALE),
    "a tombstone of a higher revision": (seen(claim(), a=document("a", revision=101, deleted=True)), *STALE),
    "its own health alone, of a higher epoch": (seen(None, alive(OTHER, ok=False, epoch=4)), *STALE),
    "another store": (seen(FOREIGN, by=OTHERS), "foreign_store", None),
    "another store, far behind": (seen({**FOREIGN, "epoch": 0, "revision": 0}, by=OTHERS), "foreign_store", None),
    "a claim that is no JSON": (seen(b"\xff"), *CLEAR),
    "a claim that is no object": (seen(b"[1]"), *CLEAR),
    "an object that is no claim": (seen({"epoch": 9, "revision": 999}), *CLEAR),
    "a health document that is no JSON": (seen(claim(), b"{"), *CLEAR),
    "a health document that says neither": (seen(claim(), alive(OTHER, ok="yes")), *CLEAR),
    "documents that are none": (seen(claim(), a=b"\xff", b=b"[9999]", c=b"9999"), *CLEAR),
    "numbers that are none": (seen(claim(epoch="9", revision=None)), *CLEAR),
    "truth values are no numbers": (seen(claim(epoch=True, revision=True)), *CLEAR),
    "an unsigned claim of a higher epoch": (seen(claim(epoch=4), by=None), *CLEAR),
    "a forged claim of a higher epoch": (seen(claim(epoch=4), by=FORGER), *CLEAR),
    "another's claim in its name": (seen(claim(epoch=4), by=OTHERS), *CLEAR),
    "an unsigned claim of another store": (seen(FOREIGN, by=None), *CLEAR),
    "an unsigned document with a made-up revision": (seen(None, a=document("a", revision=9999), by=None), *CLEAR),
    "a forged document with a made-up revision": (seen(None, a=document("a", revision=9999), by=FORGER), *CLEAR),
    "another's document with a higher revision": (seen(None, a=document("a", revision=9999), by=OTHERS), *CLEAR),
}


@pytest.mark.parametrize(("sight", "event", "reason"), DECISIONS.values(), ids=DECISIONS.keys())
def test_what_a_starting_daemon_has_to_do_with(sight: Sight, event: Event, reason: str | None) -> None:
    """Each row of the wire's list where nobody lives, and what it means when what is retained is not what it should be.

    What claims to be of its own store counts only with a signature of its own key.
    """
    assert sight.decide(None) == (event, reason)


@pytest.mark.parametrize("sight", [row[0] for row in DECISIONS.values()], ids=DECISIONS.keys())
def test_who_lives_comes_first(sight: Sight) -> None:
    """Whatever is retained: a daemon that has proved to live is not pushed out."""
    assert sight.decide(OTHER) == ("alive", f"instance {OTHER} is alive")


@pytest.mark.parametrize(
    ("health", "by", "asked"),
    [
        (alive(OTHER), KEYS, True),
        (alive(PREVIOUS), KEYS, True),
        (alive(OTHER), OTHERS, True),
        (alive(OTHER, ok=False), KEYS, False),
        (alive(OTHER, ok="yes"), KEYS, False),
        (alive(OTHER), None, False),
        (alive(OTHER), FORGER, False),
        (None, None, False),
    ],
    ids=[
        "another instance",
        "its own previous life",
        "another store's",
        "dead",
        "neither",
        "unsigned",
        "forged",
        "none",
    ],
)
def test_who_is_asked_for_a_proof_of_life(health: dict[str, Any] | None, by: Keys | None, asked: bool) -> None:  # noqa: FBT001 - a column of the table
    """Whoever is said to live, of whichever store and instance; unsigned health is nobody's."""
    assert (seen(None, health, by=by).living is not None) == asked


@pytest.mark.parametrize(
    ("found", "by", "taken"),
    [
        (claim(instance=OTHER), KEYS, True),
        (claim(instance=OTHER, epoch=4), KEYS, True),
        (claim(instance=OTHER, epoch=2), KEYS, False),
        (claim(instance=INSTANCE, epoch=4), KEYS, False),
        (claim(instance=OTHER, store_id=OTHER_STORE), KEYS, False),
        (claim(instance=OTHER, epoch=4), None, False),
        (claim(instance=OTHER, epoch=4), FORGER, False),
        (claim(instance=OTHER, epoch=4), OTHERS, False),
        (FOREIGN, OTHERS, False),
        ({}, KEYS, False),
        (b"garbage", KEYS, False),
        (None, None, False),
    ],
    ids=[
        "same epoch",
        "higher epoch",
        "lower epoch",
        "its own",
        "another store in its name",
        "unsigned",
        "forged",
        "another key's in its name",
        "another store",
        "empty",
        "garbage",
        "none",
    ],
)
def test_which_claims_supersede(found: object, by: Keys | None, taken: bool) -> None:  # noqa: FBT001 - a column of the table
    """A running daemon gives way to another instance's claim of its own store and key, at or above its own epoch."""
    assert seen(found, by=by).superseded(INSTANCE) == taken
    if found is not None:
        spoken = listen(TOPICS.epoch, said(TOPICS.epoch, found, by), KEYS)
        assert (spoken is not None and supersedes(spoken, OWN, INSTANCE)) == taken


def test_a_signature_is_for_one_topic_and_one_payload() -> None:
    """A health document moved to another topic, or with another's signature, is nobody's word."""
    health = said(TOPICS.health, alive(OTHER))
    assert listen(TOPICS.health, health, KEYS) is not None
    assert listen(TOPICS.epoch, health, KEYS) is None
    assert listen(TOPICS.health, Said(health.payload + b" ", health.jws), KEYS) is None
    assert listen(TOPICS.health, Said(b"", health.jws), KEYS) is None


@pytest.mark.parametrize("jws", ["", "..", "a..b", "e30..x", "\xe9..", "W10..", "not a signature", "a.b.c"])
def test_what_is_no_signature_is_nobodys(jws: str) -> None:
    """Whatever stands in the property."""
    assert listen(TOPICS.health, Said(said(TOPICS.health, alive(OTHER)).payload, jws), KEYS) is None


def test_the_highest_of_its_own_is_what_was_seen() -> None:
    """Of claim, health and documents, by its own key; each document gives its service's version."""
    retained = {
        TOPICS.epoch: said(TOPICS.epoch, claim(epoch=5, revision=90)),
        TOPICS.health: said(TOPICS.health, alive(OTHER, ok=False, epoch=7)),
        TOPICS.updated("a"): said(TOPICS.updated("a"), document("a", version=9, revision=120, epoch=4)),
        TOPICS.updated("gone"): said(TOPICS.updated("gone"), document("gone", version=3, deleted=True)),
        TOPICS.updated("made-up"): said(TOPICS.updated("made-up"), document("made-up", revision=9999), None),
        TOPICS.updated("others"): said(TOPICS.updated("others"), document("others", revision=9999), OTHERS),
        TOPICS.updated("cleared"): Said(b""),
    }
    sight = Sight.make(retained, {}, OWN, TOPICS, KEYS)
    assert sight.sighting() == Sighting(epoch=7, revision=120, versions={"a": 9, "gone": 3})
    assert sight.disbelieved == [TOPICS.updated("made-up"), TOPICS.updated("others")]


def test_another_store_is_known_by_the_retained_key_set() -> None:
    """A claim that names another store holds a daemon back only with a key that is retained beside it."""
    topic = TOPICS.epoch
    for claimed in (said(topic, FOREIGN, OTHERS), said(topic, FOREIGN, None), Said(b"{}", "eyJraWQiOiJ6eiJ9..AAAA")):
        for jwks in (KEYS.public_jwks(), b"garbage", b'{"keys":[{"kid":"zz"},7]}', b'{"keys":{}}'):
            sight = Sight.make({topic: claimed, TOPICS.keys: Said(jwks)}, {}, OWN, TOPICS, KEYS)
            assert (sight.decide(None), sight.disbelieved) == (CLEAR, [topic])
    assert seen(FOREIGN, by=OTHERS).decide(None) == ("foreign_store", None)


def test_a_foreign_claim_tells_nothing_of_its_own_store() -> None:
    """Another store's numbers are not compared with these."""
    assert seen({**FOREIGN, "epoch": 99, "revision": 9999}, by=OTHERS).sighting() == Sighting()


def test_what_is_as_the_store_has_it_needs_no_look() -> None:
    """A document that is byte for byte what this store would retain is right, and is not verified again."""
    topic = TOPICS.updated("a")
    right = said(topic, document("a", revision=100), None)
    sight = Sight.make({topic: right}, {topic: right.payload}, OWN, TOPICS, KEYS)
    assert (sight.documents, sight.disbelieved) == ({}, [])


@given(
    st.dictionaries(
        st.sampled_from([TOPICS.epoch, TOPICS.health, TOPICS.updated("a"), TOPICS.updated("b")]) | st.text(max_size=5),
        st.tuples(
            st.binary(max_size=20) | st.builds(lambda value: json.dumps(value).encode(), st.integers()), st.booleans()
        ),
    )
)
def test_anything_may_be_retained(found: dict[str, tuple[bytes, bool]]) -> None:
    """Whatever stands there, signed or not, it is judged, and nothing that is no object counts."""
    retained = {topic: said(topic, payload, KEYS if signed else None) for topic, (payload, signed) in found.items()}
    sight = Sight.make(retained, {}, OWN, TOPICS, KEYS)
    assert sight.decide(None) == CLEAR
    assert sight.sighting() == Sighting()


def test_what_a_daemon_writes_it_can_read() -> None:
    """Claim and health document fit the contracts, and are recognised as this store's by its next life."""
    announcements = Announcements(KEYS, TOPICS, new_runtime(), lambda: NOW)
    own = Identity(STORE, 3, 100, INSTANCE)
    claimed, health = announcements.claim(own), announcements.health(own, ok=True, event="online")
    EpochClaim.model_validate_json(claimed.payload)
    Health.model_validate_json(health.payload)
    sight = Sight.make({claimed.topic: claimed, health.topic: health}, {}, own, TOPICS, KEYS)
    assert sight.disbelieved == []
    assert not sight.superseded(INSTANCE)
    assert sight.superseded(OTHER)
    assert sight.decide(None) == CLEAR
    assert sight.living is not None
    assert sight.living.own
