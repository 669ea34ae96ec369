"""The composition root: builds every part, ties them together, and runs them until a signal.

The clock, chance and identity come into the daemon here. Below, only the log reads the time by itself, and waiting and
back-off the monotonic clock.
"""

import asyncio
import contextlib
import gc
import random
import secrets
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import get_args

from setpoint_contracts import Topics
from setpoint_contracts.system import Mode
from setpoint_contracts.timestamps import rfc3339
from setpointd import __version__, health, locks, log
from setpointd.applied import AppliedReports
from setpointd.broker.announcements import Announcements
from setpointd.broker.connection import Connection
from setpointd.broker.duties import Duties
from setpointd.broker.modes import Modes
from setpointd.broker.outbox import Outbox
from setpointd.broker.position import Position
from setpointd.call import Daemon
from setpointd.chores import Chores
from setpointd.credentials import Credentials
from setpointd.errors import OperatorError
from setpointd.keys import Keys
from setpointd.loaded import DAEMON_LOCK
from setpointd.log import logger
from setpointd.metrics import Metrics
from setpointd.pipeline import Pipeline
from setpointd.records import Stamp
from setpointd.render import Renderer
from setpointd.report import Reporter
from setpointd.retention import Retention
from setpointd.runtime import Runtime
from setpointd.settings import Settings
from setpointd.store import Store

STOP_AGAIN_S = 0.5
STOP_S = 7.0
"""How long the daemon finishes what it has taken after a signal: enough to drain the outbox and say farewell."""
LAST_SWEEP_S = 1.0
CLOSE_S = 3.0
"""How long the writer may take then. All three together stay below what setpointd.service and compose.yaml allow."""
LOCK_WAIT_S = 1.0
"""``setpointd token`` tries the daemon's lock for a moment, to see whether a daemon runs."""


def main(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT and return 0; raises ``OperatorError`` when it cannot go on."""
    log.configure(fmt=settings.log_format, level=settings.log_level)
    with only_daemon(settings.data_dir):
        asyncio.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    """Build the daemon and run it."""
    keys = Keys.load(settings.data_dir)
    topics = Topics(settings.topic_prefix)
    metrics = Metrics(__version__, get_args(Mode))
    async with _open_store(settings.data_dir, metrics) as store:
        started = time.monotonic()
        runtime = Runtime(
            version=__version__,
            instance=str(uuid.uuid4()),
            limits=settings.limits,
            uptime=lambda: round(time.monotonic() - started, 3),
            oldest_job_s=store.oldest_job_s,
        )
        modes = Modes(runtime)
        renderer = Renderer(keys, topics, runtime)
        outbox = Outbox(store, renderer, runtime, metrics, lambda: Stamp(rfc3339(time.time()), None))
        position = Position(
            settings=settings,
            store=store,
            keys=keys,
            runtime=runtime,
            modes=modes,
            metrics=metrics,
            clock=time.time,
        )
        credentials = Credentials(data_dir=settings.data_dir, store=store, keys=keys)
        await credentials.load()
        chores = Chores(
            store=store,
            credentials=credentials,
            outbox=outbox,
            tombstone_keep_days=settings.tombstone_keep_days,
            clock=time.time,
        )
        retention = Retention(
            store=store,
            active=modes.active,
            keep_days=settings.history_keep_days,
            keep_versions=settings.history_keep_versions,
            clock=time.time,
        )
        applied = AppliedReports(topics, metrics, time.time)
        pipeline = Pipeline(
            store=store,
            keyring=credentials.keyring,
            topics=topics,
            renderer=renderer,
            daemon=Daemon(
                runtime=runtime,
                keys=keys,
                fresh_id=lambda: secrets.token_hex(8),
                fresh_secret=lambda: secrets.token_bytes(32),
                sighting=position.sighting,
                activate=lambda: modes.on("advanced"),
                learn=credentials.learn,
                applied=applied.of,
            ),
            metrics=metrics,
            clock=time.time,
        )
        announcements = Announcements(keys, topics, runtime, time.time)
        duties = Duties(
            topics=topics,
            store=store,
            keys=keys,
            position=position,
            announcements=announcements,
            modes=modes,
            outbox=outbox,
            applied=applied,
            clock=time.time,
        )
        connection = Connection(
            settings=settings,
            position=position,
            duties=duties,
            runtime=runtime,
            metrics=metrics,
            clock=time.time,
            chance=random.random,
        )
        reporter = Reporter(store, runtime, metrics)
        gc.freeze()  # all up to here stays: collections that look through it again hold everything up for 40 ms
        async with health.serve(
            settings.http_host, settings.http_port, health=reporter.health, metrics=reporter.metrics
        ) as http:
            logger().info("listening", http=f"{http[0]}:{http[1]}", instance=runtime.instance)
            await _until_signal(connection, chores, retention, pipeline)
    logger().info("stopped")


async def _until_signal(connection: Connection, chores: Chores, retention: Retention, pipeline: Pipeline) -> None:
    """Run until SIGTERM, SIGINT or the end of the connection; then finish what was taken and write down the rest.

    In bounded time: what hangs then, be it the broker or the writer, is left; nothing of it was acknowledged.
    """
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    failure: OperatorError | None = None
    async with asyncio.TaskGroup() as tasks:
        rounds = [
            tasks.create_task(chores.run(pipeline), name="chores"),
            tasks.create_task(retention.run(), name="retention"),
        ]
        connected = tasks.create_task(_outcome(connection, pipeline), name="connection")
        waiting = tasks.create_task(signalled.wait(), name="signal")
        await asyncio.wait({connected, waiting}, return_when=asyncio.FIRST_COMPLETED)
        logger().info("stopping")
        deadline = time.monotonic() + STOP_S
        while not connected.done():
            # More than once: up to Python 3.11 asyncio.wait_for, which aiomqtt waits with, can lose a cancellation.
            if not connection.stop() or time.monotonic() > deadline:
                connected.cancel()
            await asyncio.wait({connected}, timeout=STOP_AGAIN_S)
        with contextlib.suppress(asyncio.CancelledError):
            failure = await connected
        for task in (*rounds, waiting):
            task.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_SWEEP_S):
            await chores.sweep(pipeline)
    if failure is not None:
        raise failure


async def _outcome(connection: Connection, pipeline: Pipeline) -> OperatorError | None:
    # Returned, not raised: out of a task group it would come wrapped in an exception group.
    try:
        await connection.run(pipeline.process)
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
        await store.close(CLOSE_S)


@contextlib.contextmanager
def only_daemon(data_dir: Path) -> Iterator[None]:
    """Keep a second daemon off the same directory. Raises ``OperatorError``."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.holding(data_dir / DAEMON_LOCK, wait_s=LOCK_WAIT_S))
        except BlockingIOError:
            raise OperatorError(f"another setpointd runs on {data_dir}") from None
        except OSError as error:
            raise OperatorError(
                f"the data directory {data_dir} cannot be used: {error.strerror}; make it with `setpointd init`"
            ) from None
        yield
