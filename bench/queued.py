"""Commands that were queued while the daemon was down, and how fast a probe is answered while it works them off."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

from bed import Bed, say
from figures import Results
from load import Connection, LoadError
from processes import Daemon, running_daemon
from stores import with_services
from workload import CONFIG_BYTES, Commands

_PROBE = Path(__file__).with_name("probe.py")
_PREFIX = "queued/"


def measure(bed: Bed) -> Results:
    """Have ``set`` commands wait in the daemon's session, start it, and take the replies."""
    sizes, data_dir = bed.sizes, bed.directory / "queued"
    say(f"{sizes.queued:,} commands queued while the daemon is down")
    commands = Commands(with_services(data_dir, sizes.services, CONFIG_BYTES), _PREFIX, sizes.services)
    with running_daemon(data_dir, bed.port, bed.log, prefix=_PREFIX) as (daemon, _):
        daemon.wait_drained()  # now it has a session
    waiting = commands.set(sizes.queued)
    with Connection(bed.port, commands.replies) as connection:
        connection.queue(waiting)
        started = time.perf_counter()
        daemon = Daemon(data_dir, bed.port, bed.log, prefix=_PREFIX)
        try:
            with subprocess.Popen(
                [sys.executable, str(_PROBE), str(daemon.http_port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
            ) as probe:
                run = connection.collect(waiting, started)
                answers, _ = probe.communicate()
            daemon.wait_drained()
            drained_s = time.perf_counter() - started
        finally:
            daemon.stop()
    return {
        "commands": len(waiting),
        "first_s": min(run.latencies_s),
        "last_s": max(run.latencies_s),
        "drained_s": drained_s,
        "probes": {path: _summary(path, took) for path, took in json.loads(answers).items()},
    }


def _summary(path: str, took: list[float]) -> Results:
    if not took:
        raise LoadError(f"{path} was never answered")
    ordered = sorted(took)
    return {"count": len(ordered), "p99_ms": ordered[math.ceil(len(ordered) * 0.99) - 1], "longest_ms": ordered[-1]}
