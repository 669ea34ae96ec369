"""README.md to the letter: its shell session, its Python program and its probes, against a running daemon."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.waiting import DEADLINE_S

REPOSITORY = Path(__file__).parents[2]

# What `setpoint set` shows beside its answer.
SAID = "speech (new)\n+ /speed: 1.25\n+ /voice: alba\n"


@pytest.fixture
def clone(daemon: Daemon, tmp_path: Path) -> Path:
    """Make a directory that looks like a clone in which `./dev up` runs: the documents, and `.setpoint`."""
    (tmp_path / "contracts").symlink_to(REPOSITORY / "contracts")
    (tmp_path / ".setpoint").symlink_to(daemon.data_dir)
    # The probes name the usual address; this leads curl to the daemon's.
    (tmp_path / ".curlrc").write_text(f'connect-to = "127.0.0.1:8765:{daemon.http}"\n')
    return tmp_path


def blocks(language: str) -> list[str]:
    """Read the fenced blocks of one language."""
    text = (REPOSITORY / "README.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def run(script: str, clone: Path, daemon: Daemon, *, says: str = "") -> str:
    """Run a block as it stands and return what it prints; ``says`` is all that it may say beside that."""
    where = {"MQTT_HOST": daemon.host, "MQTT_PORT": str(daemon.port)}
    env = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(clone), "HOME": str(clone), **where}
    done = subprocess.run(
        ["sh", "-ec", script], cwd=clone, env=env, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stderr, done.returncode) == (says, 0), done.stdout
    return done.stdout


def test_shell_session(clone: Path, daemon: Daemon) -> None:
    """The session writes, patches, is refused a stale write, reads an old version, and reads what is retained."""
    session, *_ = blocks("sh")
    made, patched, refused, old, retained = map(json.loads, run(session, clone, daemon).splitlines())
    assert (made["result"]["version"], patched["result"]["version"]) == (1, 2)
    assert refused["error"]["code"] == "version_conflict"
    assert refused["error"]["details"]["current"] == retained
    assert old["result"]["config"] == {"model": "small", "threads": 2}
    assert retained["config"] == {"model": "small", "threads": 4}


def test_probes(clone: Path, daemon: Daemon) -> None:
    """The four probes answer as the page says."""
    session, _, probes = blocks("sh")
    run(session, clone, daemon)
    printed = run(probes, clone, daemon)
    assert '"status":"pass"' in printed.replace(" ", "")
    assert "[+]broker ok" in printed
    assert 'setpoint_commands_total{code="ok",command="set"}' in printed


def test_python_program(clone: Path, daemon: Daemon) -> None:
    """The service begins with its defaults, and follows what the command line sets."""
    [program] = blocks("python")
    _, command_line, _ = blocks("sh")
    (clone / "speech.py").write_text(program)
    (clone / ".venv").symlink_to(Path(sys.prefix))
    where = {"SETPOINT_TOKEN": ".setpoint/admin.jwk", "SETPOINT_BROKER_URL": f"mqtt://{daemon.host}:{daemon.port}"}
    with subprocess.Popen(
        [sys.executable, "speech.py"],
        cwd=clone,
        env={**os.environ, "HOME": str(clone), **where},
        stdout=subprocess.PIPE,
        text=True,
    ) as service:
        try:
            assert service.stdout is not None
            assert service.stdout.readline() == "defaults voice='alba' speed=1.0\n"
            printed = run(command_line, clone, daemon, says=SAID)
            assert service.stdout.readline() == "voice='alba' speed=1.0 -> voice='alba' speed=1.25\n"
        finally:
            service.terminate()
            service.wait(DEADLINE_S)
    assert "speed  1.25" in printed
