"""Two programs side by side: ``python bench/beside.py OTHER/.venv/bin/setpointd``, with that of an earlier commit, say.

Each daemon has a broker and a store of its own, and both run all the time; they get the same commands in short turns,
one after the other, so that what else the machine does meets both alike. Printed as Markdown: medians of the turns, and
the median of what a turn of this program took of the turn of the other beside it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from figures import cpu_s, machine
from load import Command, Connection
from run import SETPOINTD, Daemon, free_port, running_daemon
from workload import SERVICES, Commands

from setpoint_contracts import Token
from setpointd.operator import mosquitto

_ALONE, _LOADED, _IN_FLIGHT = 100, 1000, 100
_FIGURES = ("alone: p50, ms", "alone: CPU, ms", "100 in flight: per s", "100 in flight: CPU, ms")


@dataclass(frozen=True, slots=True)
class Side:
    """A program that is measured."""

    daemon: Daemon
    connection: Connection
    commands: Commands

    def turn(self, make: Callable[[Commands, int], list[Command]]) -> list[float]:
        """Measure one turn: ``_FIGURES``."""
        alone, loaded = make(self.commands, _ALONE), make(self.commands, _LOADED)
        before = cpu_s(self.daemon.process.pid)
        one = self.connection.drive(alone, 1)
        self.daemon.wait_drained()
        between = cpu_s(self.daemon.process.pid)
        many = self.connection.drive(loaded, _IN_FLIGHT)
        self.daemon.wait_drained()
        after = cpu_s(self.daemon.process.pid)
        return [
            one.percentile_ms(50),
            (between - before) / _ALONE * 1000,
            many.rate,
            (after - between) / _LOADED * 1000,
        ]


@contextmanager
def side(program: Path, directory: Path) -> Iterator[Side]:
    """Run a program on a new store, with a broker of its own."""
    directory.mkdir()
    store, port = directory / "store", free_port()
    subprocess.run([program, "init", "--data-dir", store], stdout=subprocess.DEVNULL, check=True)
    commands = Commands(Token.load(store / "admin.jwk"))
    with (
        mosquitto.running(mosquitto.find(), directory / "broker", port),
        running_daemon(store, port, directory / "log", program) as (daemon, _),
        Connection(port, commands.filters) as connection,
    ):
        connection.drive(commands.set(SERVICES), 10)
        yield Side(daemon, connection, commands)


def compare(other: Path, turns: int, only: str, directory: Path) -> Iterator[str]:
    """Measure both in turns; a line of Markdown for each figure."""
    with ExitStack() as running:
        sides = [
            running.enter_context(side(program, directory / name))
            for name, program in (("other", other), ("this", SETPOINTD))
        ]
        for title, make in (("`get`", Commands.get), ("`set`", Commands.set)):
            if only not in title:
                continue
            found: list[list[list[float]]] = [[], []]
            for number in range(turns):
                print(f"\r{title}: turn {number + 1} of {turns} ", end="", file=sys.stderr)
                for which in (0, 1) if number % 2 else (1, 0):  # neither always has what the other has left behind
                    found[which].append(sides[which].turn(make))
            for at, figure in enumerate(_FIGURES):
                before, after = ([turn[at] for turn in taken] for taken in found)
                ratio = statistics.median(one / base for one, base in zip(after, before, strict=True))
                middles = statistics.median(before), statistics.median(after)
                yield f"| {title}, {figure} | {middles[0]:,.3f} | {middles[1]:,.3f} | {ratio:.3f} |"
        print(file=sys.stderr)


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(prog="bench/beside.py", description=__doc__)
    parser.add_argument("other", type=Path, help="the setpointd to compare with")
    parser.add_argument("--turns", type=int, default=20, help="of each (default: %(default)s)")
    parser.add_argument("--only", default="", help="measure what has this in its title")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="where to put the stores")  # noqa: S108
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="setpoint-beside-", dir=arguments.dir) as directory:
        print(machine(Path(directory), 100))
        print("| | other | this | this ÷ other |\n| --- | ---: | ---: | ---: |")
        for line in compare(arguments.other, arguments.turns, arguments.only, Path(directory)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
