"""Whom a client believes: keys that are given, or pinned at first use."""

import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from setpoint.trust import Jwk, Trust, is_public_key
from setpoint_contracts import Topics, sign_detached
from setpoint_contracts.keys import to_jwk
from setpoint_contracts.signing import VerifyingKey

TOPIC = Topics().keys


class Signer:
    """Somebody with an Ed25519 key."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self.key = VerifyingKey("Ed25519", Ed25519PrivateKey.generate())
        public = {name: value for name, value in to_jwk(self.key.key).items() if name != "d"}
        self.jwk: dict[str, Any] = {**public, "kid": kid}

    def key_set(self, *jwks: Jwk) -> tuple[str, bytes, str]:
        """Make a message on the key set's topic that this one has signed."""
        payload = json.dumps({"keys": [{**jwk, "alg": "Ed25519", "use": "sig"} for jwk in jwks]}).encode()
        return TOPIC, payload, sign_detached(payload, TOPIC, self.kid, self.key)


DAEMON, STRANGER = Signer("daemon"), Signer("stranger")


def test_first_use_pins_the_key_that_signed() -> None:
    """Of the first set the key that signed it is pinned, with what a public key needs; `signer` finds it before."""
    trust = Trust()
    told: list[str] = []
    trust.on_pinned(lambda: told.append("pinned"))
    assert trust.signer(*DAEMON.key_set(STRANGER.jwk, DAEMON.jwk)) == DAEMON.jwk
    assert (trust.pinned, told) == ([], [])
    assert trust.take_key_set(*DAEMON.key_set(STRANGER.jwk, DAEMON.jwk)) == "pinned"
    assert trust.pinned == [DAEMON.jwk]
    assert told == ["pinned"]
    assert trust.take_key_set(*DAEMON.key_set(STRANGER.jwk)) == "known_key"
    assert told == ["pinned"]


def test_nothing_moves_a_pinned_key() -> None:
    """A set that another key signed is told of, and leaves what is pinned as it is."""
    trust = Trust([DAEMON.jwk])
    assert trust.take_key_set(*STRANGER.key_set(STRANGER.jwk, DAEMON.jwk)) == "other_key"
    trust.believe([STRANGER.jwk])
    assert trust.pinned == [DAEMON.jwk]


def test_a_set_that_none_of_its_own_keys_signed_pins_nothing() -> None:
    """Another's set, one without keys, and what is no set at all leave first use open."""
    trust = Trust()
    payload = b"{}"
    assert trust.take_key_set(*STRANGER.key_set(DAEMON.jwk)) == "other_key"
    assert trust.take_key_set(*STRANGER.key_set()) == "other_key"
    assert trust.take_key_set(TOPIC, payload, sign_detached(payload, TOPIC, "daemon", DAEMON.key)) == "other_key"
    assert trust.take_key_set(TOPIC, b"no JSON", "no.signature") == "other_key"
    assert trust.pinned == []


def test_the_key_of_a_faster_process_counts() -> None:
    """What is believed from the disk counts, be it of another process, and what comes is judged by that."""
    trust = Trust()
    trust.believe([DAEMON.jwk])
    trust.believe([STRANGER.jwk])
    assert trust.take_key_set(*STRANGER.key_set(STRANGER.jwk)) == "other_key"
    assert trust.pinned == [DAEMON.jwk]
    payload = b"{}"
    topic = Topics().updated("stt")
    assert trust.signed_by_pinned(topic, payload, sign_detached(payload, topic, "daemon", DAEMON.key))
    assert not trust.signed_by_pinned(topic, payload, sign_detached(payload, topic, "stranger", STRANGER.key))


def test_only_a_public_ed25519_key_with_an_id_is_one() -> None:
    """Another kind of key, half of one, and no object are no keys; they are never pinned, given or not."""
    bad: list[Any] = [
        None,
        [],
        "key",
        {},
        {**DAEMON.jwk, "kty": "oct"},
        {**DAEMON.jwk, "crv": "X25519"},
        {**DAEMON.jwk, "x": "short"},
        {**DAEMON.jwk, "kid": 7},
    ]
    assert [jwk for jwk in bad if is_public_key(jwk)] == []
    assert Trust(bad).pinned == []
    assert is_public_key(DAEMON.jwk)
