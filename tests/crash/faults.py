"""What can happen to the daemon and its broker, one thing after the other, at random moments.

Each fault is a way to hurt and a way to heal; in between it lasts a random while, at most ``LONGEST_S``. The next one
comes only when the daemon is ready again and some more operations have been begun.
"""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from typing import NamedTuple

from tests.brokers import Broker
from tests.crash.history import History
from tests.daemon import Daemon
from tests.waiting import eventually

LONGEST_S = 2.0
GO_ON_S = 40.0


class Fault(NamedTuple):
    """How it comes and how it goes; both may block."""

    hurt: Callable[[], object]
    heal: Callable[[], object]


class Faults:
    """Brings them about for one daemon and its own broker."""

    def __init__(self, daemon: Daemon, broker: Broker, chance: random.Random) -> None:
        self._daemon = daemon
        self._broker = broker
        self._chance = chance
        self.kinds = {
            "daemon killed": Fault(daemon.kill, daemon.start),
            "daemon stopped": Fault(self._stop_daemon, daemon.start),
            "daemon paused": Fault(lambda: self._signal(signal.SIGSTOP), lambda: self._signal(signal.SIGCONT)),
            "broker killed": Fault(broker.kill, broker.start),
            "broker stopped": Fault(broker.stop, broker.start),
            "broker paused": Fault(broker.pause, broker.resume),
            "power cut": Fault(self._kill_both, self._start_both),
        }

    async def run(self, history: History, gap: int, at_most: int, more: Callable[[], bool]) -> None:
        """Bring faults about while there is ``more``, each after up to ``gap`` further operations."""
        while more() and len(history.faults) < at_most:
            await _go_on(history, self._chance.randint(1, gap), more)
            if more():
                await self._inject(history)

    async def _inject(self, history: History) -> None:
        kind = self._chance.choice(sorted(self.kinds))
        fault = self.kinds[kind]
        history.faults.append(kind)
        try:
            await asyncio.to_thread(fault.hurt)
            await asyncio.sleep(self._chance.uniform(0, LONGEST_S))  # that long it lasts: nothing is waited for
        finally:
            await asyncio.to_thread(fault.heal)
        await asyncio.to_thread(self._daemon.wait_ready)

    def _stop_daemon(self) -> None:
        assert self._daemon.stop() == 0

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self._daemon.pid, number)

    def _kill_both(self) -> None:
        self._broker.kill()
        self._daemon.kill()

    def _start_both(self) -> None:
        self._broker.start()
        self._daemon.start()


async def _go_on(history: History, operations: int, more: Callable[[], bool]) -> None:
    """Wait until so many further operations were begun."""
    wanted = len(history.operations) + operations
    await eventually(lambda: len(history.operations) >= wanted or not more(), "callers go on", GO_ON_S)
