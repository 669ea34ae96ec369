"""The benchmark behind ``./dev bench``: a private broker, new stores, the installed daemon, measured from outside.

It prints tables in Markdown, and last what is to be reached; the raw figures and a picture of them go into a directory
that git ignores. At the end, by Ctrl-C too, nothing of it is left running.
"""

import argparse
import contextlib
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import chart
import etcd
import footprint
import history
import pressure
import queued
import reach
import stores
import turns
import wear
from bed import QUICK, Bed, Sizes, say
from figures import Results, machine, rss_mb
from load import Connection, LoadError
from processes import SETPOINTD, Daemon, compile_modules, free_port, make_store, running_daemon, running_echoes
from tables import facts, tables
from workload import CONFIG_BYTES, Commands

from setpointd.errors import OperatorError
from setpointd.operator import mosquitto

__all__ = ["SETPOINTD", "Daemon", "free_port", "running_daemon"]  # what flood.py and large.py take from here

_ROOT = Path(__file__).parents[1]
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BEGIN_WITHIN_S = 220.0
"""What is begun by then ends in 5 minutes: `services`, the last, took 47 s at a load average of 3 on 2 cores."""
_GUARD = Sizes(alone=200, alone_s=1.0, commands=2000, seconds=1.0)
_GUARDED = ("echo", "get", "set")


@contextlib.contextmanager
def bed_with_broker(sizes: Sizes, directory: Path, kept: Path) -> Iterator[Bed]:
    """Run a private broker, with the project's own configuration."""
    port = free_port()
    with mosquitto.running(mosquitto.find(), directory / "broker", port) as broker:
        yield Bed(sizes, directory, kept, port, broker.pid)


def measure(bed: Bed, wanted: list[str]) -> Results:
    """Measure the parts that are named; see PARTS. None is begun when the time is over, and one may fail by itself."""
    results: Results = {}
    took: dict[str, float] = {}
    left_out: dict[str, str] = {}
    if "history" in wanted:
        stores.keep(bed)  # once; it has its own time
    begun = time.perf_counter()
    for name in wanted:
        started = time.perf_counter()
        if started - begun > _BEGIN_WITHIN_S and name != "etcd":
            left_out[name] = "the time was over"
            continue
        try:
            results |= PARTS[name](bed)
        except LoadError as error:
            say(f"{name} failed: {error}")
            left_out[name] = str(error)
        took[name] = time.perf_counter() - started
    return {**results, "took_s": took, "left_out": left_out}


def _main_daemon(bed: Bed) -> Results:
    """Measure what goes on with one daemon from its start on: idle, turns, full load, a steady pace."""
    data_dir = bed.directory / "store"
    commands = Commands(make_store(data_dir), services=bed.sizes.services)
    with running_daemon(data_dir, bed.port, bed.log) as (daemon, _):
        daemon.wait_drained()
        idle = rss_mb(daemon.pid)
        with Connection(bed.port, commands.filters) as connection:
            connection.drive(commands.set(bed.sizes.services), 10)
        found = turns.measure(bed, daemon, commands)
        pressed = pressure.measure(bed, daemon, commands)
        loaded = rss_mb(daemon.pid)
    return {"turns": found, "pressure": pressed, "rss_mb": {"idle": idle, "loaded": loaded}}


PARTS: dict[str, Callable[[Bed], Results]] = {
    "commands": _main_daemon,
    "wear": lambda bed: {"wear": wear.measure(bed)},
    "queued": lambda bed: {"queued": queued.measure(bed)},
    "footprint": lambda bed: {"footprint": footprint.measure(bed)},
    "history": lambda bed: {"history": history.measure(bed)},
    "services": lambda bed: {"other_services": turns.measure_other_services(bed)},
    "etcd": lambda bed: {"etcd": etcd.measure(bed)},
}


def guard(bed: Bed) -> Results:
    """Measure just what the guard looks at, some seconds."""
    data_dir = bed.directory / "store"
    commands = Commands(make_store(data_dir), services=bed.sizes.services)
    with (
        running_daemon(data_dir, bed.port, bed.log) as (daemon, _),
        running_echoes(bed.port) as echoes,
        Connection(bed.port, commands.filters) as connection,
    ):
        connection.drive(commands.set(bed.sizes.services), 10)
        found = [turns.turn(bed, daemon, commands, connection, echoes, _GUARDED) for _ in range(bed.sizes.turns)]
    return {"turns": found}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure the daemon on this machine.")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="a tiny run, to see that it works; its figures say little")
    kind.add_argument(
        "--guard",
        action="store_true",
        help="only whether the ratios to the echo are sane, in some seconds; else exit 1",
    )
    parser.add_argument("--peers", action="store_true", help="measure etcd as well; installs it (apt) and its client")
    parser.add_argument("--only", action="append", choices=PARTS, default=[], help="only this part; may be repeated")
    parser.add_argument(
        "--out",
        type=Path,
        default=_ROOT / ".bench",
        help="where results.json, results.svg and stores that take long to make are put (default: .bench)",
    )
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path("/var/tmp"),  # noqa: S108 - a directory of our own is made in it
        help="where to put the stores while it runs; it should be on the disk that you mean (default: %(default)s)",
    )
    return parser.parse_args()


def _wanted(arguments: argparse.Namespace) -> list[str]:
    return [name for name in PARTS if (name in arguments.only if arguments.only else name != "etcd" or arguments.peers)]


def _end(number: int, _frame: object) -> None:
    """End by way of the context managers, which stop what was started; a second signal must not break that off."""
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    """Measure, print, and say what went wrong in a line."""
    arguments = _arguments()
    for number in _ENDINGS:
        signal.signal(number, _end)
    sizes = _GUARD if arguments.guard else QUICK if arguments.quick else Sizes()
    try:
        with tempfile.TemporaryDirectory(prefix="setpoint-bench-", dir=arguments.dir) as name:
            directory = Path(name)
            facts_of_machine = machine(directory, sizes.fsyncs)
            compile_modules()
            kept = directory / "kept" if arguments.quick else arguments.out / "stores"
            with bed_with_broker(sizes, directory, kept) as bed:
                found = guard(bed) if arguments.guard else measure(bed, _wanted(arguments))
    except (LoadError, OperatorError, OSError, subprocess.CalledProcessError) as error:
        say(str(error))
        return 1
    results: Results = {
        "command": shlex.join(["./dev", "bench", *sys.argv[1:]]),
        "machine": facts_of_machine,
        "sizes": asdict(sizes),
        "config_bytes": CONFIG_BYTES,
        **found,
    }
    if arguments.guard:
        return _judge(results)
    _print(results, arguments.out)
    return 1 if set(results["left_out"]) & set(results["took_s"]) else 0


def _judge(results: Results) -> int:
    lines, broken = reach.guards(results)
    print(facts(results), "", *lines, sep="\n")
    if broken:
        say(f"out of bounds: {', '.join(broken)}")
    return 1 if broken else 0


def _print(results: Results, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    if "turns" in results:
        (out / "results.svg").write_text(chart.svg(results))
    print(tables(results), "", *reach.table(results), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
