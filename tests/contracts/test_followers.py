"""The vectors of followers, through the two example followers as a reader would run them: Python and Node."""

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

CONTRACTS = Path(__file__).parents[2] / "contracts"
FILES = [CONTRACTS / "vectors" / "followers.json", CONTRACTS / "vectors" / "must_fail" / "followers.json"]
SEQUENCES: list[tuple[Path, dict[str, Any]]] = [
    (file, sequence) for file in FILES for sequence in json.loads(file.read_text("utf-8"))["sequences"]
]
EACH = pytest.mark.parametrize(
    ("file", "sequence"), SEQUENCES, ids=[f"{file.parent.name}-{sequence['name']}" for file, sequence in SEQUENCES]
)
OUTCOMES = {"empty", "unsigned", "pinned", "known_key", "other_key", "no_key", "bad_signature", "bad_document"}
TAKES = {"taken", "same", "older"}


def command(language: str) -> list[str | Path]:
    """Say how the example follower of a language is run."""
    if language == "python":
        return [sys.executable, CONTRACTS / "examples" / "follower.py"]
    node = shutil.which("node")
    if node is None:
        pytest.fail("node is missing: install Node 18 or newer (Debian: apt install nodejs)", pytrace=False)
    return [node, CONTRACTS / "examples" / "follower.mjs"]


@cache
def went_through(language: str, file: Path) -> dict[str, list[dict[str, Any]]]:
    """Let a follower go through a whole file, once: for each sequence what it said after each message."""
    done = subprocess.run([*command(language), file], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    said = defaultdict(list)
    for line in map(json.loads, done.stdout.splitlines()):
        said[line.pop("sequence")].append(line)
    return said


@pytest.mark.parametrize("language", ["python", "node"])
@EACH
def test_a_follower_holds_what_the_vector_says(language: str, file: Path, sequence: dict[str, Any]) -> None:
    """After each message of a sequence its outcome and what is held are those that stand in the vector."""
    assert went_through(language, file)[sequence["name"]] == [message["expect"] for message in sequence["messages"]]


@EACH
def test_sequences_agree_with_themselves(file: Path, sequence: dict[str, Any]) -> None:
    """Only what is taken changes what is held, by its own document; of what must fail nothing is."""
    held = sequence["holds"]
    for message in sequence["messages"]:
        outcome, holds = message["expect"]["outcome"], message["expect"]["holds"]
        if outcome == "taken":
            document = json.loads(message["payload"])
            held = {**held, document["service"]: document}
        assert holds == held
        assert outcome in OUTCOMES | TAKES
        assert file.parent.name != "must_fail" or outcome not in {"taken", "pinned"}


def test_every_outcome_has_vectors() -> None:
    """There are sequences for each word of the table, and a name stands for one sequence of its file only."""
    said = {message["expect"]["outcome"] for _, sequence in SEQUENCES for message in sequence["messages"]}
    assert said == OUTCOMES | TAKES
    assert len({(file, sequence["name"]) for file, sequence in SEQUENCES}) == len(SEQUENCES) > 150
