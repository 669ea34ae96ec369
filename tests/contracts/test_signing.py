"""Signing commands and publishes, and every way in which a signature does not hold."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import (
    Claims,
    Role,
    Token,
    Topics,
    sign_command,
    sign_detached,
    strictjson,
    verify_command,
    verify_detached,
)
from setpoint_contracts.signing import NotSignedError, VerifyingKey

HMAC = Token.new("HS256", "tok_h", "admin", Role.ADMIN)
PAIR = Token.new("Ed25519", "tok_e", "ops", Role.OPERATOR)
KEYS = {token.kid: VerifyingKey(token.alg, token.public().signing_key()) for token in (HMAC, PAIR)}
TOPIC = "config/reply/admin/1"
PAYLOAD = b'{"ok":true}'
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def find(kid: str) -> tuple[VerifyingKey, str] | None:
    """Look a token up, as the daemon does."""
    return (KEYS[kid], kid) if kid in KEYS else None


def slug(payload: bytes, max_bytes: int = 100_000) -> str:
    """Say why a payload is not a signed command."""
    with pytest.raises(NotSignedError) as caught:
        verify_command(payload, max_bytes, find)
    return str(caught.value)


def b64(data: bytes) -> str:
    """Encode as JWS does."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def mac_of(signed: str, alg: str = "sha256") -> str:
    """Make the HMAC of the token's own secret, without the code under test."""
    return b64(hmac.new(base64.urlsafe_b64decode(f"{HMAC.k}="), signed.encode(), alg).digest())


def forge(header: str, alg: str = "sha256") -> bytes:
    """Put a right HMAC on any header."""
    signed = f"{b64(header.encode())}.{b64(b'{}')}"
    return f"{signed}.{mac_of(signed, alg)}".encode()


def with_stray_bits(text: str) -> str:
    """Change bits of the last character that no byte has."""
    return text[:-1] + ALPHABET[ALPHABET.index(text[-1]) + 1]


@pytest.mark.parametrize("token", [HMAC, PAIR], ids=["HS256", "Ed25519"])
def test_what_is_signed_verifies(token: Token) -> None:
    """A command is verified as its signer's, with the claims that were signed."""
    jws = sign_command(token, "set", {"service": "é"}, jti="a", reply_to=None, issued_at=100.1234, lifetime_s=10)
    signed = verify_command(jws.encode(), 10_000, find)
    assert signed.signer == token.kid
    assert Claims.model_validate(strictjson.loads(signed.claims)).model_dump(exclude_unset=True) == {
        "jti": "a",
        "aud": "config/cmd/set",
        "iat": 100.123,
        "exp": 110.123,
        "params": {"service": "é"},
        "reply_to": None,
    }


def test_defaults_of_a_command() -> None:
    """Left to itself a command has a fresh id, the prefix in its audience, a minute to live, and no reply topic."""
    one, other = (
        json.loads(verify_command(sign_command(HMAC, "info", topics=Topics("site1/")).encode(), 10_000, find).claims)
        for _ in range(2)
    )
    assert one["jti"] != other["jti"]
    assert one["aud"] == "site1/config/cmd/info"
    assert one["exp"] - one["iat"] == pytest.approx(60)
    assert one["params"] == {}
    assert "reply_to" not in one


@pytest.mark.parametrize("space", [b" ", b"\n", b"\r\n", b"\t", b"\v\f"])
def test_white_space_around_is_not_part_of_it(space: bytes) -> None:
    """What shells and editors add before and behind does no harm."""
    assert verify_command(space + forge('{"alg":"HS256","kid":"tok_h"}') + space, 10_000, find).signer == "tok_h"


