"""The broker gone in the middle of writes: afterwards what is retained is what the store has."""

import asyncio
import json
import time

import aiomqtt
import pytest

from tests.brokers import Broker
from tests.caller import Caller, calling, retained
from tests.daemon import Daemon, NewDaemon
from tests.waiting import eventually

pytestmark = pytest.mark.crash

WRITERS = 4
SEND_AGAIN_S = 3.0


class Writer:
    """Writes one service again and again, and sends a command again, the same bytes, until it is answered."""

    def __init__(self, daemon: Daemon, service: str) -> None:
        self.daemon = daemon
        self.service = service
        self.versions: list[int] = []
        self.last = False

    async def run(self) -> None:
        """Write until `last` is set."""
        payload = None
        while not self.last:
            try:
                async with calling(self.daemon) as caller:
                    while not self.last:
                        payload = payload or self._next(caller)
                        async with asyncio.timeout(SEND_AGAIN_S):
                            reply = await caller.exchange(caller.topics.command("set"), payload)
                        assert reply.ok, reply
                        assert reply.result is not None
                        self.versions.append(reply.result["version"])
                        payload = None
            except (aiomqtt.MqttError, TimeoutError):
                await asyncio.sleep(0.1)  # the broker is away; not to wait for anything, but to leave it alone

    def _next(self, caller: Caller) -> str:
        params = {"service": self.service, "config": {"n": len(self.versions)}}
        return caller.sign("set", params, lifetime_s=600)


async def answered(writers: list[Writer], more: int) -> None:
    """Wait until each writer has had so many more answers."""
    wanted = [len(writer.versions) + more for writer in writers]
    await eventually(
        lambda: all(len(writer.versions) >= count for writer, count in zip(writers, wanted, strict=True)),
        f"each writer had {more} more answers",
        40,
    )


async def watch(daemon: Daemon, gone_since: float, away_s: float) -> None:
    """Probe the daemon until the broker was away for so long: it lives all the while, and says that it is not ready."""
    await eventually(lambda: daemon.probe("/readyz")[0] == 503, "it says that it is not ready")
    while time.monotonic() < gone_since + away_s:
        assert daemon.probe("/livez")[0] == 200
        assert daemon.probe("/readyz")[0] == 503
        assert json.loads(daemon.probe("/health")[1])["checks"]["broker"]["status"] == "fail"
        await asyncio.sleep(0.1)  # between probes; what ends the loop is the time that the broker was to be away


@pytest.mark.parametrize(("end", "away_s"), [("stop", 10.0), ("kill", 0.0)])
async def test_the_broker_goes_away_during_writes(
    end: str,
    away_s: float,
    own_broker: Broker,
    new_daemon: NewDaemon,
) -> None:
    """Stopped for ten seconds, or killed with all it held: no write is lost, none runs twice, all is announced."""
    daemon = new_daemon(broker=own_broker, rate_limit_per_s=0)
    writers = [Writer(daemon, f"w{number}") for number in range(WRITERS)]
    async with asyncio.TaskGroup() as tasks:
        for writer in writers:
            tasks.create_task(writer.run())
        await answered(writers, 30)
        gone_since = time.monotonic()
        await asyncio.to_thread(own_broker.stop if end == "stop" else own_broker.kill)
        await watch(daemon, gone_since, away_s)
        await asyncio.to_thread(own_broker.start)
        await eventually(daemon.ready, "it is ready again", 40)
        await answered(writers, 30)
        for writer in writers:
            writer.last = True
    await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
    async with calling(daemon) as admin:
        documents = {writer.service: await admin.ok("get", {"service": writer.service}) for writer in writers}
        assert (await admin.ok("status"))["services"] == WRITERS
    for writer in writers:
        assert writer.versions == list(range(1, len(writer.versions) + 1))
        assert documents[writer.service]["version"] == len(writer.versions)
    kept = await retained(daemon, daemon.topics.all_updated)
    assert {daemon.topics.updated_service(topic): json.loads(payload) for topic, payload in kept.items()} == documents
