"""A bound config, as a service holds it: its value now, and its changes."""

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, Self, TypeVar

from pydantic import BaseModel

from setpoint_contracts.config import ConfigDocument, Difference

M = TypeVar("M", bound=BaseModel)
Source = Literal["live", "cache", "defaults"]
"""Where a value comes from: the daemon through the broker, the cache on disk, or the model's defaults."""


@dataclass(frozen=True, slots=True, repr=False)
class Change(Generic[M]):
    """A newer document of a bound service, and what became of it.

    ``old`` and ``new`` are values of the model; ``document`` is the newer one, a tombstone if ``document.deleted``;
    ``diff`` is what it changes against the one in force before (secrets as ``{"$secret": tag}``); ``source`` is where
    ``new`` comes from. When the document does not fit the model, ``error`` says why, and ``new`` is ``old``.
    ``repr`` shows no value of a config.
    """

    old: M
    new: M
    document: ConfigDocument
    diff: tuple[Difference, ...]
    source: Source
    error: str | None = None

    def __repr__(self) -> str:
        head = f"service={self.document.service!r}, version={self.document.version}, source={self.source!r}"
        return f"Change({head}, paths={[one.path for one in self.diff]}, error={self.error!r})"


class Hub(Generic[M]):
    """Hands changes to all that iterate over them."""

    def __init__(self) -> None:
        self._iterators: weakref.WeakSet[Changes[M]] = weakref.WeakSet()
        self._closed = False

    def new(self) -> "Changes[M]":
        """Make an iterator over the changes from now on."""
        iterator: Changes[M] = Changes(closed=self._closed)
        self._iterators.add(iterator)
        return iterator

    def tell(self, change: Change[M]) -> None:
        """Hand a change to all of them."""
        for iterator in [*self._iterators]:
            iterator.add(change)

    def close(self) -> None:
        """End them, behind the changes that they have."""
        self._closed = True
        for iterator in [*self._iterators]:
            iterator.close()


class Live(Generic[M]):
    """The config of a bound service. ``Client.bind`` makes it, and keeps it up to date until its client is closed.

    ``value`` is an instance of the model: frozen, and swapped as a whole, so reading it is reading an attribute, and
    what was read stays consistent. All attributes are for reading.
    """

    def __init__(
        self, service: str, value: M, *, hub: Hub[M], is_current: Callable[[], bool], leave: Callable[[], None]
    ) -> None:
        self.service = service
        self.value: M = value
        """The config, as an instance of the model; ``repr`` masks what is a secret."""
        self.source: Source = "defaults"
        """Where the value comes from: ``live``, ``cache`` or ``defaults``."""
        self.document: ConfigDocument | None = None
        """The document of the value, secrets as ``{"$secret": tag}``; of a deleted service its tombstone."""
        self.error: str | None = None
        """Why the newest document was not applied, without its values; None: it was, or none came yet."""
        self.missing: tuple[str, ...] = ()
        """JSON Pointers of secrets that the client may not see: the model's defaults stand there."""
        self.refused: str | None = None
        """Why the cache on disk, or a part of it, was not believed at the start; None: it was, or there was none."""
        self.waits_for_secrets = False
        """Whether a newer document has come, and the secrets in it could not be asked for yet."""
        self._hub, self._is_current, self._leave = hub, is_current, leave

    @property
    def version(self) -> int:
        """The version of the document; 0 when there is none, and the value is the model's defaults."""
        return 0 if self.document is None else self.document.version

    @property
    def stale(self) -> bool:
        """Whether the newest config may be another one.

        True without a connection, while nothing of the service has come since it was made, when the newest document
        was rejected or waits for its secrets, and after ``aclose``.
        """
        return self.error is not None or self.waits_for_secrets or not self._is_current()

    def changes(self) -> "Changes[M]":
        """Iterate over the changes from now on, each of them: ``async for change in live.changes()``."""
        return self._hub.new()

    async def aclose(self) -> None:
        """Follow the service no more; the value stays, and iterators of changes end."""
        self._leave()

    def __repr__(self) -> str:
        state = f"version={self.version}, source={self.source!r}, stale={self.stale}"
        return f"Live(service={self.service!r}, {state}, error={self.error!r}, missing={[*self.missing]})"


class Changes(Generic[M]):
    """An async iterator over the changes of a bound config from its making on; it ends with the binding."""

    def __init__(self, *, closed: bool = False) -> None:
        self._unread: deque[Change[M]] = deque()
        self._news = asyncio.Event()
        self._closed = closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change[M]:
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._unread.popleft()

    async def aclose(self) -> None:
        """Iterate no more."""
        self.close()

    def add(self, change: Change[M]) -> None:
        """Hand over a change."""
        if not self._closed:
            self._unread.append(change)
            self._news.set()

    def close(self) -> None:
        """Let it end behind the changes that it has."""
        self._closed = True
        self._news.set()
