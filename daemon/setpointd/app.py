"""The composition root: builds every part, ties them together, and runs them until a signal.

The clock, chance and identity come into the daemon here. Below, only the log reads the time by itself.
"""

import asyncio
import contextlib
import fcntl
import os
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import get_args

from setpoint_contracts import Topics
from setpoint_contracts.system import Mode
from setpoint_contracts.timestamps import rfc3339
from setpointd import __version__, health, log
from setpointd.chores import Chores
from setpointd.connection import Connection
from setpointd.errors import OperatorError, StoreError
from setpointd.keys import Keys
from setpointd.log import logger
from setpointd.metrics import Metrics, Observed
from setpointd.outbox import Outbox
from setpointd.records import Claim, Stamp
from setpointd.registry import check_complete
from setpointd.runtime import Runtime
from setpointd.service import Service
from setpointd.settings import Settings
from setpointd.store import Store

STOP_AGAIN_S = 0.5
STATUS: dict[Mode, health.Status] = {"active": "pass", "read_only": "warn", "standby": "fail", "starting": "fail"}


def main(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT and return 0; raises ``OperatorError`` when it cannot go on."""
    log.configure(fmt=settings.log_format, level=settings.log_level)
    check_complete()
    with _only_daemon(settings.data_dir):
        asyncio.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    """Build the daemon and run it."""
    keys = Keys.load(settings.data_dir)
    topics = Topics(settings.topic_prefix)
    metrics = Metrics(__version__, get_args(Mode))
    started = time.monotonic()
    runtime = Runtime(
        version=__version__,
        instance=str(uuid.uuid4()),
        limits=settings.limits,
        uptime=lambda: round(time.monotonic() - started, 3),
    )
    async with _open_store(settings.data_dir, metrics) as store:
        outbox = Outbox(store, keys, topics, metrics, lambda: Stamp(rfc3339(time.time()), None))
        chores = Chores(store, keys, outbox, time.time)
        service = Service(
            store=store,
            keyring=chores.keyring(),
            keys=keys,
            topics=topics,
            runtime=runtime,
            metrics=metrics,
            clock=time.time,
        )
        connection = Connection(
            settings=settings,
            store=store,
            keys=keys,
            runtime=runtime,
            metrics=metrics,
            outbox=outbox,
            clock=time.time,
            chance=random.random,
        )
        metrics.observe(partial(_observe, store, runtime))
        report = partial(_report, store, runtime)
        async with health.serve(settings.http_host, settings.http_port, health=report, metrics=metrics.render) as http:
            logger().info("listening", http=f"{http[0]}:{http[1]}", instance=runtime.instance)
            await _until_signal(connection, chores, service)
    logger().info("stopped")


async def _until_signal(connection: Connection, chores: Chores, service: Service) -> None:
    """Run until SIGTERM, SIGINT or the end of the connection; then finish what was taken and write down the rest."""
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    failure: OperatorError | None = None
    async with asyncio.TaskGroup() as tasks:
        rounds = tasks.create_task(chores.run(service), name="chores")
        connected = tasks.create_task(_outcome(connection, service), name="connection")
        waiting = tasks.create_task(signalled.wait(), name="signal")
        await asyncio.wait({connected, waiting}, return_when=asyncio.FIRST_COMPLETED)
        logger().info("stopping")
        while not connected.done():
            # More than once: up to Python 3.11 asyncio.wait_for, which aiomqtt connects with, can lose a cancellation.
            if not connection.stop():
                connected.cancel()
            await asyncio.wait({connected}, timeout=STOP_AGAIN_S)
        with contextlib.suppress(asyncio.CancelledError):
            failure = await connected
        rounds.cancel()
        waiting.cancel()
    await chores.sweep(service)
    if failure is not None:
        raise failure


async def _outcome(connection: Connection, service: Service) -> OperatorError | None:
    # Returned, not raised: out of a task group it would come wrapped in an exception group.
    try:
        await connection.run(service.answer)
    except OperatorError as error:
        return error
    return None


@contextlib.asynccontextmanager
async def _open_store(data_dir: Path, metrics: Metrics) -> AsyncIterator[Store]:
    store = Store(data_dir)
    store.on_commit.append(metrics.committed)
    try:
        yield store
    finally:
        await store.close()


def _report(store: Store, runtime: Runtime) -> health.Health:
    """Tell the HTTP probes how things are."""
    try:
        with store.read() as snapshot:
            claim, problem = snapshot.claim(), "the last write failed" if store.failing else None
    except StoreError:
        claim, problem = Claim("", 0, 0, None), "the store cannot be read"
    words = runtime.mode if runtime.reason is None else f"{runtime.mode}: {runtime.reason}"
    return health.Health(
        mode=runtime.mode,
        epoch=claim.epoch,
        revision=claim.revision,
        version=runtime.version,
        uptime_s=runtime.uptime(),
        checks={
            "broker": _check(runtime.broker_problem, "connected"),
            "store": _check(problem, "writable"),
            "mode": health.Check(STATUS[runtime.mode], words),
        },
        live=store.alive,
    )


def _check(problem: str | None, fine: str) -> health.Check:
    return health.Check("pass", fine) if problem is None else health.Check("fail", problem)


def _observe(store: Store, runtime: Runtime) -> Observed:
    with store.read() as snapshot:
        claim = snapshot.claim()
        return Observed(
            mode=runtime.mode,
            epoch=claim.epoch,
            revision=claim.revision,
            outbox_pending=snapshot.outbox_pending(),
            services=snapshot.count_services(),
            store_bytes=snapshot.store_bytes(),
        )


@contextlib.contextmanager
def _only_daemon(data_dir: Path) -> Iterator[None]:
    """Keep a second daemon off the same directory; the kernel lets go when this one dies."""
    try:
        handle = os.open(data_dir / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorError(
            f"the data directory {data_dir} cannot be used: {error.strerror}; make it with `setpointd init`"
        ) from None
    with os.fdopen(handle):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(f"another setpointd runs on {data_dir}") from None
        yield