def test_the_limit_counts_what_is_signed() -> None:
    """Exactly the limit is allowed, white space not counted; one byte more is not."""
    payload = forge('{"alg":"HS256","kid":"tok_h"}')
    assert verify_command(b"  " + payload, len(payload), find).signer == "tok_h"
    assert slug(payload, len(payload) - 1) == "too_large"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ('{"alg":"HS256","kid":"tok_nobody"}', "unknown_kid"),
        ('{"alg":"Ed25519","kid":"tok_h"}', "wrong_alg"),
        ('{"alg":"HS512","kid":"tok_h"}', "wrong_alg"),
        ('{"alg":"none","kid":"tok_h"}', "wrong_alg"),
        ('{"alg":"hs256","kid":"tok_h"}', "wrong_alg"),
        ('{"alg":"EdDSA","kid":"tok_e"}', "alg_eddsa"),
        ('{"alg":"EdDSA","kid":"tok_h"}', "alg_eddsa"),
        ('{"alg":"HS256","kid":"tok_e"}', "wrong_alg"),
        ('{"alg":"HS256"}', "bad_header"),
        ('{"kid":"tok_h"}', "bad_header"),
        ("{}", "bad_header"),
        ('["HS256"]', "bad_header"),
        ('"HS256"', "bad_header"),
        ('{"alg":"HS256","kid":1}', "bad_header"),
        ('{"alg":"HS256","kid":"tok_h","typ":null}', "bad_header"),
        ('{"alg":"HS256","kid":"tok_h","crit":["exp"]}', "bad_header"),
        ('{"alg":"HS256","kid":"tok_h","b64":false}', "bad_header"),
        ('{"alg":"HS256","kid":"tok_h","jwk":"x"}', "bad_header"),
        ('{"alg":"HS256","kid":"tok_h","topic":"config/cmd/set"}', "bad_header"),
        ('{"alg":"none","alg":"HS256","kid":"tok_h"}', "not_jws"),
        ('{"alg":"HS256","kid":"tok_h"', "not_jws"),
        ("[" * 350 + "]" * 350, "not_jws"),
    ],
)
def test_a_header_that_must_fail(header: str, why: str) -> None:
    """A right HMAC does not help: the header's members and the token decide, not the algorithm it claims."""
    assert slug(forge(header)) == why


def test_a_public_key_is_no_hmac_secret() -> None:
    """An HMAC made with an Ed25519 token's public key, in any of its forms, does not pass for its signature."""
    header = b64(b'{"alg":"Ed25519","kid":"tok_e"}')
    signed = f"{header}.{b64(b'{}')}"
    for secret in (base64.urlsafe_b64decode(f"{PAIR.x}="), str(PAIR.x).encode()):
        mac = b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())
        assert slug(f"{signed}.{mac}".encode()) == "bad_signature"


def test_another_hash_of_the_right_secret_fails() -> None:
    """HS512 under the name of HS256 is not HS256."""
    assert slug(forge('{"alg":"HS256","kid":"tok_h"}', alg="sha512")) == "bad_signature"


@pytest.mark.parametrize("token", [HMAC, PAIR], ids=["HS256", "Ed25519"])
def test_every_changed_character_breaks_it(token: Token) -> None:
    """No single character can be another one: each signature has one spelling."""
    jws = sign_command(token, "info", issued_at=1)
    for place, character in enumerate(jws):
        other = "A" if character != "A" else "B"
        assert slug((jws[:place] + other + jws[place + 1 :]).encode())


@pytest.mark.parametrize("token", [HMAC, PAIR], ids=["HS256", "Ed25519"])
def test_every_cut_breaks_it(token: Token) -> None:
    """No beginning of a signed command is one."""
    jws = sign_command(token, "info", issued_at=1).encode()
    for length in range(len(jws)):
        assert slug(jws[:length])


def test_stray_bits_are_refused_even_when_signed() -> None:
    """Base64url that says the same bytes in another spelling is refused, in each of the three parts."""
    header, claims, signature = forge('{"alg":"HS256","kid":"tok_h"}').decode().split(".")
    assert slug(f"{header}.{claims}.{with_stray_bits(signature)}".encode()) == "bad_signature"
    for signed in (f"{with_stray_bits(header)}.{claims}", f"{header}.{with_stray_bits(claims)}"):
        assert slug(f"{signed}.{mac_of(signed)}".encode()) == "not_jws"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b".",
        b"..",
        b"a.b",
        b"a.b.c.d",
        b"a..c",
        b'{"service":"stt"}',
        b"a.b.c\0",
        b"a.b\n.c",
        b"a=.b.c",
        b"a+.b.c",
        "é.b.c".encode(),
        b"\xff\xfe",
        b"[" * 20_000,
        b"a." + b"b" * 20_000 + b".c",
        b"a" * 2_000 + b".b.c",
    ],
)
def test_what_has_not_the_form_of_a_jws(payload: bytes) -> None:
    """Anything but three parts of base64url is no JWS."""
    assert slug(payload) == "not_jws"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_one_way(payload: bytes) -> None:
    """Whatever arrives, the one error says it."""
    assert slug(payload) in {"not_jws", "bad_header", "unknown_kid", "alg_eddsa", "wrong_alg", "bad_signature"}


