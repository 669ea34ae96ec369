"""The tool that makes vectors: what it signs, and what it refuses."""

import json
import sys
from pathlib import Path

import pytest

from tests.contracts import make_vector
from tests.contracts.test_generated import imported
from tests.contracts.test_vectors import verify
from tests.vectors import ALL

LINE = {"name": "made-now", "why": "to see", "command": "get", "params": {"service": "stt"}, "token": "tok_viewer"}


def test_it_shares_no_code_with_what_the_vectors_test() -> None:
    """It stands on the standard library and on Ed25519 of `cryptography`."""
    assert imported(Path(make_vector.__file__)) - sys.stdlib_module_names == {"cryptography"}


@pytest.mark.parametrize(("name", "kid"), [("hs256-ok", "tok_admin"), ("ed25519-ok", "tok_ed")])
def test_it_signs_as_the_given_vectors_are_signed(name: str, kid: str) -> None:
    """The same claims of the same token come out byte for byte."""
    (given,) = (vector for vector in ALL if vector["name"] == name)
    assert make_vector.sign("info", {}, kid, f"v-{name}") == {"topic": given["topic"], "payload": given["payload"]}


def test_a_line_becomes_a_vector(tmp_path: Path) -> None:
    """It stands in the file behind what was there, signed by the token that it names, with what comes before it."""
    path = tmp_path / "get.json"
    make_vector.add(path, [LINE])
    before = [["set", {"service": "stt", "config": {}}]]
    make_vector.add(path, [{**LINE, "name": "made-then", "before": before, "expect": {"code": "not_found"}}])
    first, second = json.loads(path.read_text())["vectors"]
    assert verify(first).signer.name == "dash"
    assert first["expect"] == {"code": None, "outcome": "reply", "reply_topic": "config/reply/dash/v-made-now"}
    assert "before" not in first
    assert verify(second["before"][0]).signer.name == "admin"
    assert second["expect"]["code"] == "not_found"


@pytest.mark.parametrize("wrong", [{"name": "hs256-ok"}, {"name": "made-now"}, {"name": "A b"}, {"parms": {}}])
def test_what_is_refused_writes_nothing(wrong: dict[str, object], tmp_path: Path) -> None:
    """A name that is taken anywhere, no name for a request, a member that there is not: the file stays as it was."""
    path = tmp_path / "get.json"
    make_vector.add(path, [LINE])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=str(wrong.get("name", "parms"))):
        make_vector.add(path, [{**LINE, "name": "made-then"}, {**LINE, "name": "made-last", **wrong}])
    assert path.read_bytes() == before
