"""The figures: what the machine is, what its processes use, and the tables that a run is printed as."""

import os
import platform
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from setpointd import __version__
from setpointd.operator import mosquitto

_CPUCLOCK_SCHED = 2
_PAGE = bytes(4096)  # what SQLite appends to its log is at least one page

_TITLES = {
    "floor": "floor: bare echo",
    "get": "`get`",
    "set": "`set`",
    "update": "`set` until its update arrives",
}

Results = dict[str, Any]


def cpu_s(pid: int) -> float:
    """The seconds of CPU that a process has used, all its threads, in user space and in the kernel.

    From its own clock (clock_getcpuclockid(3), spelled out as glibc does), which counts nanoseconds; /proc has ticks.
    """
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) / 1e9


def rss_mib(pid: int) -> float:
    """The resident memory of a process (proc(5), /proc/pid/status)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
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


def report(results: Results) -> str:
    """All of a run in Markdown."""
    return "\n".join([_facts(results), "", *_speed(results), "", *_memory(results), "", _notes(results)])


def _facts(results: Results) -> str:
    facts = results["machine"]
    return (
        f"`{results['command']}`, setpoint {facts['setpoint']}: {facts['cores']} cores of {facts['cpu']},"
        f" Linux {facts['kernel']}, load average {facts['load_average']:.2f} before; Python {facts['python']},"
        f" SQLite {facts['sqlite']}, Mosquitto {facts['mosquitto']};"
        f" {facts['filesystem']}, fsync {facts['fsync_ms']:.2f} ms."
    )


def _speed(results: Results) -> list[str]:
    loaded = f"{results['sizes']['in_flight']} in flight"
    lines = _head(
        "",
        "p50 ms, alone",
        "p99 ms, alone",
        "p50 ÷ floor",
        f"per s, {loaded}",
        f"p50 ms, {loaded}",
        f"p99 ms, {loaded}",
        "rate ÷ floor",
        "CPU s of the daemon per 1,000",
    )
    floor = [one["floor"] for one in results["rounds"]]
    for name, title in _TITLES.items():
        of = [one[name] for one in results["rounds"]]
        cells = [_cell(of, "p50_ms", 2), _cell(of, "p99_ms", 2), _cell(_ratios(of, floor, "p50_ms"), "ratio", 1)]
        if "rate" in of[0]:
            cells += [_cell(of, "rate", 0), _cell(of, "loaded_p50_ms", 1), _cell(of, "loaded_p99_ms", 1)]
            cells += [_cell(_ratios(of, floor, "rate"), "ratio", 2)]
        if "cpu_s_per_1000" in of[0]:
            cells += [_cell(of, "cpu_s_per_1000", 3)]
        lines.append(_row(title, *cells, *[""] * (8 - len(cells))))
    return lines


def _ratios(of: Sequence[Results], floor: Sequence[Results], field: str) -> list[Results]:
    """Each round against the floor of the same round."""
    return [{"ratio": one[field] / base[field]} for one, base in zip(of, floor, strict=True)]


def _memory(results: Results) -> list[str]:
    memory = results["rss_mib"]
    lines = _head("memory (RSS)", "before the load, MiB", "after it, MiB")
    lines += [_row(name, f"{before:.1f}", f"{after:.1f}") for name, (before, after) in memory.items()]
    return lines


def _notes(results: Results) -> str:
    sizes = results["sizes"]
    starts = [{"ms": seconds * 1000} for seconds in results["starts_s"]]
    sets = [one["set"] for one in results["rounds"]]
    client = max(one[name]["client_cpu"] for one in results["rounds"] for name in ("floor", "get", "set"))
    return (
        f"Rounds: {sizes['rounds']} of floor, get, set, update; the cells are medians, with least and most. In each"
        f" {sizes['sequential']:,} alone, one after the other, after {sizes['warm_up']} that do not count, then"
        f" {sizes['commands']:,} or {sizes['seconds']:g} s at {sizes['in_flight']} in flight. QoS 1; signed HS256"
        f" beforehand; configs of {results['config_bytes']} bytes, {results['services']} services in turn. The client,"
        f" on the same machine, took up to {client:.0%} of a core.\n\n"
        f"From exec to `/readyz` 200: {_cell(starts, 'ms', 0)} ms, starts: {len(starts)}. From the last reply to `set`"
        f" at {sizes['in_flight']} in flight until the outbox was empty: {_cell(sets, 'drain_s', 2)} s."
    )


def _cell(of: Sequence[Results], field: str, digits: int) -> str:
    values = [one[field] for one in of]
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _head(*titles: str) -> list[str]:
    return [_row(*titles), _row("---", *["---:"] * (len(titles) - 1))]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
