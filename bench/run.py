"""The benchmark behind ``./dev bench``: a private broker, a new store, the installed daemon, measured from outside.

It goes round several times (bare echo, ``get``, ``set``, update), so that what else the machine does spoils all of
them alike, and prints medians in Markdown. At the end, by Ctrl-C too, nothing of it is left running.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from figures import Results, cpu_s, machine, report, rss_mib
from load import TIMEOUT_S, Command, Connection, LoadError
from workload import SERVICES, Commands

from setpoint_contracts import Token
from setpointd.errors import OperatorError
from setpointd.operator import mosquitto

HOST = "127.0.0.1"
SETPOINTD = Path(sys.executable).with_name("setpointd")
_ECHO = Path(__file__).with_name("echo.py")
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_S = 0.005
_PENDING = re.compile(rb"^setpoint_outbox_pending (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Sizes:
    """How much is measured. ``seconds`` bounds each load with ``in_flight`` commands, beside ``commands``."""

    rounds: int = 5
    starts: int = 5
    fsyncs: int = 300
    warm_up: int = 100
    sequential: int = 1000
    in_flight: int = 100
    commands: int = 10_000
    seconds: float = 5.0


QUICK = Sizes(rounds=1, starts=1, fsyncs=20, warm_up=5, sequential=20, commands=300, seconds=1.0)


class Daemon:
    """A running ``setpointd run``, seen from outside."""

    def __init__(self, data_dir: Path, broker_port: int, log: Path, program: Path = SETPOINTD) -> None:
        self._port = free_port()
        arguments = ["--broker", f"mqtt://{HOST}:{broker_port}", "--http", f"{HOST}:{self._port}"]
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [program, "run", "--data-dir", data_dir, *arguments],
                # One principal sends all that the daemon can do. As a variable: an older program knows no such option.
                env={**os.environ, "SETPOINT_RATE_LIMIT_PER_S": "0"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # Ctrl-C is for the benchmark, which stops it
            )

    def wait_ready(self) -> None:
        """Wait until ``/readyz`` says 200."""
        self._wait_for(lambda: self._get("/readyz")[0] == http.client.OK, "ready", _POLL_S)

    def wait_drained(self) -> None:
        """Wait until everything that was committed is published, and the broker has confirmed it."""
        self._wait_for(self._drained, "done with its outbox", 10 * _POLL_S)  # a scrape takes it some milliseconds

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
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                last = (self._log.read_text(errors="replace").splitlines() or ["it left no word why"])[-1]
                raise LoadError(f"the daemon is not {what}: {last}")
            time.sleep(pause_s)

    def _get(self, path: str) -> tuple[int, bytes]:
        with contextlib.closing(http.client.HTTPConnection(HOST, self._port, timeout=TIMEOUT_S)) as connection:
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, response.read()
            except ConnectionError:
                return 0, b""


@contextlib.contextmanager
def running_daemon(
    data_dir: Path, broker_port: int, log: Path, program: Path = SETPOINTD
) -> Iterator[tuple[Daemon, float]]:
    """Run the daemon, ready to work; also the seconds that it took for that."""
    started = time.perf_counter()
    daemon = Daemon(data_dir, broker_port, log, program)
    try:
        daemon.wait_ready()
        yield daemon, time.perf_counter() - started
    finally:
        daemon.stop()


@contextlib.contextmanager
def running_echo(broker_port: int) -> Iterator[None]:
    """Run the floor's responder, subscribed."""
    command = [sys.executable, str(_ECHO), str(broker_port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise LoadError("the echo does not start")
            yield
        finally:
            process.terminate()


def measure(sizes: Sizes, directory: Path) -> Results:
    """Do all of it in a directory of its own."""
    data_dir, log = directory / "store", directory / "setpointd.log"
    subprocess.run([SETPOINTD, "init", "--data-dir", data_dir], stdout=subprocess.DEVNULL, check=True)
    commands = Commands(Token.load(data_dir / "admin.jwk"))
    facts = machine(directory, sizes.fsyncs)
    port = free_port()
    with mosquitto.running(mosquitto.find(), directory / "broker", port) as broker:
        starts = []
        for _ in range(sizes.starts - 1):
            with running_daemon(data_dir, port, log) as (_, start):
                starts.append(start)
        with running_daemon(data_dir, port, log) as (daemon, start), running_echo(port):
            idle = rss_mib(daemon.process.pid), rss_mib(broker.pid)
            with Connection(port, commands.filters) as connection:
                connection.drive(commands.set(SERVICES), 10)
                rounds = [measure_round(number, sizes, commands, connection, daemon) for number in range(sizes.rounds)]
            loaded = rss_mib(daemon.process.pid), rss_mib(broker.pid)
    return {
        "command": shlex.join(["./dev", "bench", *sys.argv[1:]]),
        "machine": facts,
        "sizes": asdict(sizes),
        "services": SERVICES,
        "config_bytes": commands.config_bytes,
        "starts_s": [*starts, start],
        "rss_mib": {"daemon": [idle[0], loaded[0]], "mosquitto": [idle[1], loaded[1]]},
        "rounds": rounds,
    }


def measure_round(number: int, sizes: Sizes, commands: Commands, connection: Connection, daemon: Daemon) -> Results:
    """Measure each kind once, one at a time and many at a time."""
    kinds = {"floor": commands.echo, "get": commands.get, "set": commands.set}
    results: Results = {}
    for name, make in kinds.items():
        print(f"round {number + 1} of {sizes.rounds}: {name}", file=sys.stderr)
        results[name] = {
            **_one_at_a_time(make, sizes, connection, daemon),
            **_many_at_a_time(make, sizes, connection, daemon),
        }
    results["update"] = _one_at_a_time(commands.update, sizes, connection, daemon)
    del results["floor"]["cpu_s_per_1000"], results["floor"]["drain_s"]  # the daemon has no part in it
    return results


Make = Callable[[int], list[Command]]


def _one_at_a_time(make: Make, sizes: Sizes, connection: Connection, daemon: Daemon) -> Results:
    run = connection.drive(make(sizes.warm_up + sizes.sequential), 1)
    daemon.wait_drained()
    return {"p50_ms": run.percentile_ms(50, sizes.warm_up), "p99_ms": run.percentile_ms(99, sizes.warm_up)}


def _many_at_a_time(make: Make, sizes: Sizes, connection: Connection, daemon: Daemon) -> Results:
    packets = make(sizes.commands)
    cpu = cpu_s(daemon.process.pid)
    run = connection.drive(packets, sizes.in_flight, sizes.seconds)
    answered = time.perf_counter()
    daemon.wait_drained()
    return {
        "rate": run.rate,
        "commands": len(run.latencies_s),
        "loaded_p50_ms": run.percentile_ms(50),
        "loaded_p99_ms": run.percentile_ms(99),
        "drain_s": time.perf_counter() - answered,
        "cpu_s_per_1000": (cpu_s(daemon.process.pid) - cpu) / len(run.latencies_s) * 1000,
        "client_cpu": run.client_cpu_s / run.elapsed_s,
    }


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


def _end(number: int, _frame: object) -> None:
    """End by way of the context managers, which stop what was started; a second signal must not break that off."""
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    """Measure, print, and say what went wrong in a line."""
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure the daemon on this machine.")
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works; its figures say little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw results there, too")
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path("/var/tmp"),  # noqa: S108 - a directory of our own is made in it
        help="where to put the store while it runs; it should be on the disk that you mean (default: %(default)s)",
    )
    arguments = parser.parse_args()
    for number in _ENDINGS:
        signal.signal(number, _end)
    try:
        with tempfile.TemporaryDirectory(prefix="setpoint-bench-", dir=arguments.dir) as directory:
            results = measure(QUICK if arguments.quick else Sizes(), Path(directory))
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    except (LoadError, OperatorError, OSError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
