"""All that the daemon can take for some seconds, and how long its outbox goes on after it; then a steady pace."""

import statistics
import time

from bed import Bed, say
from figures import Results
from load import Connection
from processes import Daemon
from workload import Commands


def measure(bed: Bed, daemon: Daemon, commands: Commands) -> Results:
    """Measure both on a daemon that runs."""
    sizes = bed.sizes
    with Connection(bed.port, commands.filters) as connection:
        say(f"{sizes.full_load_s:g} s of `set`, then the outbox")
        packets = commands.set(sizes.full_load)
        run = connection.drive(packets, sizes.in_flight, sizes.full_load_s)
        answered = time.perf_counter()
        daemon.wait_drained()
        drain_s = time.perf_counter() - answered
        say(f"`set` at {sizes.steady_per_s} a second")
        steady = []
        for _ in range(sizes.steady_turns):
            steady.append(connection.pace(commands.set(sizes.steady), sizes.steady_per_s))
            daemon.wait_drained()
    return {
        "load_s": run.elapsed_s,
        "commands": len(run.latencies_s),
        "rate": run.rate,
        "drain_s": drain_s,
        "steady_p50_ms": statistics.median(one.percentile_ms(50) for one in steady),
        "steady_p99_ms": statistics.median(one.percentile_ms(99) for one in steady),
        "steady_p99s_ms": [one.percentile_ms(99) for one in steady],
    }
