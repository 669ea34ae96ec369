"""Stores to begin with, made through the store's own ``Tx``; those that take long to make are kept for later runs."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, get_args

from bed import Bed, say
from processes import make_store
from workload import config, service

from setpoint_contracts import Token
from setpoint_contracts.timestamps import rfc3339
from setpointd.records import OutboxQueue, Stamp
from setpointd.store import Tx, migrations
from setpointd.store.files import writing

_BATCH = 1000
_BEGIN = 1_767_225_600.0  # 2026-01-01
_KEYS = 20  # of a config whose history is long; each write changes all of them


def with_services(data_dir: Path, services: int, config_bytes: int) -> Token:
    """Make a store with so many services, each at version 1; its admin token."""
    token = make_store(data_dir)
    _write(data_dir, services, lambda number: (service(number), config(f"fill-{number:010}", config_bytes)))
    return token


def keep(bed: Bed) -> None:
    """Make the stores with a long history that are not there yet."""
    for rows in bed.sizes.history_rows:
        kept = _kept(bed, rows)
        if rows == 0 or kept.exists():
            continue
        say(f"makes a store with {rows:,} rows of history, and keeps it in {kept}")
        for old in bed.kept.glob(f"history-{rows}-*"):
            shutil.rmtree(old)
        making = kept.with_suffix(f".{os.getpid()}")
        making.parent.mkdir(parents=True, exist_ok=True)
        make_store(making)
        _write_history(making, rows, bed.sizes.services)
        making.rename(kept)


def with_history(bed: Bed, rows: int) -> Path:
    """Give a copy of a store that has so many rows of history, over ``bed.sizes.services``."""
    target = bed.directory / f"history-{rows}"
    if rows:
        shutil.copytree(_kept(bed, rows), target)
    else:
        make_store(target)
    return target


def _kept(bed: Bed, rows: int) -> Path:
    """Where a store is kept, by all that decides what is in it: the tables, and how they are filled here."""
    sources = b"".join(Path(str(module)).read_bytes() for module in (migrations.__file__, __file__))
    digest = hashlib.sha256(sources + str(bed.sizes.services).encode()).hexdigest()[:12]
    return bed.kept / f"history-{rows}-{digest}"


def _write_history(data_dir: Path, rows: int, services: int) -> None:
    keys = [f"key_{key:02}" for key in range(_KEYS)]
    _write(
        data_dir,
        rows // _KEYS,
        lambda number: (service(number % services), dict.fromkeys(keys, f"value {number:08}")),
    )


def _write(data_dir: Path, count: int, version: Any) -> None:
    """Write ``count`` versions, many in a transaction, with nothing left to publish."""
    for first in range(0, count, _BATCH):
        with writing(data_dir, Stamp(rfc3339(_BEGIN + first), "bench", f"fill-{first}")) as tx:
            for number in range(first, min(first + _BATCH, count)):
                name, value = version(number)
                tx.config.write_version(name, tx.config.current(name), value, op="set", reason=None)
            _publish_nothing(tx)


def _publish_nothing(tx: Tx) -> None:
    for queue in get_args(OutboxQueue):
        tx.outbox.remove(tx.outbox.first(queue, _BATCH))
