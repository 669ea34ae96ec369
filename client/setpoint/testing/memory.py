"""A client whose configs are in memory: for tests of a service that are to need no broker."""

import asyncio
from collections.abc import Mapping
from typing import Any, Self

from setpoint.commands import Commands
from setpoint.params import ConfigLike, Params, plain
from setpoint.testing.memory_store import MemoryStore


class MemoryClient(Commands):
    """The commands on configs and their past, ``bind`` and ``watch``, without a broker and a daemon.

    ``configs`` is what is there at first. Another command raises ``UnknownCommand``: test what needs it with
    ``setpoint.testing.plugin``.
    """

    def __init__(self, configs: Mapping[str, ConfigLike] | None = None, *, principal: str = "test") -> None:
        self._store = MemoryStore(principal, self._publish)
        for service, config in (configs or {}).items():
            self._store.answer("set", {"service": service, "config": plain(config)})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def call(self, command: str, params: Params | None = None, *, timeout: float | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Answer a command; the ``result``. Raises the ``SetpointError`` of its code."""
        await asyncio.sleep(0)  # as over a network, others come to run
        return self._store.answer(command, params or {})

    def _publish(self, document: dict[str, Any]) -> None:
        pass
