"""The figures: what the machine is, and what its processes use."""

import os
import platform
import sqlite3
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from setpointd import __version__
from setpointd.operator import mosquitto

_CPUCLOCK_SCHED = 2
_PAGE = bytes(4096)  # what SQLite appends to its log is at least one page

Results = dict[str, Any]


def cpu_s(pid: int) -> float:
    """The seconds of CPU that a process has used, all its threads, in user space and in the kernel.

    From its own clock (clock_getcpuclockid(3), spelled out as glibc does), which counts nanoseconds; /proc has ticks.
    """
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) / 1e9


def written_bytes(pid: int) -> int:
    """The bytes of the pages that a process has made dirty and that go to a disk (proc(5), /proc/pid/io).

    Without those of files that were gone before: SQLite's temporary ones.
    """
    counts = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(counts["write_bytes"]) - int(counts["cancelled_write_bytes"])


def rss_mb(pid: int) -> float:
    """The resident memory of a process (proc(5), /proc/pid/status), in millions of bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def machine(directory: Path, fsyncs: int) -> Results:
    """What the numbers of a run depend on; ``directory`` is where its store will be."""
    broker = subprocess.run([mosquitto.find(), "-h"], capture_output=True, text=True, check=False).stdout
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "kernel": platform.release(),
        "filesystem": _filesystem(directory),
        "fsync_ms": fsync_ms(directory, fsyncs),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "mosquitto": broker.partition("\n")[0].split()[-1],
        "setpoint": __version__,
    }


def fsync_ms(directory: Path, count: int) -> float:
    """The median time to append a page to a file and have it on the disk: what no durable write can do without."""
    path = directory / "fsync"
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            started = time.perf_counter()
            file.write(_PAGE)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
    path.unlink()
    return statistics.median(took) * 1000


def _cpu_model() -> str:
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    found = {key.strip(): value.strip() for key, _, value in lines}
    # Raspberry Pi OS names the board in Model, x86 the processor in model name.
    return found.get("Model") or found.get("model name") or platform.machine()


def _filesystem(directory: Path) -> str:
    """The type of the file system that a directory is on: the last of the mounts with the longest path above it."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [(len(point), kind) for point, kind in mounts if directory.resolve().is_relative_to(point)]
    longest = max(length for length, _ in above)
    return [kind for length, kind in above if length == longest][-1]
