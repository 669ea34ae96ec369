"""The composition root: builds every part, ties them together, and runs them until a signal.

Clock, randomness and identity come into the daemon here and nowhere below.
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
from typing import Any

from setpoint_contracts import Topics
from setpoint_contracts.system import Mode
from setpoint_contracts.timestamps import rfc3339
from setpointd import __version__, epoch, health, log, mqtt
from setpointd.auth import Keyring
from setpointd.errors import BrokerLostError, OperatorError, SetpointdError, StoreError
from setpointd.keys import Keys
from setpointd.log import logger
from setpointd.messages import Inbound, Outbound
from setpointd.metrics import Metrics, Observed
from setpointd.outbox import Outbox
from setpointd.records import Claim, Stamp
from setpointd.registry import check_complete
from setpointd.runtime import Runtime
from setpointd.service import Service
from setpointd.settings import Settings
from setpointd.store import Store
from setpointd.tx import Tx

MODES = ("starting", "active", "read_only", "standby")
_TOKENS_EVERY_S = 0.5
_HOUSEKEEPING_EVERY_S = 60.0
_CLAIM_EVERY_S = 1.0
_DRAIN_S = 5.0
_FAREWELL_S = 2.0
_BACKOFF_S = (0.2, 5.0)


def main(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT and return 0; raises ``OperatorError`` when it cannot go on."""
    log.configure(fmt=settings.log_format, level=settings.log_level)
    check_complete()
    with _only_daemon(settings.data_dir):
        asyncio.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    metrics = Metrics(__version__, MODES)
    keys = Keys.load(settings.data_dir)
    async with _open_store(settings.data_dir, metrics) as store:
        daemon = Daemon(settings, store, keys, metrics)
        async with health.serve(
            settings.http_host,
            settings.http_port,
            health=daemon.health,
            metrics=metrics.render,
        ) as (host, port):
            logger().info("listening", http=f"{host}:{port}", instance=daemon.runtime.instance)
            await daemon.run()
    logger().info("stopped")


@contextlib.asynccontextmanager
async def _open_store(data_dir: Path, metrics: Metrics) -> AsyncIterator[Store]:
    store = Store(data_dir)
    store.on_commit.append(metrics.committed)
    try:
        yield store
    finally:
        await store.close()