@pytest.mark.parametrize("token", [HMAC, PAIR], ids=["HS256", "Ed25519"])
def test_a_detached_signature_holds_for_its_payload_and_topic(token: Token) -> None:
    """It verifies over exactly these bytes on exactly this topic with exactly this key, and nowhere else."""
    signature = sign_detached(PAYLOAD, TOPIC, token.kid, VerifyingKey(token.alg, token.signing_key()))
    key = KEYS[token.kid]
    other = KEYS["tok_e" if token is HMAC else "tok_h"]
    assert verify_detached(PAYLOAD, TOPIC, signature, token.kid, key)
    assert not verify_detached(PAYLOAD + b" ", TOPIC, signature, token.kid, key)
    assert not verify_detached(b"", TOPIC, signature, token.kid, key)
    assert not verify_detached(PAYLOAD, TOPIC + "2", signature, token.kid, key)
    assert not verify_detached(PAYLOAD, TOPIC, signature, "tok_x", key)
    assert not verify_detached(PAYLOAD, TOPIC, signature, token.kid, other)
    assert not verify_detached(PAYLOAD, TOPIC, signature, token.kid, VerifyingKey("HS512", key.key))


def test_a_detached_signature_is_rfc_7515s() -> None:
    """Anybody can check it: HMAC-SHA256 over the header and the payload's base64url, the payload itself left out."""
    signature = sign_detached(PAYLOAD, TOPIC, "tok_h", KEYS["tok_h"])
    header, empty, mac = signature.split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "HS256", "kid": "tok_h", "topic": TOPIC}
    assert empty == ""
    assert mac == mac_of(f"{header}.{b64(PAYLOAD)}")


@pytest.mark.parametrize("topic", ["config/reply/admin/" + "é" * 118, "config/reply/admin/" + "\N{GRINNING FACE}" * 59])
def test_a_detached_signature_carries_any_reply_topic(topic: str) -> None:
    """The longest reply topics fit into a header, escaped or not."""
    assert Topics().reply_refusal("admin", topic) is None
    assert verify_detached(
        PAYLOAD, topic, sign_detached(PAYLOAD, topic, "tok_h", KEYS["tok_h"]), "tok_h", KEYS["tok_h"]
    )


def test_a_detached_signature_has_one_spelling() -> None:
    """Padding, white space, a further part, stray bits, a payload in the middle, or other characters: it fails."""
    good = sign_detached(PAYLOAD, TOPIC, "tok_h", KEYS["tok_h"])
    attached = good.replace("..", f".{b64(PAYLOAD)}.")
    for signature in (
        *(good[:length] for length in range(len(good))),
        good + "=",
        good + "\n",
        " " + good,
        good + ".x",
        good + "é",
        "é" + good,
        good + "\ud800",
        with_stray_bits(good),
        attached,
        "..",
        "...",
    ):
        assert not verify_detached(PAYLOAD, TOPIC, signature, "tok_h", KEYS["tok_h"])


def test_neither_signature_passes_for_the_other() -> None:
    """A reply is never a command, not even with its payload put back; and a command signs no publish."""
    command = sign_command(HMAC, "info").encode()
    header, claims, mac = command.split(b".")
    assert not verify_detached(
        base64.urlsafe_b64decode(claims + b"=="),
        "config/cmd/info",
        f"{header.decode()}..{mac.decode()}",
        "tok_h",
        KEYS["tok_h"],
    )
    reply = sign_detached(PAYLOAD, "config/cmd/info", "tok_h", KEYS["tok_h"])
    assert slug(reply.encode()) == "not_jws"
    assert slug(reply.replace("..", f".{b64(PAYLOAD)}.").encode()) == "bad_header"
