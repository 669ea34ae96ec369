"""The client for code without asyncio: the same names, and every call waits for its answer.

One thread in the background has the connection; a client may be used from several threads at once, but not from a
signal handler, and not in a process that was forked after it was opened.
"""

import asyncio
import concurrent.futures
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel

from setpoint.client import Client as AsyncClient
from setpoint.client import Config
from setpoint.errors import ConfigurationError
from setpoint.live import Change, Source
from setpoint.live import Live as AsyncLive
from setpoint.params import Params
from setpoint.settings import DEFAULT_TIMEOUT_S, Keys
from setpoint.signed import SignedCommand
from setpoint.sync_commands import SyncCommands
from setpoint.updating import Change as UpdateChange
from setpoint_contracts import Token
from setpoint_contracts.access import NewToken
from setpoint_contracts.applied import ReportedInstance
from setpoint_contracts.config import ConfigDocument, WriteResult

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class Client(SyncCommands):
    """A connection to a Setpoint daemon, for as long as ``with`` holds it. Arguments as of ``setpoint.Client``."""

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        url: str | None = None,
        token: str | os.PathLike[str] | Token | None = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        instance: str | None = None,
        keys: Keys | None = None,
        topic_prefix: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
        queue_offline: bool = False,
    ) -> None:
        self._client = AsyncClient(
            url,
            token,
            cache_dir=cache_dir,
            instance=instance,
            keys=keys,
            topic_prefix=topic_prefix,
            timeout=timeout,
            tls=tls,
            queue_offline=queue_offline,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._loop is not None:
            raise ConfigurationError("this client is open already; make another one")
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="setpoint", daemon=True)
        self._thread.start()
        try:
            self._wait(self._client.__aenter__())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:  # from here on nobody begins anything
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None or self._pid != os.getpid():
            return
        try:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    async def _end(self) -> None:
        await self._client.__aexit__()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the broker at this moment."""
        return self._client.is_connected

    @property
    def principal(self) -> str | None:
        """The name that its token speaks for; None without a token."""
        return self._client.principal

    def call(self, command: str, params: Params | None = None, *, timeout: float | None = None) -> Config:
        """Send any command by its name; the ``result`` of its reply. Raises the ``SetpointError`` of its code."""
        return self._wait(self._client.call(command, params, timeout=timeout))

    def resend(self, command: SignedCommand, *, timeout: float | None = None) -> Config:
        """Send a command's same bytes again; it takes effect once at most."""
        return self._wait(self._client.resend(command, timeout=timeout))

    def update(
        self,
        service: str,
        change: UpdateChange,
        *,
        reason: str | None = None,
        attempts: int = 10,
        timeout: float | None = None,
    ) -> WriteResult:
        """Read a config, change it, and write it if nobody was faster; else again. As ``setpoint.Client.update``.

        ``change`` runs in the client's own thread and must not call the client.
        """
        return self._wait(self._client.update(service, change, reason=reason, attempts=attempts, timeout=timeout))

    def reveal(self, service: str, *, version: int | None = None, timeout: float | None = None) -> Config:
        """Read the values of a service's secrets: JSON Pointer into the config to value."""
        return self._wait(self._client.reveal(service, version=version, timeout=timeout))

    def open_token(self, made: NewToken) -> Token:
        """Open the HS256 token that ``token_create`` or ``token_rotate`` gave."""
        return self._client.open_token(made)

    def wait_applied(
        self, service: str, version: int, *, share: float = 1.0, timeout: float = 30.0
    ) -> list[ReportedInstance]:
        """Wait until instances of a service report that they run at least a version. Raises ``NotApplied``."""
        return self._wait(self._client.wait_applied(service, version, share=share, timeout=timeout))

    def bind(
        self,
        service: str,
        model: type[M],
        *,
        timeout: float = 5.0,
        defaults: M | None = None,
        report: bool = True,
    ) -> "Live[M]":
        """Have the config of a service as an instance of its model, and follow it. As ``setpoint.Client.bind``."""
        bound = self._client.bind(service, model, timeout=timeout, defaults=defaults, report=report)
        return Live(self._wait(bound), self._wait)

    def watch(self, pattern: str) -> Iterator[ConfigDocument]:
        """Iterate over the documents of a service, or of all that a glob matches; it waits for each.

        It ends when the client is closed. As ``setpoint.Client.watch``.
        """
        return _Waiting(self._wait(self._watch(pattern)), self._wait)

    async def _watch(self, pattern: str) -> AsyncIterator[ConfigDocument]:
        return self._client.watch(pattern)  # in the event loop, to which it belongs

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            future = asyncio.run_coroutine_threadsafe(work, self._usable_loop(work))
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _NotOpenError("the client was closed before an answer came") from None
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    def _usable_loop(self, work: Coroutine[Any, Any, Any]) -> asyncio.AbstractEventLoop:
        """Return the event loop, if who calls can wait for it; else give the work up."""
        loop: asyncio.AbstractEventLoop | None = self._loop
        error: type[ConfigurationError] = _NotOpenError
        text = "the client is not open: use it within `with Client(…) as client:`"
        if loop is not None and self._pid != os.getpid():
            loop, text = None, "the client was opened before this process was forked: open another one here"
        elif loop is not None and threading.current_thread() is self._thread:
            loop, error = None, ConfigurationError
            text = "this is called in the client's own thread, which would wait for itself"
        if loop is None:
            work.close()
            raise error(text)
        return loop


