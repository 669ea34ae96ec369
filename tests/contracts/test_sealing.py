"""Secrets for one caller: what any other implementation of the same RFCs makes and opens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc.util import urlsafe_b64decode, urlsafe_b64encode

from setpoint_contracts import Role, Token, open_sealed, seal_for
from setpoint_contracts.keys import Secret
from setpoint_contracts.sealing import TOKEN_INFO, NotSealedError
from tests.contracts.readme import blocks

SECRET = bytes(range(32))
INFO = "setpoint/token"


def key_of(secret: bytes, info: str) -> AESGCM:
    """Derive the key as RFC 5869 says, with code that is not ours."""
    return AESGCM(HKDF(SHA256(), 32, None, info.encode()).derive(secret))


@pytest.mark.parametrize("plaintext", [b"", b"x", os.urandom(300_000)], ids=["nothing", "a byte", "much"])
def test_what_is_sealed_opens_again(plaintext: bytes) -> None:
    """Whatever it is, more than the largest config too, with the secret as bytes or as a key."""
    assert open_sealed(Secret(SECRET), INFO, seal_for(SECRET, INFO, plaintext)) == plaintext
    assert open_sealed(SECRET, INFO, seal_for(Secret(SECRET), INFO, plaintext)) == plaintext


def test_others_open_it() -> None:
    """It is a compact JWE of `dir` and `A256GCM`, and the header is authenticated with it."""
    head, encrypted_key, *rest = seal_for(SECRET, INFO, b"the token").encode().split(b".")
    nonce, ciphertext, tag = map(urlsafe_b64decode, rest)
    assert json.loads(urlsafe_b64decode(head)) == {"alg": "dir", "enc": "A256GCM"}
    assert encrypted_key == b""
    assert key_of(SECRET, INFO).decrypt(nonce, ciphertext + tag, head) == b"the token"


def test_what_others_seal_opens() -> None:
    """The order of the header's members is theirs."""
    head, nonce = urlsafe_b64encode(b'{"enc":"A256GCM", "alg":"dir"}'), b"n" * 12
    sealed = key_of(SECRET, INFO).encrypt(nonce, b"the token", head)
    parts = [head, b"", *map(urlsafe_b64encode, (nonce, sealed[:-16], sealed[-16:]))]
    assert open_sealed(SECRET, INFO, b".".join(parts).decode()) == b"the token"


def test_no_two_are_alike() -> None:
    """Each has a nonce of its own, so the same plaintext is not known again."""
    assert len({seal_for(SECRET, INFO, b"the token") for _ in range(10)}) == 10


def test_it_opens_for_its_holder_and_its_purpose_only() -> None:
    """Another secret, another purpose, anything changed, and what is no JWE of this kind: refused, and in one way."""
    sealed = seal_for(SECRET, INFO, b"the token")
    head, _, nonce, ciphertext, tag = sealed.split(".")
    other = urlsafe_b64encode(b'{"alg":"A256KW","enc":"A256GCM"}').decode()
    for secret, info, text in (
        (bytes(32), INFO, sealed),
        (SECRET, "setpoint/secrets", sealed),
        (SECRET, INFO, f"{head}..{nonce}.{ciphertext}.{'A' * 22}"),
        (SECRET, INFO, f"{head}..{nonce}.AAAA.{tag}"),
        (SECRET, INFO, f"{other}..{nonce}.{ciphertext}.{tag}"),
        (SECRET, INFO, sealed.rpartition(".")[0]),
        (SECRET, INFO, f"{sealed}.{tag}"),
        (SECRET, INFO, f"{head}.{'A' * 43}.{nonce}.{ciphertext}.{tag}"),
        (SECRET, INFO, f"{head}..{nonce}AAAA.{ciphertext}.{tag}"),
        (SECRET, INFO, f"{head}..{nonce}.{ciphertext}.{tag[:-2]}"),
        (SECRET, INFO, ""),
        (SECRET, INFO, "é" * 9),
    ):
        with pytest.raises(NotSealedError):
            open_sealed(secret, info, text)


@pytest.mark.parametrize(
    ("language", "command", "name"), [("js", "node", "open.mjs"), ("python", sys.executable, "open.py")]
)
def test_the_page_says_how_to_open_it(language: str, command: str, name: str, tmp_path: Path) -> None:
    """The program of the page, as it stands, prints the file of the new token; it fails for what was changed."""
    own, new = (Token.new("HS256", kid, "admin", Role.ADMIN) for kid in ("tok_own", "tok_new"))
    (tmp_path / "own.jwk").write_bytes(own.dump())
    [program] = blocks(language, "commands.md")
    (tmp_path / name).write_text(program)
    sealed = seal_for(own.signing_key(), TOKEN_INFO, new.dump())

    def opened(text: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [command, name, "own.jwk", text], cwd=tmp_path, capture_output=True, timeout=20, check=False
        )

    done = opened(sealed)
    assert (done.stderr, done.stdout) == (b"", new.dump())
    assert Token.parse(done.stdout) == new
    changed = opened(f"{sealed[:-22]}{'A' * 22}")
    assert (changed.stdout, changed.returncode) == (b"", 1)
