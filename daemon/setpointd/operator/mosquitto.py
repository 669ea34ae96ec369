"""A private Mosquitto for ``setpointd dev``: a child process on loopback that does not outlive its parent.

It loads the project's own configuration; listener, persistence and log are added here. Its files are in a directory of
their own, so that sessions and retained documents are there again at the next start.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from setpointd import locks
from setpointd.errors import OperatorError
from setpointd.operator.shipped import shipped

HOST = "127.0.0.1"
ADMIN_PATHS = "/usr/local/sbin:/usr/sbin:/sbin"  # Debian keeps mosquitto there, out of a plain user's PATH
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)


def find() -> str:
    """Return the path of the program; raises ``OperatorError`` when it is not installed."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:{ADMIN_PATHS}")
    if found is None:
        raise OperatorError(
            "mosquitto is not installed: `sudo apt install mosquitto mosquitto-clients`, then try again"
        )
    return found


@contextlib.contextmanager
def running(program: str, directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a broker on ``HOST`` that takes connections already; it is stopped at the end, and saves its state.

    Raises ``OperatorError`` when it does not start, with the last line of its log.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    with _only_one(directory):
        (directory / "mosquitto.conf").write_text(_configuration(port))
        log = directory / "mosquitto.log"
        with log.open("wb") as output:
            process = _start(program, directory, output.fileno())
        try:
            _wait_until_it_listens(process, port, log)
            yield process
        finally:
            _stop(process)


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Keep a second broker, on another port, from the same files."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.holding(directory))
        except BlockingIOError:
            raise OperatorError(f"another `setpointd dev` runs on {directory.parent}") from None
        yield


def _configuration(port: int) -> str:
    own = [
        f"listener {port} {HOST}",
        "allow_anonymous true",
        "persistence_location ./",  # it is started in its directory, whatever characters that path has
        "log_type error",
        "log_type warning",
        # Started by root it would become another user, who cannot write here; and the kernel forgets, with the change
        # of the user, to tell it of its parent's death. Started by others it ignores this.
        "user root",
    ]
    return shipped("mosquitto/mosquitto.conf") + "\n# Added by `setpointd dev`.\n" + "\n".join(own) + "\n"


def _start(program: str, directory: Path, output: int) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def die_with_parent() -> None:
        # The kernel sends the signal when the parent ends, for whatever reason, kill -9 included: no code of ours needs
        # to run then, and no process has to stand between the two. It counts the death of the thread that started the
        # child, which is the main thread here. A parent that died before this line is found out by the second one.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(  # noqa: S603 - found by `find`, no shell
        [program, "-c", "mosquitto.conf"],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        process_group=0,  # Ctrl-C is for the daemon, which wants to say goodbye to a broker that still lives
        preexec_fn=die_with_parent,  # noqa: PLW1509 - there is no other thread yet
    )


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(_POLL_S)
    last = (log.read_text(errors="replace").splitlines() or ["it left no word why"])[-1]
    raise OperatorError(f"mosquitto does not start: {last}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
