"""Who is the writer: what a daemon makes of what it finds on the broker (wire section 7)."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import Topics
from setpoint_contracts.system import EpochClaim, Health, Limits
from setpointd import epoch
from setpointd.records import Claim
from setpointd.runtime import Runtime

STORE, OTHER_STORE = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
PREVIOUS, OTHER, THIS = (str(uuid.UUID(int=number)) for number in (11, 12, 13))
TOPICS = Topics("site1/")
OWN = Claim(STORE, epoch=3, revision=100, instance=PREVIOUS)
AT = "2026-11-23T10:00:00.123Z"


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
    **documents: object,
) -> epoch.Seen:
    """Read what is retained; bytes are retained as they are, None is not."""
    found = {TOPICS.epoch: claim, TOPICS.health: health}
    found |= {TOPICS.updated(service): document for service, document in documents.items()}
    retained = {
        topic: payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        for topic, payload in found.items()
        if payload is not None
    }
    return epoch.Seen.read(retained, TOPICS)


DECISIONS = {
    "nothing is retained": (seen(), "active", None),
    "its own previous life": (seen(claim()), "active", None),
    "its own previous life, as that was further back": (seen(claim(epoch=2, revision=40)), "active", None),
    "its own previous life, which died without a word": (seen(claim(), alive(PREVIOUS)), "active", None),
    "the same store run by another, not above its own": (seen(claim(instance=OTHER)), "active", None),
    "documents up to its own revision": (seen(claim(), a=document("a", revision=100)), "active", None),
    "an earlier life, which the broker remembers from before a power cut": (
        seen(claim(epoch=2), alive(OTHER, epoch=2)),
        "active",
        None,
    ),
    "an earlier epoch of another store": (
        seen(claim(store_id=OTHER_STORE), alive(OTHER, epoch=2)),
        "standby",
        f"instance {OTHER} is alive",
    ),
    "its own previous life, which went on after this copy": (
        seen(claim(revision=101), alive(PREVIOUS)),
        "standby",
        f"instance {PREVIOUS} is alive",
    ),
    "another one lives": (seen(None, alive(OTHER)), "standby", f"instance {OTHER} is alive"),
    "another one lives, whatever is claimed": (
        seen(claim(store_id=OTHER_STORE, epoch=9), alive(OTHER)),
        "standby",
        f"instance {OTHER} is alive",
    ),
    "another one has ended": (seen(claim(), alive(OTHER, ok=False)), "active", None),
    "a higher epoch": (seen(claim(epoch=4)), "read_only", "stale_store"),
    "a higher revision": (seen(claim(revision=101)), "read_only", "stale_store"),
    "a document of a higher revision": (seen(claim(), a=document("a", revision=101)), "read_only", "stale_store"),
    "a document of a higher epoch": (seen(claim(), a=document("a", epoch=4)), "read_only", "stale_store"),
    "documents alone, of a higher revision": (seen(None, a=document("a", revision=101)), "read_only", "stale_store"),
    "another store": (seen(claim(store_id=OTHER_STORE)), "read_only", "foreign_store"),
    "another store, far behind": (seen(claim(store_id=OTHER_STORE, epoch=0, revision=0)), "read_only", "foreign_store"),
    "a claim that is no JSON": (seen(b"\xff"), "active", None),
    "a claim that is no object": (seen(b"[1]"), "active", None),
    "an object that is no claim": (seen({"epoch": 9, "revision": 999}), "active", None),
    "a health document that is no JSON": (seen(claim(), b"{"), "active", None),
    "a health document that says neither": (seen(claim(), alive(OTHER, ok="yes")), "active", None),
    "documents that are none": (seen(claim(), a=b"\xff", b=b"[9999]", c=b"9999"), "active", None),
    "numbers that are none": (seen(claim(epoch="9", revision=None)), "active", None),
}


@pytest.mark.parametrize(("found", "mode", "reason"), DECISIONS.values(), ids=DECISIONS.keys())
def test_what_a_starting_daemon_may_be(found: epoch.Seen, mode: str, reason: str | None) -> None:
    """Each row of the wire's list, and what it means when what is retained is not what it should be."""
    assert epoch.decide(found, OWN) == (mode, reason)


