"""Tokens, their files, and what roles may do."""

import json
from pathlib import Path
from typing import Any

import pytest

from setpoint_contracts import Permission, Role, Token
from setpoint_contracts.tokens import Algorithm, TokenFileError

SECRET = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U"
OCT = {"kty": "oct", "kid": "tok_1", "alg": "HS256", "name": "admin", "role": "admin", "k": SECRET}
OKP = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "tok_2",
    "alg": "Ed25519",
    "name": "ops",
    "role": "viewer",
    "x": "bndheRw35ZNLZjZQDAdJhrFI6QEQgSHgxaa-NOEWW-I",
    "d": "aa4zfabRCrS5BK2e9l09uCOlEmrFbvP0aoDczvvW5Og",
}


def parse(members: dict[str, Any]) -> Token:
    """Parse a token file with these members."""
    return Token.parse(json.dumps(members).encode())


def without(members: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the members but one."""
    return {key: value for key, value in members.items() if key != name}


@pytest.mark.parametrize("alg", ["HS256", "Ed25519"])
def test_a_token_file_reads_back(alg: Algorithm, tmp_path: Path) -> None:
    """What is written, one line of JSON, is read back as the same token."""
    more = {"services": ("stt", "tts*"), "expires_at": "2027-01-01T00:00:00.000Z"}
    token = Token.new(alg, "tok_1", "stt-service", Role.OPERATOR, **more)
    path = tmp_path / "token.jwk"
    path.write_bytes(token.dump())
    assert token.dump().count(b"\n") == 1
    assert Token.load(path) == token


def test_two_tokens_have_two_keys() -> None:
    """Every new token has a key of its own, 32 bytes of it."""
    assert len({Token.new("HS256", "tok_1", "a", Role.VIEWER).k for _ in range(10)}) == 10


def test_the_daemon_keeps_the_public_half_only() -> None:
    """Of an Ed25519 token `public` leaves what verifies; an HS256 token has no such half and stays as it is."""
    public = parse(OKP).public()
    assert public.d is None
    assert public.x == OKP["x"]
    assert b'"d"' not in public.dump()
    assert parse(OCT).public() == parse(OCT)


def test_a_jwk_has_the_key_and_nothing_else() -> None:
    """Name, role and times stay behind when only the key is asked for."""
    assert parse({**OCT, "services": ["a"]}).jwk() == {member: OCT[member] for member in ("kty", "kid", "alg", "k")}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "dictionary"),
        ({}, "kty"),
        (without(OCT, "k"), "a token is"),
        (without(OCT, "kid"), "kid"),
        (without(OCT, "role"), "role"),
        (without(OKP, "x"), "a token is"),
        (without(OKP, "crv"), "a token is"),
        ({**OCT, "x": OKP["x"]}, "a token is"),
        ({**OKP, "k": SECRET}, "a token is"),
        ({**OCT, "alg": "Ed25519"}, "a token is"),
        ({**OKP, "alg": "HS256"}, "a token is"),
        ({**OCT, "kty": "OKP"}, "a token is"),
        ({**OCT, "alg": "none"}, "alg"),
        ({**OCT, "alg": "HS512"}, "alg"),
        ({**OCT, "k": SECRET[:-1]}, "k:"),
        ({**OCT, "k": SECRET + "A"}, "k:"),
        ({**OCT, "k": SECRET + "="}, "k:"),
        ({**OCT, "k": SECRET[:-1] + "V"}, "k:"),
        ({**OCT, "k": "é" + SECRET[1:]}, "k:"),
        ({**OKP, "d": OKP["d"][:-1] + "h"}, "d:"),
        ({**OCT, "name": "Admin"}, "name"),
        ({**OCT, "name": "a/b"}, "name"),
        ({**OCT, "role": "root"}, "role"),
        ({**OCT, "services": []}, "services"),
        ({**OCT, "services": ["A"]}, "services"),
        ({**OCT, "expires_at": "tomorrow"}, "expires_at"),
        ({**OCT, "expires_at": "2026-02-30T00:00:00.000Z"}, "expires_at"),
        ({**OCT, "key_ops": ["sign"]}, "key_ops is a member that no token has"),
        ({**OCT, "x" * 64: 1}, "x is a member that no token has"),
        ({**OCT, "x" * 65: 1}, "there is a member that no token has"),
        ({**OCT, "hunter2\n": SECRET}, "there is a member that no token has"),
        ({**OCT, "key-ops_2": SECRET, SECRET: 1}, "key-ops_2 is a member"),
        ({**OCT, SECRET: 1}, "there is a member that no token has"),
    ],
)
def test_a_bad_file_is_one_line_without_its_secret(members: Any, message: str) -> None:
    """What is wrong is said in one line that names the member, and repeats nothing of the file's contents."""
    with pytest.raises(TokenFileError, match=message) as caught:
        parse(members)
    assert "\n" not in str(caught.value)
    for value in (SECRET[:20], str(OKP["d"])[:20], "hunter2", "tomorrow"):
        assert value not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"not json " + SECRET.encode(), b'{"k":"' + SECRET.encode(), b"[" * 100_000, b"\0"]
)
def test_a_file_that_is_no_json_is_one_line_too(data: bytes) -> None:
    """The same holds for what is not JSON at all."""
    with pytest.raises(TokenFileError) as caught:
        Token.parse(data)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("members", "secret"), [(OCT, "k"), (OKP, "d")])
def test_a_secret_is_not_printed(members: dict[str, str], secret: str) -> None:
    """Neither repr nor str of a token or of its key shows the secret."""
    token = parse(members)
    for text in (repr(token), str(token), f"{token}", repr(token.signing_key())):
        assert members[secret] not in text


def test_each_role_may_do_what_the_one_before_may() -> None:
    """A viewer reads, an operator writes as well, an admin does all."""
    viewer, operator, admin = (role.permissions for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN))
    assert viewer == {Permission.READ}
    assert operator == viewer | {Permission.WRITE}
    assert admin == operator | {Permission.DELETE, Permission.MANAGE}