class Daemon:
    """One run of the daemon: its mode, its connection to the broker, and what it does on the side."""

    def __init__(self, settings: Settings, store: Store, keys: Keys, metrics: Metrics) -> None:
        self._settings = settings
        self._store = store
        self._keys = keys
        self._metrics = metrics
        self._topics = Topics(settings.topic_prefix)
        self.runtime = Runtime(
            version=__version__,
            instance=str(uuid.uuid4()),
            started_at=time.time(),
            limits=settings.limits,
        )
        self._since = rfc3339(self.runtime.started_at)
        self._tokens = self._read_tokens()
        self._service = Service(
            store=store,
            keyring=self._keyring(),
            keys=keys,
            topics=self._topics,
            runtime=self.runtime,
            metrics=metrics,
            clock=time.time,
        )
        self._outbox = Outbox(store, keys, self._topics, metrics, self._stamp)
        self._moved = asyncio.Event()
        store.on_commit.append(self._committed)
        metrics.observe(self._observe)
        self._session: mqtt.Session | None = None
        self._broker_problem = "not connected yet"
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run until a signal; then finish what was taken, empty the outbox, say goodbye."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        failure: SetpointdError | None = None
        async with asyncio.TaskGroup() as tasks:
            chores = tasks.create_task(self._chores(), name="chores")
            connection = tasks.create_task(self._stay_connected(), name="connection")
            stopping = tasks.create_task(self._stopping.wait(), name="stopping")
            await asyncio.wait({connection, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if self._session is not None:
                self._session.stop()
            elif not connection.done():
                connection.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                failure = await connection
            chores.cancel()
            stopping.cancel()
        await self._note_token_use()
        if failure is not None:
            raise failure

    def _stop(self) -> None:
        logger().info("stopping")
        self._stopping.set()

    # The connection

    async def _stay_connected(self) -> SetpointdError | None:
        """Connect, and again whenever the connection is lost; returns at the end, with the reason for a bad one."""
        pause, longest = _BACKOFF_S
        while not self._stopping.is_set():
            try:
                await self._connect_once()
                pause = _BACKOFF_S[0]
            except BrokerLostError as lost:
                if self.runtime.connected:
                    pause = _BACKOFF_S[0]
                self._disconnected(str(lost.args[0] if lost.args else "connection lost"))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                pause = min(pause * 2, longest)
            except OperatorError as error:
                self._disconnected(str(error.args[0]))
                return error
        return None

    async def _connect_once(self) -> None:
        """Look, decide, and serve until the connection ends (``BrokerLostError``) or the daemon is stopped."""
        filters = (self._topics.health, self._topics.epoch, self._topics.all_updated)
        end = self._topics.reply(self._settings.client_id, f"look-{uuid.uuid4().hex}")
        retained = await mqtt.look(self._settings, filters, end)
        seen = epoch.Seen.read(retained, self._topics)
        await self._take_position(seen)
        if self.runtime.mode == "standby":
            await mqtt.wait_for_change(self._settings, self._topics.health, retained.get(self._topics.health))
            return
        will = self._health_message(ok=False, event="offline")
        async with mqtt.connect(self._settings, will, time.time) as session:
            await session.subscribe([self._topics.commands])
            await session.subscribe([self._topics.epoch], no_local=True)
            await self._repair(seen)
            await self._serve(session)

    async def _take_position(self, seen: epoch.Seen) -> None:
        """Find out what this daemon may be: at its start from all it sees; later on only whether it was superseded."""
        own = self._claim()
        if self.runtime.mode in {"starting", "standby"}:
            mode, reason = epoch.decide(seen, own)
            self._set_mode(mode, reason)
            instance = self.runtime.instance
            if mode == "active":
                await self._store.write(self._stamp(), lambda tx: tx.take_over(instance))
            elif mode == "read_only":
                await self._store.write(self._stamp(), lambda tx: tx.remember(instance))
        elif self.runtime.mode == "active" and epoch.superseded(seen.claim, own):
            self._set_mode("read_only", "superseded")

    async def _repair(self, seen: epoch.Seen) -> None:
        """Have every retained document published (or cleared) that is not what the store has."""
        if self.runtime.mode != "active":
            return
        with self._store.read() as snapshot:
            current = {document.service: document.as_wire() for document in snapshot.documents()}
        services = epoch.to_repair(seen, current)
        if services:
            logger().info("repairing", services=len(services))
            await self._store.write(self._stamp(), partial(_announce, services))

    async def _serve(self, session: mqtt.Session) -> None:
        loss: SetpointdError | None = None
        async with asyncio.TaskGroup() as tasks:
            self._connected(session)
            publishers = [
                tasks.create_task(self._outbox.run(self._publish_as_writer), name="outbox"),
                tasks.create_task(self._publish_claims(), name="claims"),
            ]
            try:
                if self._stopping.is_set():
                    session.stop()
                await session.serve(self._handle)
                await self._farewell(session)
            except SetpointdError as error:
                loss = error
            for publisher in publishers:
                publisher.cancel()
        self._session = None
        if loss is not None:
            raise loss

    async def _farewell(self, session: mqtt.Session) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self._outbox.drained()
        with contextlib.suppress(TimeoutError, BrokerLostError):
            async with asyncio.timeout(_FAREWELL_S):
                await session.publish(self._health_message(ok=False, event="offline"))

    def _connected(self, session: mqtt.Session) -> None:
        self._session = session
        self.runtime.connected = True
        self._metrics.connected(up=True)
        logger().info("connected", broker=f"{self._settings.broker_host}:{self._settings.broker_port}")
        session.publish(self._keys.signed(self._topics.keys, self._keys.public_jwks(), retain=True))
        session.publish(self._health_message(ok=True, event="online"))

    def _disconnected(self, problem: str) -> None:
        if self.runtime.connected or problem != self._broker_problem:
            logger().warning("broker_unreachable", reason=problem)
        self._session = None
        self.runtime.connected = False
        self._broker_problem = problem
        self._metrics.connected(up=False)

    async def _handle(self, inbound: Inbound) -> Outbound | None:
        if inbound.topic != self._topics.epoch:
            return await self._service.answer(inbound)
        if self.runtime.mode == "active" and epoch.superseded(epoch.parse_claim(inbound.payload), self._claim()):
            self._set_mode("read_only", "superseded")
        return None

    def _publish_as_writer(self, message: Outbound) -> asyncio.Future[None]:
        """Publish retained state and events: only the writer may, and only while it is connected."""
        if self._session is not None and self.runtime.mode == "active":
            return self._session.publish(message)
        nowhere: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        nowhere.set_exception(BrokerLostError("not the writer, or not connected"))
        return nowhere

    async def _publish_claims(self) -> None:
        """Publish the writer's claim now, and whenever the revision has moved, at most once a second."""
        with contextlib.suppress(BrokerLostError):
            while True:
                self._moved.clear()
                claim = epoch.claim_document(self._claim(), self._since)
                await self._publish_as_writer(self._keys.signed(self._topics.epoch, claim, retain=True))
                await asyncio.sleep(_CLAIM_EVERY_S)
                await self._moved.wait()

    # On the side

    async def _chores(self) -> None:
        """Notice tokens that were changed from outside; now and then drop what has run out."""
        next_sweep = time.monotonic() + _HOUSEKEEPING_EVERY_S
        while True:
            await asyncio.sleep(_TOKENS_EVERY_S)
            with contextlib.suppress(StoreError):  # logged where it happened; the next round comes soon
                self._notice_tokens()
                if time.monotonic() >= next_sweep:
                    next_sweep += _HOUSEKEEPING_EVERY_S
                    await self._note_token_use()
                    await self._store.write(self._stamp(), lambda tx: tx.forget_replies())

    def _notice_tokens(self) -> None:
        tokens = self._read_tokens()
        if tokens == self._tokens:
            return
        self._tokens = tokens
        try:
            self._service.keyring = self._keyring()
        except OperatorError as error:
            logger().error("tokens_unreadable", reason=error.args[0])
            return
        logger().info("tokens_changed", tokens=len(tokens))
        self._outbox.wake()

    def _read_tokens(self) -> list[dict[str, Any]]:
        with self._store.read() as snapshot:
            tokens = snapshot.tokens()
        return [{field: value for field, value in token.items() if field != "last_used_at"} for token in tokens]

    def _keyring(self) -> Keyring:
        return Keyring([self._keys.restore(token) for token in self._tokens])

    async def _note_token_use(self) -> None:
        used, self._service.last_used = self._service.last_used, {}
        if used:
            await self._store.write(self._stamp(), lambda tx: tx.tokens_used(used))

    def _committed(self, _jobs: int, _seconds: float) -> None:
        self._outbox.wake()
        self._moved.set()

    def _set_mode(self, mode: Mode, reason: str | None) -> None:
        if (mode, reason) == (self.runtime.mode, self.runtime.reason):
            return
        self.runtime.mode, self.runtime.reason = mode, reason
        logger().info("mode", mode=mode, reason=reason)
        if self._session is not None:
            self._session.publish(self._health_message(ok=True, event="mode"))

    # What others see

    def health(self) -> health.Health:
        """Tell the HTTP probes how things are."""
        claim = self._claim()
        mode = self.runtime.mode
        words = mode if self.runtime.reason is None else f"{mode}: {self.runtime.reason}"
        status: dict[str, health.Status] = {"active": "pass", "read_only": "warn"}
        broker = (
            health.Check("pass", "connected") if self.runtime.connected else health.Check("fail", self._broker_problem)
        )
        store = (
            health.Check("fail", "the last write failed") if self._store.failing else health.Check("pass", "writable")
        )
        return health.Health(
            mode=mode,
            epoch=claim.epoch,
            revision=claim.revision,
            version=__version__,
            uptime_s=round(time.time() - self.runtime.started_at, 3),
            checks={"broker": broker, "store": store, "mode": health.Check(status.get(mode, "fail"), words)},
        )

    def _observe(self) -> Observed:
        with self._store.read() as snapshot:
            claim = snapshot.claim()
            return Observed(
                mode=self.runtime.mode,
                epoch=claim.epoch,
                revision=claim.revision,
                outbox_pending=snapshot.outbox_pending(),
                services=snapshot.count_services(),
                store_bytes=snapshot.store_bytes(),
            )

    def _health_message(self, *, ok: bool, event: str) -> Outbound:
        at = rfc3339(time.time())
        payload = epoch.health_document(self.runtime, self._claim().epoch, at, ok=ok, event=event)
        return self._keys.signed(self._topics.health, payload, retain=True)

    def _claim(self) -> Claim:
        with self._store.read() as snapshot:
            return snapshot.claim()

    def _stamp(self) -> Stamp:
        return Stamp(rfc3339(time.time()), None)


def _announce(services: list[str], tx: Tx) -> None:
    for service in services:
        tx.announce(service)


@contextlib.contextmanager
def _only_daemon(data_dir: Path) -> Iterator[None]:
    """Keep a second daemon off the same directory; the kernel lets go when this one dies."""
    try:
        handle = os.open(data_dir / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        msg = f"the data directory {data_dir} cannot be used: {error.strerror}; make it with `setpointd init`"
        raise OperatorError(msg) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        msg = f"another setpointd runs on {data_dir}"
        raise OperatorError(msg) from None
    finally:
        os.close(handle)
