"""The shell sessions of contracts/shell.md, against a running daemon."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.readme import blocks, shell_blocks
from tests.daemon import SETPOINTD, Daemon
from tests.waiting import DEADLINE_S, until

SEPARATOR = "--- end of block ---"

Shell = Callable[..., list[list[dict[str, Any]]]]


@pytest.fixture
def shell(daemon: Daemon, tmp_path: Path) -> Shell:
    """Run blocks as one script, as a reader would paste them; for each, the JSON documents that it prints."""
    env = {
        "PATH": f"{SETPOINTD.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "MQTT_HOST": daemon.host,
        "MQTT_PORT": str(daemon.port),
        "TOKEN": str(daemon.token_path),
        "DATA_DIR": str(daemon.data_dir),
    }

    def run(*script: str) -> list[list[dict[str, Any]]]:
        done = subprocess.run(
            ["sh", "-c", "set -eu\n" + f"echo '{SEPARATOR}'\n".join(script)],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert (done.stderr, done.returncode) == ("", 0), done.stdout
        printed = done.stdout.split(SEPARATOR)
        return [[json.loads(line) for line in block.splitlines() if line.startswith("{")] for block in printed]

    return run


def test_session_of_the_readme(shell: Shell) -> None:
    """Every line of the session does what the page says: request and reply, publish and fetch, repeat, retained."""
    defined, asked, fetched, repeated = shell(*shell_blocks()[:4])

    assert defined == []
    assert [reply["ok"] for reply in asked] == [True] * 4, asked
    info, made, patched, read = [reply["result"] for reply in asked]
    assert info["principal"] == "admin"
    assert (made["version"], made["changed"]) == (1, True)
    assert (patched["version"], patched["config"]) == (2, {"model": "small", "threads": 4})
    assert (read["version"], read["value"]) == (2, 4)

    [reply] = fetched
    assert (reply["ok"], reply["command"], reply["result"]["version"]) == (True, "patch", 3)

    first, second = repeated
    assert first == second
    assert (first["ok"], first["result"]["service"], first["result"]["version"]) == (True, "tts", 1)

    read_retained = shell_blocks()[4]
    [[document]] = shell(read_retained)
    deadline = time.monotonic() + DEADLINE_S
    while document["version"] < 3:  # an update may follow its reply a moment later
        assert time.monotonic() < deadline
        [[document]] = shell(read_retained)
    assert document["config"] == {"model": "large", "threads": 4}


def test_from_an_ed25519_key_to_the_first_command(shell: Shell, daemon: Daemon, tmp_path: Path) -> None:
    """With a key that never leaves its owner, openssl signs a command that runs, and so does the program for Node."""
    register, with_openssl, with_node = shell_blocks()[5:]
    [program] = blocks("js", "shell.md")
    (tmp_path / "sign.mjs").write_text(program)

    shell(register)
    assert (tmp_path / "vision.pem").stat().st_mode & 0o077 == 0
    until(lambda: bool(daemon.events("tokens_changed")), "the daemon has noticed the token")
    [[made], [read]] = shell(with_openssl, with_node)

    assert (made["ok"], made["command"], made["result"]["updated_by"]) == (True, "set", "vision")
    assert (read["ok"], read["command"], read["result"]["value"]) == (True, "get", "small")
