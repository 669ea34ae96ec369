"""``./dev robustness``: many callers and random faults for a while, recorded and then checked (see checker.py).

The seed decides what callers and faults choose. How that interleaves is up to the machine, so a seed brings a run of
the same kind again, not the same run. Brokers are those of the tests (SETPOINT_TEST_BROKER), on 127.0.0.1 only.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from setpoint_contracts import Token
from tests.brokers import Broker, ContainerBroker, LocalBroker, choose_kind, make_certificate
from tests.caller import Caller, calling, retained
from tests.conftest import WANTED_BROKER
from tests.crash.checker import Violation, check
from tests.crash.faults import GO_ON_S, Faults
from tests.crash.history import Document, History
from tests.crash.traffic import Choices, Client, observe
from tests.daemon import Daemon, Daemons, make_data_dir
from tests.waiting import eventually

LONGEST_S = 3600
MOST_OPERATIONS = 1_000_000
_PORTION = 10
_SHOWN = 20


@dataclass(frozen=True)
class Plan:
    """How large a run is; it ends when the first of its limits is reached. ``gap``: operations between two faults."""

    seed: int
    seconds: float
    operations: int = MOST_OPERATIONS
    callers: int = 8
    services: int = 3
    faults: int = 10_000
    gap: int = 300

    def chance(self, who: str) -> random.Random:
        """Give everyone who chooses a source of their own, so that they do not disturb each other's."""
        return random.Random(f"{self.seed}/{who}")  # noqa: S311 - to be had again from the seed

    def again(self) -> str:
        """Say how to have such a run again, long or short."""
        short = f"SETPOINT_TEST_SEED={self.seed} ./dev test tests/crash/test_linearisable.py"
        return f"again: ./dev robustness --seed {self.seed}, or {short}"


async def run(plan: Plan, daemon: Daemon, broker: Broker, history: History) -> list[Violation]:
    """Carry a plan out on a daemon with an empty store and a broker of its own; record it, and list what is wrong."""
    services = [f"s{number}" for number in range(plan.services)]
    # Every third caller is a principal of its own, the others share one token.
    own = {number: daemon.new_token(f"caller{number}", "admin") for number in range(1, plan.callers, 3)}
    tokens = [own.get(number, daemon.token) for number in range(plan.callers)]
    try:
        async with asyncio.timeout(plan.seconds + 3 * GO_ON_S):
            await _exercise(plan, daemon, broker, history, services, tokens)
        async with asyncio.timeout(GO_ON_S + len(history.operations) / 20):
            await _read_back(daemon, history, services)
    except BaseException as error:
        error.add_note(plan.again())
        raise
    return check(history)


async def _exercise(
    plan: Plan,
    daemon: Daemon,
    broker: Broker,
    history: History,
    services: list[str],
    tokens: list[Token],
) -> None:
    end = time.monotonic() + plan.seconds

    def more() -> bool:
        return time.monotonic() < end and len(history.operations) < plan.operations

    async with asyncio.TaskGroup() as observers:
        observer = observers.create_task(observe(daemon, history), name="observer")
        async with asyncio.TaskGroup() as tasks:
            faults = Faults(daemon, broker, plan.chance("faults"))
            tasks.create_task(faults.run(history, plan.gap, plan.faults, more), name="faults")
            for number, token in enumerate(tokens):
                name = f"c{number}"
                choices = Choices(name, services, plan.chance(f"{name} chooses"))
                client = Client(name, daemon, token, history, choices, plan.chance(name), more)
                tasks.create_task(client.run(), name=name)
        observer.cancel()


async def _read_back(daemon: Daemon, history: History, services: list[str]) -> None:
    """Read every version of every service, and what is retained."""
    async with calling(daemon) as admin:
        # Commands that were given up may still wait in the daemon's queue: once one behind them is answered, none does.
        await admin.ok("set", {"service": "last", "config": {}})
        for service in services:
            history.versions[service] = await _versions(admin, service)
    await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "all is announced")
    kept = await retained(daemon, *(daemon.topics.updated(service) for service in services))
    history.retained = {
        str(daemon.topics.updated_service(topic)): json.loads(payload) for topic, payload in kept.items() if payload
    }


async def _versions(admin: Caller, service: str) -> list[Document]:
    reply = await admin.call("get", {"service": service})
    newest = reply.result if reply.ok else reply.error and reply.error.details.get("current")
    numbers = range(1, (newest["version"] if newest else 0) + 1)
    versions: list[Document] = []
    while len(versions) < len(numbers):
        portion = numbers[len(versions) : len(versions) + _PORTION]
        versions += await asyncio.gather(*(admin.ok("get", {"service": service, "version": n}) for n in portion))
    return versions


@contextlib.contextmanager
def _started(directory: Path) -> Iterator[tuple[Daemon, Broker]]:
    """A broker of the kind that is wanted, and a daemon on it with an empty store."""
    store = directory / "empty"
    make_data_dir(store)
    certificate = make_certificate(directory)
    in_container = choose_kind(WANTED_BROKER) == "docker"
    broker = ContainerBroker(certificate) if in_container else LocalBroker(directory, certificate)
    with contextlib.ExitStack() as ending:
        ending.callback(broker.remove)
        broker.start()
        daemons = Daemons(broker, store, directory)
        ending.callback(daemons.remove)
        yield daemons.new(prefix="", rate_limit_per_s=0), broker


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev robustness", description="Callers, faults, and a check of what was said"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help=f"how long, at most {LONGEST_S} (default 60)")
    parser.add_argument("--seed", type=int, help="of a run that is to be had again (default: a new one)")
    arguments = parser.parse_args()
    if not 0 < arguments.seconds <= LONGEST_S:
        parser.error(f"--seconds: above 0, at most {LONGEST_S}")
    return arguments


def main() -> int:
    """Run once; 1 when there was a violation."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running
    plan = Plan(secrets.randbits(32) if arguments.seed is None else arguments.seed, arguments.seconds)
    directory = Path(tempfile.mkdtemp(prefix="setpoint-robustness-"))
    _say(f"seed {plan.seed}; until all is well, logs, store and history are in {directory}")
    logging.basicConfig(filename=directory / "callers.log")  # aiomqtt tells of every lost connection
    history = History()
    try:
        with _started(directory) as (daemon, broker):
            violations = asyncio.run(run(plan, daemon, broker, history))
    finally:
        history.save(directory / "history.json")
        _say(history.summary())
    for rule, what in violations[:_SHOWN]:
        _say(f"{rule}: {what}")
    _say(f"violations: {len(violations)}" + (f"; {plan.again()}" if violations else ""))
    if not violations:
        shutil.rmtree(directory)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
