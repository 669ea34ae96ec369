"""A large store, made through the store itself, and how long reads, searches and restores take in it.

``python bench/large.py fill DIR`` makes a store of 10,000 services with 20 keys each and a million changes of keys over
a year; it takes some minutes. ``python bench/large.py measure DIR`` runs the installed daemon on it behind a private
broker, and beside it one on a store of one service; it sends one command at a time, and prints how long each kind took,
seen from outside. What is cold is done when the kernel has just been asked to forget what it keeps of the file, so that
it is read from the disk. ``python bench/large.py bytes DIR`` prints what each table and index takes.
"""

import argparse
import os
import secrets
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, get_args

from figures import cpu_s, machine
from load import Command, Connection, Run, publish_packet
from run import Daemon, free_port, running_daemon

from setpoint_contracts import Token, Topics, sign_command
from setpoint_contracts.timestamps import rfc3339, seconds
from setpointd.operator import mosquitto
from setpointd.records import OutboxQueue, Stamp
from setpointd.store.files import DATABASE, writing

_SETPOINTD = Path(sys.executable).with_name("setpointd")
_BEGIN = seconds("2025-01-01T00:00:00.000Z")
_YEAR_S = 365 * 86_400
_BATCH = 1000
_CHANGED = 4  # keys in one write
_USERS = ("alice", "bob", "carol")
_RARE = "mallory"  # has written one batch, in the middle of the year
_SCOPED = "svc-004*"
_ROUNDS = 300
_SLOW_ROUNDS = 20
_STARTS = 5
_SLOW = {"search", "history/restore"}
_COLD = "… cold"
_IDLE_CPU_S = 0.05  # in a second; it looks for changed tokens five times

Params = dict[str, Any]


def fill(directory: Path, services: int, keys: int, entries: int) -> None:
    """Make a store with so many services, keys of each, and entries in its history."""
    subprocess.run([_SETPOINTD, "init", "--data-dir", directory], stdout=subprocess.DEVNULL, check=True)
    writes = services + max(0, entries - services * keys) // _CHANGED
    firsts = range(0, writes, _BATCH)
    configs: dict[int, Params] = {}
    for number, first in enumerate(firsts):
        user = _RARE if number == len(firsts) // 2 else _USERS[number % len(_USERS)]
        stamp = Stamp(rfc3339(_BEGIN + _YEAR_S * first / writes), user, f"fill-{number}")
        with writing(directory, stamp) as tx:
            for write in range(first, min(first + _BATCH, writes)):
                changed = ((write + step) % keys for step in range(_CHANGED)) if write >= services else range(keys)
                config = {
                    **configs.get(write % services, {}),
                    **{f"key_{key:02}": _value(write, key) for key in changed},
                }
                configs[write % services] = config
                name = _service(write % services)
                tx.config.write_version(name, tx.config.current(name), config, op="set", reason=None)
            for queue in get_args(OutboxQueue):  # as when the broker has it
                tx.outbox.remove(tx.outbox.first(queue, _BATCH))
        print(f"\r{first} of {writes} writes", end="", file=sys.stderr)
    print(file=sys.stderr)


def _service(number: int) -> str:
    return f"svc-{number:05}"


def _value(write: int, key: int) -> Any:
    """About 45 bytes of JSON."""
    return f"value {key:02} of write {write:07}, and some more" if key % 2 else {"n": write, "of": ["a", "b", key]}


