"""What a daemon takes when it is empty and when it is large: memory, and the time from exec to ``/readyz`` 200."""

from bed import Bed, say
from figures import Results, rss_mb
from processes import make_store, running_daemon
from stores import with_services


def measure(bed: Bed) -> Results:
    """Start a daemon with nothing and one with many services, each several times."""
    sizes = bed.sizes
    say(f"starts, with 0 and {sizes.large_services:,} services")
    make_store(bed.directory / "empty")
    with_services(bed.directory / "large", sizes.large_services, sizes.large_config_bytes)
    with running_daemon(bed.directory / "large", bed.port, bed.log, prefix="large/") as (daemon, first_s):
        daemon.wait_drained()  # the broker has all of them; from now on it is a restart
    found: Results = {"services": sizes.large_services, "large_first_start_s": first_s}
    for name in ("empty", "large"):
        starts = []
        for _ in range(sizes.starts):
            with running_daemon(bed.directory / name, bed.port, bed.log, prefix=f"{name}/") as (daemon, start_s):
                daemon.wait_drained()
                starts.append(start_s)
                found[f"{name}_rss_mb"] = rss_mb(daemon.pid)
        found[f"{name}_starts_s"] = starts
    return found
