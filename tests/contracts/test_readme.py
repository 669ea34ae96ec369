"""The pages in contracts/: that they are complete, and the signing function, without a broker."""

import base64
import inspect
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from setpoint_contracts import COMMANDS, Claims, Code, Role, Token, signing, verify_command
from setpoint_contracts.audit import Action
from setpoint_contracts.errors import DETAILS
from setpoint_contracts.signing import VerifyingKey
from setpoint_contracts.system import Limits
from tests.contracts.readme import page, shell_blocks

TOPIC = "config/cmd/set"
# Bytes that shells, printf and HMAC's own padding could trip over.
KEYS = [b"\0" * 32, b"\xff" * 32, b"\x36" * 32, b"\x5c" * 32, b"%" * 32, bytes(range(32)), b"\n\\\0'" * 8]


def test_nothing_of_the_wire_is_left_out() -> None:
    """Every command, parameter, error code, limit and audit action stands on a page, and why a message is dropped."""
    pages = page() + page("commands.md") + page("following.md") + page("no-reply.md")
    reasons = re.findall(r'NotSignedError\(.*?"([a-z_]+)"(?: if .* else "([a-z_]+)")?', inspect.getsource(signing))
    params = {field.alias or name for command in COMMANDS.values() for name, field in command.model_fields.items()}
    words = {*COMMANDS, *Code, *Action, *params, *(reason for pair in reasons for reason in pair if reason)}
    assert {"alg_eddsa", "wrong_alg", "unknown_kid"} <= words
    limits = {"max_config_keys", "max_json_levels"}  # told as numbers
    assert [word for word in sorted(words | (Limits.model_fields.keys() - limits)) if f"`{word}`" not in pages] == []


def test_the_details_of_each_code_are_told() -> None:
    """In the row of a code, or the rows, stand all members that its ``details`` may have, and no other."""
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|[^|]*\|([^|]*)\| (?:yes|no) \|", page(), re.MULTILINE)
    told: dict[str, set[str]] = {}
    for codes, details in rows:
        for code in re.findall("`([a-z_]+)`", codes):
            told.setdefault(code, set()).update(re.findall(r"`([a-z_]+)`", details))
    assert told == {code: details.members for code, details in DETAILS.items()}


def token_of(key: bytes) -> Token:
    """Make an HS256 token of this key."""
    jwk = {"kty": "oct", "alg": "HS256", "kid": "tok_shell-1.x", "name": "admin", "role": "admin", "services": ["a*"]}
    return Token.parse(json.dumps({**jwk, "k": base64.urlsafe_b64encode(key).rstrip(b"=").decode()}).encode())


def sign(token: Token, directory: Path, *arguments: str, path: str | None = None) -> bytes:
    """Run the function of the page on a token file, and return what it prints."""
    token_file = directory / "token.jwk"
    token_file.write_bytes(token.dump())
    done = subprocess.run(
        ["sh", "-c", f'set -eu\n{shell_blocks()[0]}sign "$@"', "sh", *arguments],
        env={"PATH": path or os.environ["PATH"], "TOKEN": str(token_file)},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.stderr, done.returncode) == (b"", 0)
    return done.stdout


def claims_of(token: Token, payload: bytes) -> Claims:
    """Verify what was signed, as the daemon does, and read its claims."""
    verifying = VerifyingKey(token.alg, token.signing_key())
    signed = verify_command(payload, 10_000, lambda kid: (verifying, kid) if kid == token.kid else None)
    return Claims.model_validate_json(signed.claims)


@pytest.mark.parametrize("key", KEYS, ids=bytes.hex)
def test_signs_with_any_key(key: bytes, tmp_path: Path) -> None:
    """Whatever bytes the secret has, what the shell signs verifies."""
    claims = claims_of(token_of(key), sign(token_of(key), tmp_path, TOPIC))
    assert (claims.aud, claims.params) == (TOPIC, {})


def test_keeps_params_as_they_are(tmp_path: Path) -> None:
    """Quotes, backslashes, percent signs, braces and non-ASCII text in the parameters arrive as they were given."""
    token = Token.new("HS256", "tok_1", "admin", Role.ADMIN)
    params = {"service": "stt", "config": {"text": '\\ " 100% é {} $HOME `x`\n', "nested": {"a": [1, {}]}}}
    assert claims_of(token, sign(token, tmp_path, TOPIC, json.dumps(params, ensure_ascii=False))).params == params


def test_every_command_has_its_own_id(tmp_path: Path) -> None:
    """Two commands have two request ids, and live for a minute."""
    token = Token.new("HS256", "tok_1", "admin", Role.ADMIN)
    first, second = (claims_of(token, sign(token, tmp_path, TOPIC)) for _ in range(2))
    assert first.jti != second.jti
    assert 60 <= first.exp - first.iat < 90


def test_secret_is_never_an_argument(tmp_path: Path) -> None:
    """No program that signing starts gets the secret on its command line, where all users could read it."""
    seen = tmp_path / "arguments"
    for program in ("sed", "openssl", "tr", "od", "date"):
        wrapper = tmp_path / program
        wrapper.write_text(f'#!/bin/sh\nprintf "%s\\n" "$0 $*" >>"{seen}"\nexec "{shutil.which(program)}" "$@"\n')
        wrapper.chmod(0o755)
    key = bytes(range(80, 112))
    token = token_of(key)
    payload = sign(token, tmp_path, TOPIC, path=f"{tmp_path}:{os.environ['PATH']}")
    arguments = seen.read_text()

    assert claims_of(token, payload).aud == TOPIC
    assert "openssl dgst" in arguments
    for form in (token.k or "", key.decode("ascii"), key.hex(), " ".join(map(str, key))):
        assert form not in arguments


def test_is_short() -> None:
    """The function has at most ten lines."""
    assert len(shell_blocks()[0].splitlines()) <= 10


REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "contracts").rglob("*.md"), *REPOSITORY.glob("*/*.md")])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(path: Path) -> None:
    """A page names no file that is not there."""
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_first_page_stays_short() -> None:
    """Whoever writes a client reads it in a quarter of an hour; what answers another question has a page of its own."""
    assert len(page().split()) < 3600
