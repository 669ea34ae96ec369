"""Concurrent callers through random faults: what they were told is linearisable. `./dev robustness` does it longer."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.crash.history import History
from tests.crash.robustness import Plan, run
from tests.daemon import NewDaemon

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]  # a deadline, for a slow machine; it takes some seconds


async def test_what_callers_are_told_through_faults_is_linearisable(
    own_broker: Broker,
    new_daemon: NewDaemon,
    tmp_path: Path,
) -> None:
    """Six callers, up to four faults, 500 operations: nothing is wrong with the history, and much happened in it."""
    daemon = new_daemon(broker=own_broker, rate_limit_per_s=0)
    seed = int(os.environ.get("SETPOINT_TEST_SEED") or secrets.randbits(32))
    plan = Plan(seed, seconds=120.0, operations=500, callers=6, services=2, faults=4, gap=100)
    history = History()
    violations = await run(plan, daemon, own_broker, history)
    history.save(tmp_path / "history.json")
    assert violations == [], plan.again()
    assert len(history.operations) == plan.operations
    assert history.faults
    codes = {answer.code for operation in history.operations for answer in operation.answers()}
    assert {"ok", "version_conflict"} <= codes
    assert all(len(versions) > 10 for versions in history.versions.values())
    assert {update.document["service"] for update in history.updates} >= history.versions.keys()


@pytest.mark.broker
def test_the_long_run_in_its_shortest_form(tmp_path: Path) -> None:
    """The program behind `./dev robustness` says its seed and what it found, and leaves nothing when all is well."""
    command = [sys.executable, "-m", "tests.crash.robustness", "--seconds", "1", "--seed", "7"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("seed 7;")
    assert last == "violations: 0"
    assert not list(tmp_path.iterdir())
