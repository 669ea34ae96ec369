"""What parts of a ``set`` cost: ``python bench/parts.py``. In one process, on a store of its own, without commits.

A config of 30 keys, of which each ``set`` changes one: without a schema, and with one of 30 properties; and the audit
event, of which its chain of hashes is a part. They take turns, so that what else the machine does meets all alike. What
is printed is CPU time in µs: the best of the turns, the median, and of a pair the median of their differences.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from setpoint_contracts import strictjson
from setpoint_contracts.audit import Action
from setpointd.handlers.writing import Cause, put
from setpointd.keys import Keys
from setpointd.records import Stamp
from setpointd.schema import Schemas
from setpointd.settings import Settings
from setpointd.store import Tx
from setpointd.store.chain import Link
from setpointd.store.files import create, open_writer

_TIMES = 100  # in one turn
_STAMP = Stamp("2026-01-01T00:00:00.000Z", "alice", "r-1")
_DETAILS = strictjson.dumps({"version": 1, "op": "set", "keys": ["key_01"]})
_KINDS: list[tuple[dict[str, Any], Callable[[int], Any]]] = [
    ({"type": "string", "minLength": 1, "maxLength": 200}, lambda number: f"value {number}"),
    ({"type": "integer", "minimum": 0, "maximum": 10**9}, lambda number: number),
    ({"enum": ["low", "medium", "high"]}, lambda number: ("low", "medium", "high")[number % 3]),
    (
        {"type": "object", "properties": {"on": {"type": "boolean"}, "level": {"type": "number"}}, "required": ["on"]},
        lambda number: {"on": number % 2 == 0, "level": number / 4},
    ),
    ({"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "maxItems": 9}, lambda _: ["a", "b", "c"]),
]


def schema(secret: str = "") -> dict[str, Any]:
    """Make a schema of 30 properties, of five kinds; one of them may be secret."""
    properties = {f"key_{number:02}": dict(_KINDS[number % 5][0]) for number in range(30)}
    if secret:
        properties[secret]["writeOnly"] = True
    return {"type": "object", "properties": properties, "required": ["key_00"], "additionalProperties": False}


def config(number: int) -> dict[str, Any]:
    """Make a config that fits; no two numbers have the same."""
    return {f"key_{key:02}": _KINDS[key % 5][1](key if key != 1 else number) for key in range(30)}


class Bench:
    """A store with four services: without a schema, with one, and with one that marks a secret."""

    def __init__(self, directory: Path) -> None:
        create(directory, _STAMP, "id")
        self._db = open_writer(directory)
        self._db.conn.execute("BEGIN IMMEDIATE")
        self._tx = Tx(self._db, _STAMP)
        daemon = SimpleNamespace(schemas=Schemas(), keys=Keys.create(directory))
        self._call: Any = SimpleNamespace(limits=Settings(data_dir=directory).limits, daemon=daemon)
        self._number = 0
        self._tx.schemas.put("strict", strictjson.dumps(schema()))
        self._tx.schemas.put("kept", strictjson.dumps(schema("key_02")))
        self._tx.schemas.put("changed", strictjson.dumps(schema("key_01")))
        for write in (self.plain, self.strict, self.kept, self.changed):
            write()

    def plain(self) -> None:
        """Write the config of a service without a schema."""
        self._set("plain")

    def strict(self) -> None:
        """The same with a schema."""
        self._set("strict")

    def kept(self) -> None:
        """The same with one secret, which stays as it is."""
        self._set("kept")

    def changed(self) -> None:
        """The same with one secret, which is what changes."""
        self._set("changed")

    def event(self) -> None:
        """Write an audit event, as each ``set`` does."""
        keys = {"version": self._number, "op": "set", "keys": ["key_01"]}
        self._tx.audit.record(Action.UPDATE_CONFIG, service="plain", revision=7, **keys)

    def chain(self) -> None:
        """What of an event is for the chain: to read the hash before, and to make the own."""
        last = Link(*self._db.conn.execute("SELECT id, hash FROM audit_log ORDER BY id DESC LIMIT 1").fetchone())
        last.then((last.id + 1, "update_config", "alice", "plain", _STAMP.at, "r-1", 7, _DETAILS))

    def close(self) -> None:
        """Undo all of it."""
        self._db.conn.execute("ROLLBACK")
        self._db.close()

    def _set(self, service: str) -> None:
        self._number += 1
        put(self._tx, self._call, service, self._tx.config.current(service), config(self._number), Cause("set", None))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="bench/parts.py", description=__doc__)
    parser.add_argument("--turns", type=int, default=60, help="of each (default: %(default)s)")
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        parts: dict[str, Callable[[], None]] = {
            "`set`, no schema": bench.plain,
            "`set`, schema of 30 properties": bench.strict,
            "… with a secret that stays": bench.kept,
            "… with a secret that changes": bench.changed,
            "audit event": bench.event,
            "… its chain": bench.chain,
        }
        took: dict[str, list[float]] = {title: [] for title in parts}
        for _ in range(turns):
            for title, do in parts.items():
                started = time.thread_time()
                for _ in range(_TIMES):
                    do()
                took[title].append((time.thread_time() - started) / _TIMES * 1e6)
        bench.close()
    print("| | best, µs | median, µs |\n| --- | ---: | ---: |")
    for title, found in took.items():
        print(f"| {title} | {min(found):.1f} | {statistics.median(found):.1f} |")
    plain, strict, kept, changed = list(took.values())[:4]
    for title, one, other in (
        ("what the schema costs", strict, plain),
        ("what a secret that stays costs", kept, strict),
        ("what a secret that changes costs", changed, strict),
    ):
        more = statistics.median(a - b for a, b in zip(one, other, strict=True))
        print(f"| {title} | {min(one) - min(other):.1f} | {more:.1f} |")


if __name__ == "__main__":
    main()
