"""Documents that count, where they come from, and who is told of them."""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

from setpoint.cache import Kept
from setpoint.follower import Json, Order
from setpoint.patterns import is_glob
from setpoint_contracts.config import ConfigDocument

_MEMBERS = frozenset({"service", "version", "revision", "epoch", "updated_at", "updated_by", "config", "deleted"})


@dataclass(frozen=True, slots=True)
class Taken:
    """A document that counts, tombstones too. ``kept``: as it came on its topic; None when it came in a reply."""

    document: ConfigDocument
    kept: Kept | None

    @property
    def order(self) -> Order:
        """By this the newer of two is known."""
        return self.document.epoch, self.document.revision


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the cache holds of a service, as far as it is believed; ``refused`` says why something is not."""

    newest: Taken | None = None
    good: Taken | None = None
    refused: str | None = None


class Sink(Protocol):
    """Who is told of documents. ``whole``: they are to be kept as they are, for a start without the broker."""

    whole: bool

    def take(self, taken: Taken) -> None:
        """Take a document; one that is not newer than the last one is no news. Must not raise."""

    def close(self) -> None:
        """Nothing comes any more."""


class Sinks:
    """All who are told, by what they follow: ``exact`` names and ``globs``."""

    def __init__(self) -> None:
        self.exact: defaultdict[str, list[Sink]] = defaultdict(list)
        self.globs: defaultdict[str, list[Sink]] = defaultdict(list)

    def add(self, pattern: str, sink: Sink) -> None:
        """Tell somebody of what a pattern matches."""
        self._of_kind(pattern)[pattern].append(sink)

    def remove(self, pattern: str, sink: Sink) -> bool:
        """Tell somebody no more; whether he was told."""
        sinks = self._of_kind(pattern)
        if sink not in sinks.get(pattern, ()):
            return False
        sinks[pattern].remove(sink)
        if not sinks[pattern]:
            del sinks[pattern]
        return True

    def of(self, service: str) -> Iterator[Sink]:
        """Go through all who follow a service."""
        yield from self.exact.get(service, ())
        for pattern, sinks in self.globs.items():
            if fnmatchcase(service, pattern):
                yield from sinks

    def has(self, service: str) -> bool:
        """Whether anybody follows a service."""
        return any(True for _ in self.of(service))

    def are_whole(self, service: str) -> bool:
        """Whether anybody follows a service whose documents are to be kept as they are."""
        return any(sink.whole for sink in self.of(service))

    def close(self) -> None:
        """Nothing comes any more, to any of them."""
        for sinks in [*self.exact.values(), *self.globs.values()]:
            for sink in sinks:
                sink.close()

    def _of_kind(self, pattern: str) -> defaultdict[str, list[Sink]]:
        return self.globs if is_glob(pattern) else self.exact


class Feed(Protocol):
    """Where documents come from: a broker (``setpoint.following``), or memory (``setpoint.testing``)."""

    def follow(self, pattern: str, sink: Sink) -> None:
        """Tell somebody of a service, or of all that a glob matches: first what is held, then what is newer."""

    def unfollow(self, pattern: str, sink: Sink) -> None:
        """Tell somebody no more. From any thread; no effect when he is not told, or when all is over."""

    async def load(self, service: str) -> Loaded:
        """Read what is kept of a service from an earlier life."""

    def remember_good(self, taken: Taken, secrets: str | None) -> None:
        """Keep a document as the last good one, with its secrets as they are sealed for the cache."""

    async def ask(self, service: str) -> bool:
        """Ask the daemon for the newest document of a service; whether it said that there never was one."""

    async def wait_connected(self) -> None:
        """Wait for a connection on which all is subscribed to that is followed."""

    async def is_reached_soon(self) -> bool:
        """Whether there is a connection, or will be in a moment."""

    def is_current(self, service: str) -> bool:
        """Whether there is a connection, and something of the service came since it was made, or is said not to be."""

    def why_nothing(self, service: str) -> str:
        """Why nothing of a service was taken, in words."""

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something until it is done, or until the client is closed."""


def document_of(held: Json) -> ConfigDocument:
    """Make the model of what the rules of a follower have let through; other members mean nothing to them."""
    members: dict[str, Any] = {"updated_at": None, "updated_by": None}
    members.update((name, member) for name, member in held.items() if name in _MEMBERS)
    return ConfigDocument.model_construct(**members)