def test_a_new_store_waits_for_whoever_lives() -> None:
    """A store that never ran has no previous life: whoever is alive is another one."""
    assert epoch.decide(seen(None, alive(OTHER)), Claim(STORE, 0, 0, None))[0] == "standby"


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        (claim(instance=OTHER), True),
        (claim(instance=OTHER, epoch=4), True),
        (claim(instance=OTHER, epoch=2), False),
        (claim(instance=OTHER, store_id=OTHER_STORE), True),
        (claim(instance=THIS, epoch=4), False),
        ({}, False),
        (None, False),
    ],
    ids=["same epoch", "higher epoch", "lower epoch", "another store", "its own", "empty", "none"],
)
def test_which_claims_supersede(found: dict[str, Any] | None, taken: bool) -> None:  # noqa: FBT001 - a column of the table
    """A running daemon gives way to another instance's claim at or above its own epoch, and to no other."""
    own = Claim(STORE, 3, 100, THIS)
    payload = b"garbage" if found is None else json.dumps(found).encode()
    assert epoch.superseded(epoch.parse_claim(payload), own) == taken


def test_what_is_retained_and_right_is_left_alone() -> None:
    """A document is right whatever the order of its members and the spelling of its JSON."""
    backwards = dict(reversed(document("a").items()))
    assert epoch.to_repair(seen(a=json.dumps(backwards, indent=2).encode()), {"a": document("a")}) == []


@pytest.mark.parametrize(
    ("retained", "current"),
    [
        (None, document("a")),
        (document("a"), None),
        (document("a", version=1), document("a", version=2)),
        (document("a", config={"a": 1}), document("a", config={"a": True})),
        (document("a", config={"a": 1}), document("a", config={"a": 1.0})),
        (b"garbage", document("a")),
        (b"garbage", None),
        (b"null", None),
        (b"null", document("a")),
    ],
)
def test_what_is_to_be_repaired(retained: object, current: dict[str, Any] | None) -> None:
    """Missing, orphaned, older, almost the same, or no document at all: each is repaired."""
    found = seen(a=retained, b=document("b"))
    wanted = {"b": document("b"), **({} if current is None else {"a": current})}
    assert epoch.to_repair(found, wanted) == ["a"]


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=20)))
def test_anything_may_be_retained(retained: dict[str, bytes]) -> None:
    """Whatever is found under the topics, it can be read, and every service that is not in the store is repaired."""
    found = epoch.Seen.read({TOPICS.updated(name): payload for name, payload in retained.items()}, TOPICS)
    assert epoch.to_repair(found, {}) == sorted(retained)
    epoch.decide(found, OWN)


def test_what_is_written_can_be_read() -> None:
    """Claim and health document fit the contracts, and this instance recognises itself in them."""
    limits = Limits(
        max_command_bytes=1,
        max_command_lifetime_s=1,
        max_clock_skew_s=1,
        max_config_bytes=1,
        max_config_keys=1,
        max_json_levels=1,
        require_expected_version=False,
    )
    runtime = Runtime("1.2.3", THIS, limits, uptime=lambda: 1.0, mode="active")
    own = Claim(STORE, 3, 100, THIS)
    claimed = epoch.claim_document(own, AT)
    health = epoch.health_document(runtime, 3, AT, ok=True, event="online")
    EpochClaim.model_validate_json(claimed)
    Health.model_validate_json(health)
    assert epoch.decide(seen(claimed, health), own) == ("active", None)
    assert epoch.decide(seen(claimed, health), Claim(STORE, 3, 100, OTHER))[0] == "standby"
