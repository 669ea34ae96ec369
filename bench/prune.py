"""How long pruning holds the writer: ``python bench/prune.py DATA_DIR --keep-versions N``, on a copy of a store.

Each slice is a transaction of its own, as the daemon makes it; printed is how long they took, commit included.
"""

import argparse
import time
from pathlib import Path

from setpoint_contracts.timestamps import rfc3339
from setpointd.handlers.retention import DAY_S
from setpointd.records import Keep, Pruning, Stamp
from setpointd.store import Tx
from setpointd.store.files import open_writer


def main() -> None:
    """Prune and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("data_dir", type=Path)
    options.add_argument("--keep-versions", type=int)
    options.add_argument("--keep-days", type=int)
    given = options.parse_args()
    now = time.time()
    since = None if given.keep_days is None else rfc3339(now - given.keep_days * DAY_S)
    keep = Keep(since, given.keep_versions)
    db = open_writer(given.data_dir)
    pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    before = db.conn.execute(pages).fetchone()[0]
    done = Pruning()
    times: dict[str, list[float]] = {"walk": [], "give back": []}
    cpu: dict[str, list[float]] = {"walk": [], "give back": []}
    began = time.perf_counter()
    while not done.over:
        part = "give back" if done.walked else "walk"
        started, worked = time.perf_counter(), time.thread_time()
        with db.atomic():
            tx = Tx(db, Stamp(rfc3339(now), None))
            with tx.savepoint():
                done = tx.pruning.slice(keep, done)
        times[part].append((time.perf_counter() - started) * 1000)
        cpu[part].append((time.thread_time() - worked) * 1000)
    took = time.perf_counter() - began
    after = db.conn.execute(pages).fetchone()[0]
    db.close()
    print(f"{done.versions} versions, {done.history} entries in {took:.1f} s; {before:,} bytes, then {after:,}")
    for name, found in (*times.items(), *((f"{part}, CPU", found) for part, found in cpu.items())):
        ordered = sorted(found)
        print(
            f"{name}: {len(ordered)} slices, p50 {ordered[len(ordered) // 2]:.1f} ms,"
            f" p99 {ordered[len(ordered) * 99 // 100]:.1f} ms, longest {ordered[-1]:.1f} ms"
        )


if __name__ == "__main__":
    main()
