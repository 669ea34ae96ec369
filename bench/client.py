"""What the client library and the command line cost: ``.venv/bin/python bench/client.py``, in about a minute.

A private broker and the installed daemon; printed as Markdown. Beside the library, in the same run and in turns, goes
a bare request and answer on its connection: what the broker and aiomqtt cost without Setpoint. Starts are whole
processes, from exec to exit; an import of the library alone is beside them.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from figures import rss_mb
from processes import compile_modules, free_port, make_store, running_daemon
from pydantic import BaseModel

from setpoint import Client
from setpoint.link import Received
from setpointd.operator import mosquitto

ROUNDS, CALLS, CHANGES, STARTS, READS = 5, 200, 300, 10, 1_000_000
SETPOINT = Path(sys.executable).parent / "setpoint"
CONFIG = {"model": "base", "threads": 2, "language": "en", "vad": 0.5, "text": "x" * 120}

BIND = """
import asyncio
from pydantic import BaseModel
from setpoint import Client
class Stt(BaseModel):
    threads: int = 1
async def main():
    async with Client() as client:
        live = await client.bind("stt", Stt)
        print(live.source, flush=True)
asyncio.run(main())
"""


class Stt(BaseModel):
    """The config of the bound service."""

    model: str = "base"
    threads: int = 1


async def timed(call: Callable[[], Awaitable[object]], count: int) -> list[float]:
    """Call again and again; how long each took, in milliseconds."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        took.append((time.perf_counter() - began) * 1000)
    return took


async def echo(client: Client) -> Callable[[], Awaitable[object]]:
    """Make a call that goes to the broker and comes straight back on the client's own connection."""
    link, answers = client._link, asyncio.Queue[Received]()  # noqa: SLF001 - below what users have
    link.on_message("bench/echo", answers.put_nowait)
    await link.subscribe("bench/echo")

    async def call() -> None:
        link.publish("bench/echo", b"x" * 240)
        await answers.get()

    return call


async def commands(client: Client) -> None:
    """Compare commands with the bare echo, alone and many at once."""
    await client.set("stt", CONFIG)
    calls = {"echo": await echo(client), "get": lambda: client.get("stt"), "set": lambda: client.set("stt", CONFIG)}
    found: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            found[name].append(await timed(call, CALLS))
    floor = statistics.median(statistics.median(took) for took in found["echo"])
    print("| alone | p50, ms | p99, ms | p50 ÷ echo |\n| --- | ---: | ---: | ---: |")
    for name, rounds in found.items():
        middle = statistics.median(statistics.median(took) for took in rounds)
        late = statistics.median(statistics.quantiles(took, n=100)[98] for took in rounds)
        print(f"| {name} | {middle:.2f} | {late:.2f} | {middle / floor:.1f} |")
    rates: list[float] = []
    used_s: list[float] = []
    for _ in range(ROUNDS):
        began, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(client.get("stt") for _ in range(1000)))
        rates.append(1000 / (time.perf_counter() - began))
        used_s.append(time.process_time() - used)
    rate, cpu = statistics.median(rates), statistics.median(used_s)
    print(f"\n1,000 `get` at once: {rate:,.0f} a second, {cpu:.2f} ms of the client's CPU each\n")


async def _timed_patch(client: Client, threads: int) -> float:
    """Change the config; when the reply came."""
    await client.patch("stt", {"threads": threads})
    return time.perf_counter()


async def changes(client: Client) -> None:
    """Time from the command, and from its reply (after the commit), until a bound value has changed."""
    live = await client.bind("stt", Stt, report=False)
    follower = live.changes()
    since_sent, since_reply = [], []
    for n in range(CHANGES):
        began = time.perf_counter()
        call = asyncio.create_task(_timed_patch(client, n + 10))
        await anext(follower)
        seen = time.perf_counter()
        since_sent.append((seen - began) * 1000)
        since_reply.append((seen - await call) * 1000)
    began = time.perf_counter()
    for _ in range(READS):
        live.value.threads  # noqa: B018 - the reading is what is timed
    read_ns = (time.perf_counter() - began) / READS * 1e9
    for name, took in (("sent until seen", since_sent), ("replied until seen", since_reply)):
        late = statistics.quantiles(took, n=100)[98]
        print(f"change, {name}: p50 {statistics.median(took):.2f} ms, p99 {late:.2f} ms, longest {max(took):.1f} ms")
    print(f"`live.value.threads`: {read_ns:.0f} ns\n")


def starts(environment: dict[str, str], away: str) -> None:
    """Time whole processes."""
    programs: dict[str, tuple[list[str | Path], dict[str, str]]] = {
        "the library imported, nothing else": ([sys.executable, "-c", "from setpoint import Client"], {}),
        "a service binds, from the broker": ([sys.executable, "-c", BIND], {}),
        "a service binds, broker down, from its cache": ([sys.executable, "-c", BIND], {"SETPOINT_BROKER_URL": away}),
        "setpoint --help": ([SETPOINT, "--help"], {}),
        "setpoint get stt": ([SETPOINT, "get", "stt"], {}),
    }
    print("| process, exec to exit | p50, s | longest, s |\n| --- | ---: | ---: |")
    for name, (command, more) in programs.items():
        if not Path(command[0]).exists():
            continue
        took: list[float] = []
        said = ""
        for _ in range(STARTS):
            began = time.perf_counter()
            done = subprocess.run(
                command, env=environment | more, check=True, capture_output=True, text=True, timeout=30
            )
            took.append(time.perf_counter() - began)
            said = done.stdout.split()[0] if "binds" in name else ""
        print(f"| {name}{f' ({said})' if said else ''} | {statistics.median(took):.2f} | {max(took):.2f} |")


async def measure(url: str, token: Path, cache: Path) -> None:
    """Measure what one client does."""
    async with Client(url, token, cache_dir=cache) as client:
        await commands(client)
        await changes(client)
        print(f"RSS of this process, with the benchmark in it: {rss_mb(os.getpid()):.0f} MB\n")


def main() -> None:
    """Measure and print."""
    compile_modules()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        directory, port = Path(made), free_port()
        make_store(directory / "data")
        token = directory / "data" / "admin.jwk"
        with (
            mosquitto.running(mosquitto.find(), directory / "broker", port),
            running_daemon(directory / "data", port, Path(os.devnull)),
        ):
            url = f"mqtt://127.0.0.1:{port}"
            asyncio.run(measure(url, token, directory / "cache"))
            environment = {name: value for name, value in os.environ.items() if not name.startswith("SETPOINT_")}
            environment |= {"SETPOINT_TOKEN": str(token), "SETPOINT_BROKER_URL": url}
            away = f"mqtt://127.0.0.1:{free_port()}"
            # The cache is that of a broker: the one that is away has what the other had.
            caches = {"SETPOINT_CACHE_DIR": str(directory / "service")}
            subprocess.run([sys.executable, "-c", BIND], env=environment | caches, check=True, capture_output=True)
            (kept,) = (directory / "service").iterdir()
            kept.rename(kept.with_name(away.removeprefix("mqtt://").replace(":", "_")))
            starts(environment | caches, away)


if __name__ == "__main__":
    main()
