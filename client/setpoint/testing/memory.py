"""A client whose configs are in memory: for tests of a service that are to need no broker."""

import asyncio
from collections.abc import Coroutine, Mapping
from fnmatch import fnmatchcase
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from setpoint.binding import Binding
from setpoint.commands import Commands
from setpoint.errors import ConfigurationError
from setpoint.live import Live
from setpoint.params import ConfigLike, Params, plain
from setpoint.patterns import check_service
from setpoint.revealing import Secrets
from setpoint.taken import Loaded, Sink, Taken, document_of
from setpoint.testing.memory_store import MemoryStore
from setpoint.updating import Change, update
from setpoint.watching import Watch
from setpoint_contracts.config import WriteResult

M = TypeVar("M", bound=BaseModel)


class MemoryClient(Commands):
    """A client without a broker and a daemon; ``configs`` is what is there at first.

    It has ``get``, ``list``, ``services``, ``search``, ``set``, ``patch``, ``delete``, ``apply``, ``diff``,
    ``versions``, ``info``, ``update``, ``bind`` and ``watch``. Another command raises ``UnknownCommand``: test what
    needs it with ``setpoint.testing.plugin``.
    """

    def __init__(self, configs: Mapping[str, ConfigLike] | None = None, *, principal: str = "test") -> None:
        self.principal = principal
        self._feed: _Feed | None = None
        self._store = MemoryStore(principal, self._publish)
        for service, config in (configs or {}).items():
            self._store.answer("set", {"service": service, "config": plain(config)})

    async def __aenter__(self) -> Self:
        self._feed = _Feed(self._store)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            await feed.close()

    @property
    def is_connected(self) -> bool:
        """Whether it is open."""
        return self._feed is not None

    async def call(self, command: str, params: Params | None = None, *, timeout: float | None = None) -> dict[str, Any]:  # noqa: ARG002 - nothing takes time
        """Answer a command; the ``result``. Raises the ``SetpointError`` of its code."""
        await asyncio.sleep(0)  # as over a network, others come to run
        return self._store.answer(command, params or {})

    async def update(
        self,
        service: str,
        change: Change,
        *,
        reason: str | None = None,
        attempts: int = 10,
        timeout: float | None = None,
    ) -> WriteResult:
        """Read, change and write a config, as ``setpoint.Client.update``."""
        return await update(self, service, change, reason=reason, attempts=attempts, timeout=timeout)

    async def bind(
        self,
        service: str,
        model: type[M],
        *,
        timeout: float = 5.0,
        defaults: M | None = None,
        report: bool = True,  # noqa: ARG002 - there is nobody to report to
    ) -> Live[M]:
        """Have a config as an instance of its model, and follow it, as ``setpoint.Client.bind``; without reports."""
        check_service(service)
        secrets = Secrets(service, None, None)
        binding = Binding(self._opened(), service, model, defaults=defaults, secrets=secrets, reporter=None)
        return await binding.start(timeout)

    def watch(self, pattern: str) -> Watch:
        """Iterate over the documents of a service, or of all that a glob matches, as ``setpoint.Client.watch``."""
        return Watch(self._opened(), pattern)

    def _opened(self) -> "_Feed":
        if self._feed is None:
            raise ConfigurationError("the client is not open: use it within `async with MemoryClient(…) as client:`")
        return self._feed

    def _publish(self, document: dict[str, Any]) -> None:
        if self._feed is not None:
            self._feed.publish(document)


class _Feed:
    """The documents of a store, to those who follow."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._sinks: list[tuple[str, Sink]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def publish(self, document: dict[str, Any]) -> None:
        taken = Taken(document_of(document), None)
        for pattern, sink in [*self._sinks]:
            if fnmatchcase(taken.document.service, pattern):
                sink.take(taken)

    def follow(self, pattern: str, sink: Sink) -> None:
        if self._closed:
            sink.close()
            return
        self._sinks.append((pattern, sink))
        for service, versions in self._store.services.items():
            if fnmatchcase(service, pattern):
                sink.take(Taken(document_of(self._store.document(service, versions[-1])), None))

    def unfollow(self, pattern: str, sink: Sink) -> None:
        if (pattern, sink) in self._sinks:
            self._sinks.remove((pattern, sink))

    async def load(self, service: str) -> Loaded:  # noqa: ARG002 - nothing is kept
        return Loaded()

    def remember_good(self, taken: Taken, secrets: str | None) -> None:
        pass

    def why_nothing(self, service: str) -> str:  # noqa: ARG002 - as a feed has it
        return "nothing is published of it"

    async def ask(self, service: str) -> bool:
        return self._store.newest(service) is None

    async def wait_connected(self) -> None:
        pass

    async def is_reached_soon(self) -> bool:
        return True

    def is_current(self, service: str) -> bool:  # noqa: ARG002 - as a feed has it
        return True

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        self._closed = True
        for _, sink in [*self._sinks]:
            sink.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
