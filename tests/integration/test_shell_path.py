"""The shell session of contracts/README.md, against a running daemon."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.contracts.readme import shell_blocks

SEPARATOR = "--- end of block ---"
DEADLINE_S = 20


class Daemon(Protocol):
    """What these tests need of the fixture ``daemon``: a broker with a running setpointd, its store empty."""

    host: str
    port: int
    token_path: Path


@pytest.fixture
def shell(daemon: Daemon, tmp_path: Path) -> Callable[..., list[list[dict[str, Any]]]]:
    """Run blocks as one script, as a reader would paste them; for each, the JSON documents that it prints."""
    # The clients read their broker from here, so the lines run unchanged on any port.
    for client in ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr"):
        (tmp_path / client).write_text(f"-h {daemon.host}\n-p {daemon.port}\n")
    env = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(tmp_path), "TOKEN": str(daemon.token_path)}

    def run(*blocks: str) -> list[list[dict[str, Any]]]:
        script = "set -eu\n" + f"echo '{SEPARATOR}'\n".join(blocks)
        done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=50, check=False)
        assert (done.stderr, done.returncode) == ("", 0), done.stdout
        return [[json.loads(line) for line in block.splitlines() if line] for block in done.stdout.split(SEPARATOR)]

    return run


def test_session_of_the_readme(shell: Callable[..., list[list[dict[str, Any]]]]) -> None:
    """Every line of the session does what the page says: request and reply, publish and fetch, repeat, retained."""
    *session, read_retained = shell_blocks()
    defined, asked, fetched, repeated = shell(*session)

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

    [[document]] = shell(read_retained)
    deadline = time.monotonic() + DEADLINE_S
    while document["version"] < 3:  # an update may follow its reply a moment later
        assert time.monotonic() < deadline
        [[document]] = shell(read_retained)
    assert document["config"] == {"model": "large", "threads": 4}