def kinds(revision: int, newest: list[str]) -> dict[str, tuple[str, Params]]:
    """List what is measured: a title, a command and its parameters; ``newest`` are the services of a revision."""
    half_year = {"since": "2025-06-01T00:00:00Z", "until": "2025-06-15T00:00:00Z"}
    one = {"service": _service(77)}
    found: dict[str, tuple[str, Params]] = {
        "`get` at an early revision": ("get", {**one, "revision": 20}),
        "`diff` of two revisions": ("diff", {**one, "from": {"revision": 50}, "to": {"revision": 200}}),
        "`history/versions`": ("history/versions", one),
    }
    queries: dict[str, Params] = {
        "`history/query`": {},
        "`before` the middle": {"before": 500_000},
        "`service`": one,
        "`service`, `key`": {**one, "key": "key_03"},
        "`service`, `user`": {**one, "user": "bob"},
        "`key`": {"key": "key_03"},
        "`key` that is not there": {"key": "nothing"},
        "`user`": {"user": "bob"},
        "`user` who wrote little": {"user": _RARE},
        "`since`, `until`: two weeks": half_year,
        "two weeks, `user`": {**half_year, "user": "bob"},
        "two weeks, `key` that is not there": {**half_year, "key": "nothing"},
        "scoped token": {},
        "`limit` 1,000": {"limit": 1000},
        "`service`, `limit` 1,000": {**one, "limit": 1000},
    }
    for title, params in queries.items():
        found[title] = found[f"{title} {_COLD}"] = ("history/query", params)
    restore = {"services": newest, "revision": revision - 1}
    return found | {
        "`search`: 100 found": ("search", {"query": "SOME MORE"}),
        "`search`: nothing found": ("search", {"query": "nowhere"}),
        "`search`: in one service": ("search", {**one, "query": "nowhere"}),
        f"`history/restore`: {len(newest):,} named services": ("history/restore", restore),
        f"`history/restore`: all, of which {len(newest):,} change": ("history/restore", {"revision": revision - 1}),
        "`history/restore`: a dry run": ("history/restore", {"revision": revision - 1, "dry_run": True}),
    }


@dataclass(frozen=True, slots=True)
class Took:
    """How long something took each time, and how much CPU of the daemon; in seconds."""

    latencies_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def row(self, title: str) -> str:
        """Write it as a line of Markdown; all in ms."""
        times, cpu = Run(self.latencies_s, 0, 0), Run(self.cpu_s, 0, 0)
        values = [one.percentile_ms(percent) for one in (times, cpu) for percent in (50, 99)]
        return f"| {title} | {len(self.cpu_s)} | {' | '.join(f'{value:,.1f}' for value in values)} |"


@dataclass(frozen=True, slots=True)
class Bed:
    """A store, and the broker and the daemon that run on it."""

    directory: Path
    port: int
    daemon: Daemon

    def take(self, name: str, params: Params, rounds: int, *, scoped: Token | None = None, cold: bool = False) -> Took:
        """Send a command so many times, one at a time."""
        token = scoped or Token.load(self.directory / "admin.jwk")
        took = Took()
        with Connection(self.port, [Topics().reply(token.name, "#")]) as connection:
            for number in range(rounds):
                if cold:
                    _forget(self.directory)
                before = cpu_s(self.daemon.process.pid)
                took.latencies_s.extend(connection.drive([_command(token, name, params, number)], 1).latencies_s)
                took.cpu_s.append(cpu_s(self.daemon.process.pid) - before)
                if name in _SLOW:
                    self.daemon.wait_drained()
        return took


def measure(directory: Path, only: str) -> Iterator[str]:
    """Run the daemon on a store and say how long each kind of command took, a line of Markdown each."""
    with tempfile.TemporaryDirectory() as work:
        scoped, little = Path(work) / "scoped.jwk", Path(work) / "little"
        create = shlex.split(f"token create scoped-{_run} --role viewer --services {_SCOPED}")
        options: list[str | Path] = ["--out", scoped, "--data-dir", directory]
        subprocess.run([_SETPOINTD, *create, *options], stdout=subprocess.DEVNULL, check=True)
        fill(little, 100, 20, 2000)
        with _broker(Path(work) / "brokers") as little_port, _broker(Path(work) / "broker") as port:
            logs = Path(work) / "log"
            for title, store, its_port in (("small", little, little_port), ("large", directory, port)):
                starts = _starts(store, its_port, logs)
                if "start" in only or not only:
                    yield starts.row(f"start of the {title} store: exec to ready")
            with (
                running_daemon(little, little_port, logs) as (little_daemon, _),
                running_daemon(directory, port, logs) as (daemon, _),
            ):
                daemon.wait_drained()
                for running in (daemon, little_daemon):
                    _wait_for_rest(running)
                yield from _commands(
                    Bed(directory, port, daemon), Bed(little, little_port, little_daemon), Token.load(scoped), only
                )


