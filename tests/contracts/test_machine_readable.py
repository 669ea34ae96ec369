"""The schemas and the AsyncAPI document, read by the tools that others would use: ajv and AsyncAPI's own parser."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from setpoint_contracts import Claims, Topics, strictjson
from tests.contracts.generate import CONTRACTS
from tests.contracts.test_vectors import CARRIED_OUT, verify
from tests.npm import npm_install
from tests.vectors import FILES

PACKAGES = ("ajv@8.20.0", "@asyncapi/parser@3.6.3")
STAMP = "2026-11-23T10:00:00.123Z"
HEAD = {"service": "stt", "version": 1, "revision": 1, "epoch": 1, "updated_at": STAMP, "updated_by": "admin"}
KEY = {"kty": "OKP", "crv": "Ed25519", "x": "bndheRw35ZNLZjZQDAdJhrFI6QEQgSHgxaa-NOEWW-I", "kid": "k", "use": "sig"}


@pytest.fixture(scope="session")
def node_modules(pytestconfig: pytest.Config) -> Path:
    """Install the tools from npm."""
    return npm_install(pytestconfig, *PACKAGES)


def header_of(payload: str) -> dict[str, Any]:
    """Read the header of a compact JWS."""
    head = payload.strip().partition(".")[0]
    return dict(json.loads(base64.urlsafe_b64decode(head + "==")))


def vector_cases() -> list[tuple[str, Any, bool]]:
    """List what the vectors hold that is taken: tokens, headers, claims and parameters."""
    cases: list[tuple[str, Any, bool]] = [("token", token, True) for file in FILES for token in file["tokens"]]
    for vector in CARRIED_OUT:
        claims = strictjson.loads(verify(vector).claims)
        command = Topics().command_name(vector["topic"]).replace("/", "-")
        cases += [
            ("command-header", header_of(vector["payload"]), True),
            ("claims", claims, True),
            (f"{command}.params", Claims.model_validate(claims).params, True),
        ]
    return cases


CASES: list[tuple[str, Any, bool]] = [
    ("config-document", {**HEAD, "config": {"a": None}}, True),
    ("config-document", {**HEAD, "version": 1.0, "deleted": True}, True),
    ("config-document", {**HEAD, "version": True, "config": {}}, False),
    ("config-document", {**HEAD, "config": {"9": 1}}, False),
    ("get.params", {"service": "stt", "version": True}, False),
    ("get.params", {"service": "stt", "version": 0}, False),
    ("epoch-advance.params", {"reason": "why"}, False),
    ("token", {"kty": "oct", "kid": "k", "alg": "HS256", "name": "a", "role": "admin"}, False),
    ("command-header", {"alg": "EdDSA", "kid": "k"}, False),
    ("command-header", {"alg": "HS256", "kid": "k", "topic": "t"}, False),
    ("detached-header", {"alg": "HS256", "kid": "k", "topic": "t"}, True),
    ("detached-header", {"alg": "HS256", "kid": "k"}, False),
    ("jwk-set", {"keys": [{**KEY, "alg": "Ed25519"}]}, True),
    ("jwk-set", {"keys": [{**KEY, "alg": "Ed25519", "d": KEY["x"]}]}, False),
    ("jwk-set", {"keys": [KEY]}, False),
]


@pytest.mark.timeout(300)  # the first run downloads
def test_others_can_read_the_contracts(node_modules: Path) -> None:
    """Ajv takes every schema in strict mode and judges as we do; AsyncAPI's parser finds nothing to say."""
    command: list[str | Path] = ["node", Path(__file__).with_name("validate.mjs"), CONTRACTS]
    cases = json.dumps(vector_cases() + CASES)
    done = subprocess.run(command, cwd=node_modules, input=cases, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
