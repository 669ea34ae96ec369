"""client/cli.md to the letter: its blocks, its table of exit codes, its commands."""

import re
from pathlib import Path

import pytest

from setpoint.cli.app import COMMANDS
from setpoint.cli.exits import CODES, Exit
from tests.cli.command import Setpoint
from tests.daemon import Daemon

_ROW = re.compile(r"^\| ([0-9]+)[^|]* \|[^|]*\|([^|]*)\|$", re.MULTILINE)
GUIDE = (Path(__file__).parents[2] / "client" / "cli.md").read_text("utf-8")


@pytest.mark.long
@pytest.mark.timeout(240)
def test_the_guide_can_be_followed(daemon: Daemon, alone: Setpoint) -> None:
    """Every block runs as it stands, one after the other, as after `./dev up`."""
    (alone.home / ".setpoint").symlink_to(daemon.data_dir)
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
    done = alone.shell("set -e\n" + "\n".join(blocks), 200, MQTT_HOST=daemon.host, MQTT_PORT=str(daemon.port))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "asr version 1 → 2\n- /model: base\n+ /model: small\n" in done.stderr
    for line in ("large", "hunter2", "it was not there an hour ago", "it differs", "exit code 7: nobody runs it here"):
        assert line in done.stdout.splitlines()
    assert "asr is at version 5" in done.stdout.splitlines()


def test_the_guide_names_every_command() -> None:
    """There is an example or a word of each."""
    assert [name for name in COMMANDS if not re.search(rf"setpoint {name}\b|`{name}[ `]", GUIDE)] == []


def test_the_guide_has_the_exit_codes() -> None:
    """Each code of the wire stands in the line of its exit code."""
    rows = {row[0]: row[1] for row in _ROW.findall(GUIDE)}
    for code, ending in CODES.items():
        if code not in {"unreachable", "not_applied", "configuration"}:
            assert f"`{code}`" in rows[str(int(ending))]
    assert {int(row) for row in rows} >= set(map(int, Exit))