def _commands(bed: Bed, small: Bed, scoped: Token, only: str) -> Iterator[str]:
    """Measure one kind after the other; ``get`` in turns with that of the small store."""
    if only in "`get`":
        both = {"in the small store": (small, Took()), "in the large store": (bed, Took())}
        for _ in range(10):
            for where, sum_ in both.values():
                part = where.take("get", {"service": _service(77)}, _ROUNDS // 10)
                sum_.latencies_s.extend(part.latencies_s)
                sum_.cpu_s.extend(part.cpu_s)
        yield from (sum_.row(f"`get` {where}") for where, (_, sum_) in both.items())
    for title, (name, params) in kinds(*_newest(bed.directory)).items():
        if only in title:
            cold = _COLD in title
            rounds = _SLOW_ROUNDS if name in _SLOW else _ROUNDS // 3 if cold else _ROUNDS
            token = scoped if "scoped" in title else None
            yield bed.take(name, params, rounds, scoped=token, cold=cold).row(title)


def _starts(directory: Path, port: int, log: Path) -> Took:
    """Start the daemon so many times on a broker that has all of its documents."""
    with running_daemon(directory, port, log) as (daemon, _):  # publishes every service
        daemon.wait_drained()
    took = Took()
    for _ in range(_STARTS):
        with running_daemon(directory, port, log) as (daemon, start):
            took.latencies_s.append(start)
            took.cpu_s.append(cpu_s(daemon.process.pid))
            daemon.wait_drained()
    return took


def _wait_for_rest(daemon: Daemon) -> None:
    """Wait until the daemon has checked the signatures of what is retained, some seconds after a start."""
    before, used = 0.0, cpu_s(daemon.process.pid)
    while used - before > _IDLE_CPU_S:
        time.sleep(1)
        before, used = used, cpu_s(daemon.process.pid)


@contextmanager
def _broker(directory: Path) -> Iterator[int]:
    port = free_port()
    with mosquitto.running(mosquitto.find(), directory, port):
        yield port


def _forget(directory: Path) -> None:
    """Have the kernel forget what it keeps in memory of a store; what SQLite keeps, 2 MB, stays."""
    for path in (directory / DATABASE, directory / f"{DATABASE}-wal"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


_run, _ids = secrets.token_hex(4), count()


def _command(token: Token, name: str, params: Params, number: int) -> Command:
    topics, jti = Topics(), f"large-{_run}-{next(_ids)}"
    if name == "history/restore" and "dry_run" not in params:  # there and back, so that each changes the same
        params = {**params, "revision": params["revision"] + number % 2}
    payload = sign_command(token, name, params, jti=jti, lifetime_s=3600)
    packet = publish_packet(number, topics.command(name), payload)
    return Command(packet, topics.reply(token.name, jti).encode(), b'"ok":true')


def _newest(directory: Path) -> tuple[int, list[str]]:
    newest = _look(directory, "SELECT service, revision FROM config_state ORDER BY revision DESC LIMIT 1000")
    return newest[0][1], sorted(service for service, _ in newest)


def sizes(directory: Path) -> Iterable[str]:
    """Say what each table and index takes, a line of Markdown each."""
    entries = _look(directory, "SELECT count(*) FROM config_history")[0][0]
    for name, size in _look(directory, "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC"):
        yield f"| {name} | {size / 2**20:.1f} | {size / entries:.1f} |"


def _look(directory: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{directory / DATABASE}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="bench/large.py", description="Measure the daemon on a large store.")
    parser.add_argument("what", choices=["fill", "measure", "bytes"])
    parser.add_argument("directory", type=Path, help="the data directory of the store; `fill` makes it")
    parser.add_argument("--services", type=int, default=10_000, help="how many services to make")
    parser.add_argument("--keys", type=int, default=20, help="how many keys each of them has")
    parser.add_argument("--entries", type=int, default=1_000_000, help="how many changes of keys to make")
    parser.add_argument("--only", default="", help="measure what has this in its title")
    arguments = parser.parse_args()
    if arguments.what == "fill":
        fill(arguments.directory, arguments.services, arguments.keys, arguments.entries)
    elif arguments.what == "bytes":
        print("| | MiB | bytes per change of a key |\n| --- | ---: | ---: |")
        for line in sizes(arguments.directory):
            print(line)
    else:
        print({name: value for name, value in machine(arguments.directory, 100).items() if name != "setpoint"})
        print("| | times | p50, ms | p99, ms | CPU of the daemon: p50, ms | … p99, ms |\n| --- |" + " ---: |" * 5)
        for line in measure(arguments.directory, arguments.only):
            print(line, flush=True)


if __name__ == "__main__":
    main()
