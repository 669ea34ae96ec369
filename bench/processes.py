"""The programs that a run is made of, as child processes: the installed daemon, and the bare echoes."""

import compileall
import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from echo import KINDS
from load import TIMEOUT_S, LoadError

import setpoint
import setpoint_contracts
import setpointd
from setpoint_contracts import Token

HOST = "127.0.0.1"
SETPOINTD = Path(sys.executable).with_name("setpointd")
_ECHO = Path(__file__).with_name("echo.py")
_POLL_S = 0.005
_DRAINED_POLL_S = 0.05  # a scrape takes the daemon some milliseconds
_STARTED_S = 60.0  # with 10,000 services on a busy machine
_RATE_LIMIT_PER_S = "1000000"  # the limit is at work, and one principal sends all that the daemon can do
_PENDING = re.compile(rb"^setpoint_outbox_pending (\S+)$", re.MULTILINE)


def compile_modules() -> None:
    """Compile the product's modules, as pip does when it installs them; else the starts of a checkout would do it."""
    for package in (setpointd, setpoint, setpoint_contracts):
        compileall.compile_dir(Path(package.__file__ or "").parent, quiet=1)


def make_store(data_dir: Path) -> Token:
    """Make a new store; its admin token."""
    subprocess.run([SETPOINTD, "init", "--data-dir", data_dir], stdout=subprocess.DEVNULL, check=True)
    return Token.load(data_dir / "admin.jwk")


class Daemon:
    """A running ``setpointd run``, seen from outside. ``log`` may be ``/dev/null``."""

    def __init__(
        self,
        data_dir: Path,
        broker_port: int,
        log: Path,
        program: Path = SETPOINTD,
        *,
        prefix: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.http_port = free_port()
        arguments = ["--broker", f"mqtt://{HOST}:{broker_port}", "--http", f"{HOST}:{self.http_port}"]
        arguments += ["--topic-prefix", prefix]
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [program, "run", "--data-dir", data_dir, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # The rate as a variable: an older program knows no such option.
                env={**os.environ, "SETPOINT_RATE_LIMIT_PER_S": _RATE_LIMIT_PER_S, **(environment or {})},
                process_group=0,  # Ctrl-C is for the benchmark, which stops it
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def wait_ready(self) -> None:
        """Wait until ``/readyz`` says 200."""
        self._wait_for(lambda: self._get("/readyz")[0] == http.client.OK, "ready", _POLL_S)

    def wait_drained(self) -> None:
        """Wait until everything that was committed is published, and the broker has confirmed it."""
        self._wait_for(self._drained, "done with its outbox", _DRAINED_POLL_S)

    def counted(self, series: bytes) -> float:
        """Add up the series of ``/metrics`` that begin so."""
        lines = self._get("/metrics")[1].splitlines()
        return sum(float(line.rpartition(b" ")[2]) for line in lines if line.startswith(series))

    def stop(self) -> None:
        """End it and wait for its end; by force when it does not go by itself."""
        self.process.terminate()
        try:
            self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _drained(self) -> bool:
        pending = _PENDING.search(self._get("/metrics")[1])
        return pending is not None and float(pending[1]) == 0

    def _wait_for(self, condition: Callable[[], bool], what: str, pause_s: float) -> None:
        deadline = time.monotonic() + _STARTED_S
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                last = (self._log.read_text(errors="replace").splitlines() or ["it left no word why"])[-1]
                raise LoadError(f"the daemon is not {what}: {last}")
            time.sleep(pause_s)

    def _get(self, path: str) -> tuple[int, bytes]:
        with contextlib.closing(http.client.HTTPConnection(HOST, self.http_port, timeout=TIMEOUT_S)) as connection:
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, response.read()
            except ConnectionError:
                return 0, b""


@contextlib.contextmanager
def running_daemon(
    data_dir: Path,
    broker_port: int,
    log: Path,
    program: Path = SETPOINTD,
    *,
    prefix: str = "",
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[Daemon, float]]:
    """Run the daemon, ready to work; also the seconds that it took for that."""
    started = time.perf_counter()
    daemon = Daemon(data_dir, broker_port, log, program, prefix=prefix, environment=environment)
    try:
        daemon.wait_ready()
        yield daemon, time.perf_counter() - started
    finally:
        daemon.stop()


@contextlib.contextmanager
def running_echoes(broker_port: int) -> Iterator[dict[str, int]]:
    """Run the bare echoes, subscribed; their process ids by kind."""
    with contextlib.ExitStack() as running:
        found = {}
        for kind in KINDS:
            command = [sys.executable, str(_ECHO), kind, str(broker_port)]
            found[kind] = running.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0))
            running.callback(found[kind].terminate)
        for kind, process in found.items():
            if process.stdout is None or not process.stdout.readline():
                raise LoadError(f"{kind} does not start")
        yield {kind: process.pid for kind, process in found.items()}


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])
