"""The rules of a follower, through the vectors of contracts/vectors/, and beside them."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from setpoint.follower import Follower
from setpoint.trust import Trust
from setpoint_contracts import Topics, sign_detached
from setpoint_contracts.keys import to_jwk
from setpoint_contracts.signing import VerifyingKey

VECTORS = Path(__file__).parents[2] / "contracts" / "vectors"
SEQUENCES: list[Any] = [
    pytest.param(sequence, id=f"{file.parent.name}-{sequence['name']}")
    for file in (VECTORS / "followers.json", VECTORS / "must_fail" / "followers.json")
    for sequence in json.loads(file.read_text("utf-8"))["sequences"]
]
TOPICS = Topics()
TOPIC = TOPICS.updated("stt")
KEY = VerifyingKey("Ed25519", Ed25519PrivateKey.generate())
JWK = {**to_jwk(KEY.key), "kid": "key_daemon"}


def document(epoch: int, revision: int, **members: Any) -> dict[str, Any]:
    """Make a document of the service stt."""
    head = {"service": "stt", "version": revision, "revision": revision, "epoch": epoch}
    return {**head, **(members or {"config": {"n": revision}})}


def signed(made: dict[str, Any]) -> tuple[str, bytes, str]:
    """Make the message of a document, as the daemon publishes it."""
    payload = json.dumps(made).encode()
    return TOPIC, payload, sign_detached(payload, TOPIC, "key_daemon", KEY)


def follower(**known: Any) -> Follower:
    """Make a follower that has pinned the key."""
    return Follower(Trust([JWK]), TOPICS, **known)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_holds_what_the_vector_says(sequence: dict[str, Any]) -> None:
    """After each message of a sequence its outcome and what is held are those that stand in the vector."""
    one = Follower(Trust(sequence["pinned"]), Topics(sequence.get("topic_prefix", "")), sequence["holds"])
    for message in sequence["messages"]:
        outcome = one.take(message["topic"], message["payload"].encode(), message.get("jws"))
        assert {"outcome": outcome, "holds": one.holds} == message["expect"]


def test_what_was_seen_earlier_bounds_what_is_taken() -> None:
    """Of a document of which only the order was kept, an older one is a replay; the same and a newer one are taken."""
    assert follower(seen={"stt": (7, 5)}).take(*signed(document(7, 4))) == "older"
    assert follower(seen={"stt": (7, 5)}).take(*signed(document(6, 9))) == "older"
    assert follower(seen={"stt": (7, 5)}).take(*signed(document(7, 6))) == "taken"
    one = follower(seen={"stt": (7, 5)})
    assert one.take(*signed(document(7, 5))) == "taken"
    assert one.take(*signed(document(7, 5))) == "same"


def test_a_document_of_a_reply_counts_by_the_same_rules() -> None:
    """A document of a verified reply is judged by its form and its order, and what is retained then is the same."""
    one = follower()
    assert one.take_reply_document(document(7, 5)) == "taken"
    assert one.take_reply_document(document(7, 4)) == "older"
    assert one.take(*signed(document(7, 5))) == "same"
    assert one.take(*signed(document(7, 4))) == "older"
    assert one.take_reply_document(document(7, 6, deleted=True)) == "taken"
    assert one.holds["stt"]["deleted"] is True
    no_documents: list[Any] = [None, [], {}, {"service": 1}, document(7, 7, config=[])]
    for bad in (*no_documents, document(7, 7, config={}, deleted=True)):
        assert one.take_reply_document(bad) == "bad_document"


def test_verifying_alone_takes_nothing() -> None:
    """A document can be verified whatever its order, and is not held for that."""
    one = follower()
    topic, payload, jws = signed(document(7, 5))
    assert one.verified(topic, payload, jws) == document(7, 5)
    assert one.verified(topic, payload + b" ", jws) is None
    assert one.verified(TOPICS.keys, payload, jws) is None
    assert one.holds == {}