class _NotOpenError(ConfigurationError):
    """The client is not open, or not any more."""


Wait = Callable[[Coroutine[Any, Any, Any]], Any]


class _Waiting(Iterator[T]):
    """An iterator that waits for what an asynchronous one gives."""

    def __init__(self, source: AsyncIterator[T], wait: Wait) -> None:
        self._source, self._wait = source, wait

    def __next__(self) -> T:
        try:
            found: list[T] = self._wait(_next(self._source))
        except _NotOpenError:
            found = []
        if not found:
            raise StopIteration
        return found[0]


async def _next(source: AsyncIterator[T]) -> list[T]:
    """Return the next one in a list; an empty list at the end, as an exception would not get through."""
    async for item in source:
        return [item]
    return []


class Live(Generic[M]):
    """The config of a bound service; reading it asks nobody. As ``setpoint.Live``."""

    def __init__(self, live: AsyncLive[M], wait: Wait) -> None:
        self._live, self._wait = live, wait

    @property
    def value(self) -> M:
        """The config, as an instance of the model: frozen, and swapped as a whole."""
        return self._live.value

    @property
    def source(self) -> Source:
        """Where the value comes from: ``live``, ``cache`` or ``defaults``."""
        return self._live.source

    @property
    def document(self) -> ConfigDocument | None:
        """The document of the value; None when there is none."""
        return self._live.document

    @property
    def version(self) -> int:
        """The version of the document; 0 when there is none."""
        return self._live.version

    @property
    def stale(self) -> bool:
        """Whether the newest config may be another one."""
        return self._live.stale

    @property
    def error(self) -> str | None:
        """Why the newest document was not applied; None: it was, or none came yet."""
        return self._live.error

    @property
    def missing(self) -> tuple[str, ...]:
        """JSON Pointers of secrets that the client may not see."""
        return self._live.missing

    @property
    def refused(self) -> str | None:
        """Why the cache on disk was not believed at the start; None: it was, or there was none."""
        return self._live.refused

    def changes(self) -> Iterator[Change[M]]:
        """Iterate over the changes from now on; it waits for each, and ends when the client is closed."""
        return _Waiting(self._wait(_changes(self._live)), self._wait)

    def close(self) -> None:
        """Follow the service no more; the value stays."""
        self._wait(self._live.aclose())

    def __repr__(self) -> str:
        return repr(self._live)


async def _changes(live: AsyncLive[M]) -> AsyncIterator[Change[M]]:
    return live.changes()  # in the event loop, to which it belongs
