"""etcd beside it, for ``./dev bench --peers``: one member with its defaults, so a put is flushed before it is answered.

It is measured as the daemon is, alone and with many in flight, values as long as the configs: through ``aetcd``, the
Python client that still is maintained, in a virtual environment of its own; and by packets made beforehand, so that no
client is in the way (Debian has no load generator for etcd).
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bed import Bed, say
from etcd_packets import EtcdConnection, get, put
from figures import Results, cpu_s
from load import LoadError, Run
from processes import HOST, free_port
from workload import CONFIG_BYTES, service

_CLIENT = Path(__file__).with_name("etcd_client.py")
_AETCD = "aetcd==1.0.0"
_START_S = 20.0
_POLL_S = 0.05


def measure(bed: Bed) -> Results:
    """Measure put and get, both ways."""
    program = shutil.which("etcd")
    if program is None:
        raise LoadError("etcd is not installed: `./dev bench --peers` installs Debian's etcd-server")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    python = _python_with_aetcd(bed.kept.parent / "etcd-client")
    with _running(program, bed.directory / "etcd", bed.directory / "etcd.log") as (pid, port):
        say("etcd, through aetcd")
        through = _through_aetcd(bed, python, pid, port)
        say("etcd, by packets made beforehand")
        packets = _by_packets(bed, pid, port)
    return {"version": version.partition("\n")[0], "client": _AETCD, "aetcd": through, "packets": packets}


def _python_with_aetcd(directory: Path) -> Path:
    """Make a virtual environment with aetcd, unless it is there."""
    python, stamp = directory / "bin/python", directory / _AETCD
    if not stamp.exists():
        say(f"installs {_AETCD} in {directory}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", _AETCD], check=True)
        stamp.touch()
    return python


@contextlib.contextmanager
def _running(program: str, data_dir: Path, log: Path) -> Iterator[tuple[int, int]]:
    """Run etcd on loopback until it answers; its process id and its port for clients."""
    port, peers = free_port(), f"http://{HOST}:{free_port()}"
    clients = f"http://{HOST}:{port}"
    arguments = ["--data-dir", str(data_dir), "--log-level", "error", "--logger", "zap"]
    arguments += ["--listen-client-urls", clients, "--advertise-client-urls", clients]
    arguments += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
    arguments += ["--initial-cluster", f"default={peers}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"},  # which 3.4 wants to be told on a Raspberry Pi
            process_group=0,
        )
    try:
        _wait_until_it_answers(process, port)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, LoadError), EtcdConnection(port) as connection:
            connection.drive(connection.requests([put(b"ready", b"yes")]), 1)
            return
        time.sleep(_POLL_S)
    raise LoadError("etcd does not start")


def _through_aetcd(bed: Bed, python: Path, pid: int, port: int) -> Results:
    sizes = {**asdict(bed.sizes), "config_bytes": CONFIG_BYTES}
    command = [str(python), str(_CLIENT), str(port), json.dumps(sizes)]
    cpu: dict[str, float] = {}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, process_group=0
    ) as client:
        if client.stdin is None or client.stdout is None:
            raise LoadError("the client of etcd does not start")
        for line in client.stdout:
            name, _, word = line.strip().partition(" ")
            if word == "begins":
                cpu[name] = cpu_s(pid)
                client.stdin.write("go\n")
                client.stdin.flush()
            elif word == "done":
                cpu[name] = cpu_s(pid) - cpu[name]
            else:
                found: Results = json.loads(line)
    if client.returncode:
        raise LoadError("the client of etcd failed")
    return {
        name: _figures(
            Run(one["latencies_s"], 0, 0), Run([0.0] * one["count"], one["elapsed_s"], one["client_cpu_s"]), cpu[name]
        )
        for name, one in found.items()
    }


def _by_packets(bed: Bed, pid: int, port: int) -> Results:
    sizes, found = bed.sizes, {}
    keys = [service(number % sizes.services).encode() for number in range(sizes.full_load)]
    value = b"x" * CONFIG_BYTES
    kinds = {"put": [put(key, value) for key in keys], "get": [get(key) for key in keys]}
    for name, messages in kinds.items():
        with EtcdConnection(port) as connection:
            connection.drive(connection.requests(messages[: sizes.warm_up]), 1, sizes.alone_s)
        with EtcdConnection(port) as connection:
            alone = connection.drive(connection.requests(messages[: sizes.alone]), 1, sizes.alone_s)
        with EtcdConnection(port) as connection:
            requests = connection.requests(messages)
            before = cpu_s(pid)
            many = connection.drive(requests, sizes.in_flight, sizes.seconds)
            found[name] = _figures(alone, many, cpu_s(pid) - before)
    return found


def _figures(alone: Run, many: Run, cpu: float) -> Results:
    count = len(many.latencies_s)
    return {
        "p50_ms": alone.percentile_ms(50),
        "p99_ms": alone.percentile_ms(99),
        "rate": many.rate,
        "cpu_ms": cpu / count * 1000,
        "client_cpu_ms": many.client_cpu_s / count * 1000,
    }
