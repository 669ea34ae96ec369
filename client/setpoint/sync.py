"""The client for code without asyncio: the same names, and every call waits for its answer.

One thread in the background has the connection; a client may be used from several threads at once.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from setpoint.client import Client as AsyncClient
from setpoint.client import Config
from setpoint.errors import ConfigurationError
from setpoint.params import Params
from setpoint.requests import SignedCommand
from setpoint.sync_commands import SyncCommands
from setpoint_contracts import Token
from setpoint_contracts.access import NewToken
from setpoint_contracts.applied import ReportedInstance
from setpoint_contracts.config import WriteResult

T = TypeVar("T")

_END_S = 10.0


class Client(SyncCommands):
    """A connection to a Setpoint daemon, for as long as ``with`` holds it. Arguments as of ``setpoint.Client``."""

    def __init__(self, url: str | None = None, token: Any = None, **more: Any) -> None:
        self._client = AsyncClient(url, token, **more)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._loop is not None:
            raise ConfigurationError("this client is open already; make another one")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="setpoint", daemon=True)
        self._thread.start()
        self._wait(self._client.__aenter__())
        return self

    def __exit__(self, *exc_info: object) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        try:
            self._wait(self._client.__aexit__(*exc_info))
        finally:
            self._loop = self._thread = None
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_END_S)
            if not thread.is_alive():
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

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

    def update(self, service: str, change: Callable[[Config], Config | None], **more: Any) -> WriteResult:
        """Read a config, change it, and write it if nobody was faster; else again. As ``setpoint.Client.update``.

        ``change`` runs in the client's own thread and must not call the client.
        """
        return self._wait(self._client.update(service, change, **more))

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

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise ConfigurationError("the client is not open: use it within `with Client(…) as client:`")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits for it any more
            raise
