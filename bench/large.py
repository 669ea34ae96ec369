"""A large store, made through the store itself, and how long reads, searches and restores take in it.

``python bench/large.py fill DIR`` makes a store of 10,000 services with 20 keys each and a million changes of keys over
a year; it takes some minutes. ``python bench/large.py measure DIR`` runs the installed daemon on it behind a private
broker, sends one command at a time, and prints how long each kind took, seen from outside. ``python bench/large.py
bytes DIR`` prints what each table and index takes.
"""

import argparse
import secrets
import shlex
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

from figures import cpu_s, machine
from load import Command, Connection, Run, publish_packet
from run import free_port, running_daemon

from setpoint_contracts import Token, Topics, sign_command
from setpoint_contracts.timestamps import rfc3339, seconds
from setpointd.operator import mosquitto
from setpointd.records import Stamp
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
_SLOW = {"search", "history/restore"}

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
            for kind in ("updated", "audit"):  # as when the broker has it
                tx.outbox.remove(tx.outbox.first(kind, _BATCH))
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
    return {
        "`get`": ("get", {"service": _service(77)}),
        "`get` at an early revision": ("get", {"service": _service(77), "revision": 20}),
        "`diff` of two revisions": (
            "diff",
            {"service": _service(77), "from": {"revision": 50}, "to": {"revision": 200}},
        ),
        "`history/versions`": ("history/versions", {"service": _service(77)}),
        "`history/query`": ("history/query", {}),
        "… `before` the middle": ("history/query", {"before": 500_000}),
        "… `service`": ("history/query", {"service": _service(77)}),
        "… `service`, `key`": ("history/query", {"service": _service(77), "key": "key_03"}),
        "… `service`, `user`": ("history/query", {"service": _service(77), "user": "bob"}),
        "… `key`": ("history/query", {"key": "key_03"}),
        "… `key` that is not there": ("history/query", {"key": "nothing"}),
        "… `user`": ("history/query", {"user": "bob"}),
        "… `user` who wrote little": ("history/query", {"user": _RARE}),
        "… `since`, `until`: two weeks": ("history/query", half_year),
        "… the same, `user`": ("history/query", {**half_year, "user": "bob"}),
        "… the same, `key` that is not there": ("history/query", {**half_year, "key": "nothing"}),
        "… scoped token": ("history/query", {}),
        "… `limit` 1,000": ("history/query", {"limit": 1000}),
        "`search`: 100 found": ("search", {"query": "SOME MORE"}),
        "`search`: nothing found": ("search", {"query": "nowhere"}),
        "`search`: in one service": ("search", {"query": "nowhere", "service": _service(77)}),
        "`history/restore`: 1,000 named services": ("history/restore", {"services": newest, "revision": revision - 1}),
        "`history/restore`: all, of which 1,000 change": ("history/restore", {"revision": revision - 1}),
        "… a dry run": ("history/restore", {"revision": revision - 1, "dry_run": True}),
    }


def measure(directory: Path, only: str) -> Iterable[str]:
    """Run the daemon on a store and say how long each kind of command took, a line of Markdown each."""
    admin = Token.load(directory / "admin.jwk")
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "scoped.jwk"
        create = shlex.split(f"token create scoped --role viewer --services {_SCOPED}")
        options: list[str | Path] = ["--out", file, "--data-dir", directory]
        subprocess.run([_SETPOINTD, *create, *options], stdout=subprocess.DEVNULL, check=True)
        scoped = Token.load(file)
        port, log = free_port(), Path(work) / "log"
        with mosquitto.running(mosquitto.find(), Path(work) / "broker", port):
            with running_daemon(directory, port, log) as (daemon, _):  # publishes every service
                daemon.wait_drained()
            with running_daemon(directory, port, log) as (daemon, start):
                daemon.wait_drained()
                yield f"| exec to ready | {start * 1000:.0f} | | |"
                for title, (command, params) in kinds(*_newest(directory)).items():
                    if only not in title:
                        continue
                    token = scoped if "scoped" in title else admin
                    latencies: list[float] = []
                    cpu = cpu_s(daemon.process.pid)
                    with Connection(port, [Topics().reply(token.name, "#")]) as connection:
                        for number in range(_SLOW_ROUNDS if command in _SLOW else _ROUNDS):
                            latencies += connection.drive([_command(token, command, params, number)], 1).latencies_s
                            if command in _SLOW:
                                daemon.wait_drained()
                    run = Run(latencies, 0, 0)
                    spent = (cpu_s(daemon.process.pid) - cpu) / len(latencies) * 1000
                    yield f"| {title} | {run.percentile_ms(50):.1f} | {run.percentile_ms(99):.1f} | {spent:.1f} |"


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
        print("| | p50, ms | p99, ms | CPU of the daemon, ms |\n| --- | ---: | ---: | ---: |")
        for line in measure(arguments.directory, arguments.only):
            print(line, flush=True)


if __name__ == "__main__":
    main()
