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


def run(script: str, clone: Path, daemon: Daemon) -> str:
    """Run a block as it stands and return what it prints; it must not complain."""
    where = {"MQTT_HOST": daemon.host, "MQTT_PORT": str(daemon.port)}
    env = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(clone), "HOME": str(clone), **where}
    done = subprocess.run(
        ["sh", "-ec", script], cwd=clone, env=env, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    return done.stdout


def test_shell_session(clone: Path, daemon: Daemon) -> None:
    """The session writes, patches, is refused a stale write, reads an old version, and reads what is retained."""
    session, _ = blocks("sh")
    made, patched, refused, old, retained = map(json.loads, run(session, clone, daemon).splitlines())
    assert (made["result"]["version"], patched["result"]["version"]) == (1, 2)
    assert refused["error"]["code"] == "version_conflict"
    assert refused["error"]["details"]["current"] == retained
    assert old["result"]["config"] == {"model": "small", "threads": 2}
    assert retained["config"] == {"model": "small", "threads": 4}


def test_probes(clone: Path, daemon: Daemon) -> None:
    """The four probes answer as the page says."""
    session, probes = blocks("sh")
    run(session, clone, daemon)
    printed = run(probes, clone, daemon)
    assert '"status":"pass"' in printed.replace(" ", "")
    assert "[+]broker ok" in printed
    assert 'setpoint_commands_total{code="ok",command="set"}' in printed


def test_python_program(clone: Path, daemon: Daemon) -> None:
    """The program sets a config, gets its reply, and follows the service's updates."""
    [program] = blocks("python")
    assert len([line for line in program.splitlines() if line.strip()]) <= 15
    (clone / "follow.py").write_text(program)
    env = {**os.environ, "MQTT_PORT": str(daemon.port)}
    seen: list[str] = []
    with subprocess.Popen(
        [sys.executable, "follow.py"], cwd=clone, env=env, stdout=subprocess.PIPE, text=True
    ) as follow:
        assert follow.stdout is not None
        while len(seen) < 2 and (line := follow.stdout.readline()):
            seen.append(line)
        follow.terminate()
        follow.wait(DEADLINE_S)
    topics = {line.split()[0].rpartition("/")[0] for line in seen}
    assert topics == {"config/reply/admin", "config/updated"}
    assert all('"voice":"alba"' in line for line in seen)
