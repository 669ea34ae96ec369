"""A broker that stands still, or is out of reach without a word: noticed, survived, and nothing is lost by it."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Broker
from tests.caller import Caller, calling
from tests.daemon import Daemon, NewDaemon
from tests.proxy import proxied
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(240)

SLOW_MACHINE_S = 2.0
"""What a busy machine may add to a time that is promised."""
MAX_GROWTH_KIB = 48 * 1024


def resident_kib(daemon: Daemon) -> int:
    """Read how much memory a daemon has."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


class Load:
    """Commands that are published without waiting, each a `set` of one of some services, and what became of them."""

    def __init__(self, caller: Caller, name: str, services: int = 10) -> None:
        self.caller = caller
        self.name = name
        self.services = services
        self.jtis: list[str] = []
        self._results: list[dict[str, Any] | None] = []
        self._publishing: list[asyncio.Task[None]] = []

    def send(self, count: int) -> None:
        """Publish so many more; the broker may take them later."""
        for _ in range(count):
            n = len(self.jtis)
            self.jtis.append(f"{self.name}-{n}")
            params = {"service": f"{self.name}{n % self.services}", "config": {"n": n, "text": "x" * 1000}}
            command = self.caller.sign("set", params, jti=self.jtis[-1], lifetime_s=600)
            publish = self.caller.mqtt.publish(self.caller.topics.command("set"), command, qos=1, timeout=120)
            self._publishing.append(asyncio.create_task(publish))

    async def answer(self) -> None:
        """Wait for the reply to the first command that has none yet."""
        jti = self.jtis[len(self._results)]
        self._results.append((await self.caller.reply(self.caller.topics.reply("admin", jti))).result)

    async def check(self) -> None:
        """Every command is answered ok, every event arrives, and of every service the last update."""
        await asyncio.gather(*self._publishing)
        topics = self.caller.topics
        newest = Counter[str]()
        while len(self._results) < len(self.jtis):
            await self.answer()
        for result in self._results:
            assert result is not None
            newest[result["service"]] = max(newest[result["service"]], result["version"])
        assert newest.total() == len(self.jtis)  # none ran twice
        for service, version in newest.items():
            while json.loads(bytes((await self.caller.message(topics.updated(service))).payload))["version"] < version:
                pass
        missing = set(self.jtis)
        while missing:
            missing.discard((await self.caller.event(topics.audit("update_config"))).get("request_id"))


def followed(daemon: Daemon) -> tuple[str, str]:
    """Name what a caller follows to see updates and events."""
    return daemon.topics.all_updated, daemon.topics.audit("update_config")


@pytest.fixture
def healing() -> Iterator[ExitStack]:
    """Undo in the end what was done to a broker, whatever became of the test."""
    with ExitStack() as stack:
        yield stack


async def noticed(daemon: Daemon, keep_alive_s: int) -> None:
    """Wait until the daemon says that the broker is lost: within twice the keep-alive."""
    began = time.monotonic()
    await eventually(lambda: not daemon.ready(), "it is noticed", 2 * keep_alive_s + SLOW_MACHINE_S)
    assert json.loads(daemon.probe("/health")[1])["checks"]["broker"]["status"] == "fail"
    assert daemon.probe("/livez")[0] == 200
    assert time.monotonic() - began < 2 * keep_alive_s + SLOW_MACHINE_S


@pytest.mark.parametrize(
    ("keep_alive_s", "still_s"),
    [(2, 0), pytest.param(15, 60, marks=[pytest.mark.crash, pytest.mark.long])],
    ids=["short", "a minute"],
)
async def test_a_broker_that_stands_still(
    keep_alive_s: int, still_s: int, own_broker: Broker, new_daemon: NewDaemon, healing: ExitStack
) -> None:
    """It is noticed within twice the keep-alive, memory stays, and all that was under way or sent then is done once."""
    daemon = new_daemon(broker=own_broker, keep_alive_s=keep_alive_s)
    async with calling(daemon, None, *followed(daemon)) as admin:
        load = Load(admin, "s")
        load.send(300)
        await load.answer()
        before = resident_kib(daemon)
        began = time.monotonic()
        own_broker.pause()
        healing.callback(own_broker.resume)
        load.send(200)
        await noticed(daemon, keep_alive_s)
        await eventually(lambda: time.monotonic() >= began + still_s, "so long it stands still", still_s + 1)
        assert resident_kib(daemon) < before + MAX_GROWTH_KIB
        healing.close()
        await eventually(daemon.ready, "it is back", 40)
        load.send(50)
        await load.check()
        assert resident_kib(daemon) < before + MAX_GROWTH_KIB
    await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "all is announced")


async def test_a_connection_of_which_only_half_is_left(own_broker: Broker, new_daemon: NewDaemon) -> None:
    """Nothing comes and nothing goes, and nobody says so: noticed as fast, and what was sent meanwhile is done once."""
    keep_alive_s = 2
    daemon = new_daemon(broker=own_broker, keep_alive_s=keep_alive_s, start=False)
    async with proxied(own_broker, daemon) as proxy:
        daemon.start()
        await eventually(daemon.ready, "it is ready")
        async with calling(daemon, None, *followed(daemon)) as admin:
            load = Load(admin, "h")
            load.send(300)
            await load.answer()
            before = resident_kib(daemon)
            proxy.hang()
            load.send(200)
            await noticed(daemon, keep_alive_s)
            proxy.mend()
            await eventually(daemon.ready, "it is back", 40)
            await load.check()
            assert resident_kib(daemon) < before + MAX_GROWTH_KIB
