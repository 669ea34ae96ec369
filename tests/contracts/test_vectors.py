"""The vectors, as far as the contracts alone decide: who signed, what the claims and parameters are."""

from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import import_key
from pydantic import ValidationError

from setpoint_contracts import COMMANDS, Claims, Code, Permission, Token, Topics, strictjson, verify_command
from setpoint_contracts.commands import Scope
from setpoint_contracts.envelope import readable_claims, usable_jti
from setpoint_contracts.signing import NotSignedError, Signed, VerifyingKey
from tests.vectors import ALL, TOKENS, fits

BEFORE = [
    {**step, "name": f"{vector['name']}, {place} before", "expect": {"outcome": "reply", "code": None}}
    for vector in ALL
    for place, step in enumerate(vector.get("before", []), 1)
]
DROPPED = [vector for vector in ALL if vector["expect"]["outcome"] == "drop" and not vector["retain"]]
ANSWERED = [vector for vector in ALL if vector["expect"]["outcome"] != "drop" or vector["retain"]]
CARRIED_OUT = [vector for vector in ANSWERED if vector["expect"].get("code") is None] + BEFORE
# What the claims' own models refuse. These need the daemon's limits, the token's name, or the store:
NEEDS_MORE = {
    "lifetime",
    "sub-other",
    "epoch-advance-other-epoch",
    "get-reveal-ed25519",
    "history-restore-later-revision",
    "patch-secret-unknown",
    "patch-unmarked-secret",
    "schema-set-broken",
    "schema-set-remote",
    "schema-set-secret-whole",
    "set-secret-more",
    "set-secret-unknown",
    "token-create-no-secret-to-seal-with",
    "token-revoke-last-admin",
    "token-rotate-revoked",
}
# What takes a limit that was lowered since the config was written; those of the vectors stand still.
LOWERED = {("profile/load", Code.TOO_LARGE), ("history/restore", Code.TOO_LARGE)}
BAD_REQUESTS = [v for v in ANSWERED if v["expect"].get("code") == "bad_request" and v["name"] not in NEEDS_MORE]


def each(vectors: list[dict[str, Any]]) -> pytest.MarkDecorator:
    """Run a test once for each of these vectors, under its name."""
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


def verify(vector: dict[str, Any]) -> Signed[Token]:
    """Verify a vector's payload with the tokens of the files."""
    keys = {kid: (VerifyingKey(token.alg, token.public().signing_key()), token) for kid, token in TOKENS.items()}
    return verify_command(vector["payload"].encode(), 262_144, keys.get)


def test_there_are_vectors_of_every_kind() -> None:
    """The files were found and hold what the other tests here go through."""
    assert len({vector["name"] for vector in ALL}) == len(ALL) > 80
    assert min(map(len, (DROPPED, CARRIED_OUT, BAD_REQUESTS))) > 9


@each(DROPPED)
def test_dropped_ones_do_not_verify(vector: dict[str, Any]) -> None:
    """A vector that is dropped is not a signed command of any of the tokens."""
    with pytest.raises(NotSignedError):
        verify(vector)


@each(ANSWERED)
def test_answered_ones_verify(vector: dict[str, Any]) -> None:
    """A vector that is answered is signed by the principal whose reply topic gets the answer."""
    signed = verify(vector)
    topic = vector["expect"].get("reply_topic")
    if topic is not None:
        assert Topics().reply_refusal(signed.signer.name, topic) is None
        assert (usable_jti(readable_claims(signed.claims)) is None) == topic.endswith("/invalid")


@each(CARRIED_OUT)
def test_carried_out_ones_fit_their_models(vector: dict[str, Any]) -> None:
    """Claims and parameters of a vector that is carried out are those of its command, on its own topic."""
    claims = Claims.model_validate(strictjson.loads(verify(vector).claims))
    assert claims.aud == vector["topic"]
    COMMANDS[Topics().command_name(vector["topic"])].model_validate(claims.params)


@each(BAD_REQUESTS)
def test_bad_requests_do_not_fit(vector: dict[str, Any]) -> None:
    """A vector that is a bad request fails as JSON, as claims or as parameters."""
    signed = verify(vector)
    with pytest.raises((strictjson.InvalidJsonError, ValidationError)):
        COMMANDS[Topics().command_name(vector["topic"])].model_validate(
            Claims.model_validate(strictjson.loads(signed.claims)).params
        )


@each(CARRIED_OUT)
def test_signing_again_gives_the_same_bytes(vector: dict[str, Any]) -> None:
    """Signatures have no randomness: the same header and claims give the vector's payload again."""
    signed = verify(vector)
    payload = vector["payload"].strip()
    header = jws.extract_compact(payload.encode()).protected
    key = import_key(dict(signed.signer.jwk()))
    again = jws.serialize_compact(header, signed.claims, key, algorithms=[signed.signer.alg])
    assert again == payload


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_vectors(command: str) -> None:
    """One that is carried out, one for each error that it can give, a bad request, and one that is not allowed."""
    model = COMMANDS[command]
    wanted = {None, Code.BAD_REQUEST, *model.errors} - {code for name, code in LOWERED if name == command}
    if model.needs is not Permission.READ or model.scope is Scope.NAMED:  # else any token may
        wanted.add(Code.FORBIDDEN)
    found = {vector["expect"].get("code") for vector in ANSWERED if vector["topic"] == Topics().command(command)}
    assert wanted - found == set()


@pytest.mark.parametrize(
    ("expected", "found", "fit"),
    [
        ({"a": 1}, {"a": 1.0, "b": 2}, True),
        ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 1, "d": 2}]}}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"a": 1}, {"a": True}, False),
        ([{}], [{}, {}], False),
        ({}, [], False),
    ],
)
def test_what_a_vector_expects_of_a_result(expected: Any, found: Any, fit: bool) -> None:  # noqa: FBT001 - expected
    """Of an object the members that it names, of an array all items, numbers by their value."""
    assert fits(expected, found) is fit
