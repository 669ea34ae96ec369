"""etcd through its Python client, aetcd: a program of its own, run by bench/etcd.py with a Python that has aetcd.

``python etcd_client.py PORT SIZES``: the port on 127.0.0.1, and as JSON how much to do. It prints what it measured as
JSON: for put and get the latency of each one alone, then the rate with many in flight.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aetcd  # type: ignore[import-not-found, unused-ignore]

_Call = Callable[[int], Awaitable[Any]]


async def _alone(call: _Call, count: int, seconds: float) -> list[float]:
    took = []
    started = time.perf_counter()
    for number in range(count):
        before = time.perf_counter()
        await call(number)
        took.append(time.perf_counter() - before)
        if time.perf_counter() - started > seconds:
            break
    return took


async def _many(call: _Call, in_flight: int, seconds: float) -> tuple[int, float]:
    numbers = iter(range(sys.maxsize))
    started = time.perf_counter()
    done = 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() - started < seconds:
            await call(next(numbers))
            done += 1

    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())
    return done, time.perf_counter() - started


async def main(port: int, sizes: dict[str, Any]) -> None:
    """Measure and print; a line before each part says that it begins, and one on standard input lets it."""
    value, services = b"x" * sizes["config_bytes"], sizes["services"]
    async with aetcd.Client("127.0.0.1", port) as client:
        calls: dict[str, _Call] = {
            "put": lambda number: client.put(f"bench-{number % services:03}".encode(), value),
            "get": lambda number: client.get(f"bench-{number % services:03}".encode()),
        }
        found = {}
        for name, call in calls.items():
            await _alone(call, sizes["warm_up"], sizes["alone_s"])
            latencies = await _alone(call, sizes["alone"], sizes["alone_s"])
            print(f"{name} begins", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            cpu = time.process_time()
            count, elapsed = await _many(call, sizes["in_flight"], sizes["seconds"])
            found[name] = {
                "latencies_s": latencies,
                "count": count,
                "elapsed_s": elapsed,
                "client_cpu_s": time.process_time() - cpu,
            }
            print(f"{name} done", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), json.loads(sys.argv[2])))
