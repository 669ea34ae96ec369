"""Locks on files: one holder at a time, a deadline for the others, and no lock of the dead."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from setpointd.locks import holding
from tests.waiting import DEADLINE_S, until


@pytest.fixture(params=["file", "directory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Name what is locked: a file that is not there yet, or a directory that is."""
    return tmp_path / "a.lock" if request.param == "file" else tmp_path


def is_free(path: Path) -> bool:
    """Whether nobody holds a lock."""
    try:
        with holding(path):
            return True
    except BlockingIOError:
        return False


def test_one_holds_it_at_a_time(path: Path) -> None:
    """Until it lets go, whatever happened meanwhile; then others may."""

    def fail() -> None:
        with holding(path):
            assert not is_free(path)
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert is_free(path)


def test_a_lock_file_is_its_owners(tmp_path: Path) -> None:
    """Nobody else can hold the daemon up by locking it."""
    with holding(tmp_path / "a.lock"):
        assert (tmp_path / "a.lock").stat().st_mode & 0o777 == 0o600


def test_waiting_ends_at_the_deadline(path: Path) -> None:
    """Not before it, and with an error that can be told from others."""
    with holding(path):
        begun = time.monotonic()
        with pytest.raises(BlockingIOError), holding(path, wait_s=0.05):
            pytest.fail("two hold it")
        assert time.monotonic() - begun >= 0.05


@pytest.mark.parametrize("wait_s", [DEADLINE_S, None])
def test_who_waits_gets_it_when_it_is_let_go(path: Path, wait_s: float | None) -> None:
    """Within its deadline, or without one as long as it takes."""
    got = threading.Event()

    def wait() -> None:
        with holding(path, wait_s=wait_s):
            got.set()

    waiting = threading.Thread(target=wait, daemon=True)
    with holding(path):
        waiting.start()
        assert not got.wait(0.05)
    assert got.wait(DEADLINE_S)
    waiting.join()


def test_the_dead_hold_nothing(path: Path) -> None:
    """A holder that is killed has let go."""
    program = (
        "import sys, time; from pathlib import Path; from setpointd.locks import holding\n"
        "with holding(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert not is_free(path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    until(lambda: is_free(path), "the lock is free")


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """A lock in a directory that is not there is no lock that somebody else holds."""
    with pytest.raises(FileNotFoundError), holding(tmp_path / "not" / "there"):
        pytest.fail("held")
