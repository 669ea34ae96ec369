"""From the connection to those who watch and bind: what comes is judged, kept, and then acted on.

Rules:

- A document counts by contracts/following.md, and is on disk before anybody is told of it. What waits is written as one
  batch, in a thread; of one service only the newest.
- Documents are subscribed to once there is a key to check them with: they are retained.
- Nobody is told of a document that is older than what he was told of. The same one may be told twice.
- After a connect, of a service that is held and of which nothing has come, the daemon is asked: its tombstone may have
  been cleared meanwhile.
- What is ignored is logged once for each topic and reason while a connection lasts.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar

from setpoint.cache import Cache, Entry, Kept, RefusedError
from setpoint.errors import ConfigurationError, NotFound, SetpointError
from setpoint.follower import Follower, Order, order_of
from setpoint.link import Link, Received
from setpoint.patterns import is_glob
from setpoint.revealing import Call
from setpoint.taken import Loaded, Sink, Taken, document_of
from setpoint.trust import Jwk, Trust
from setpoint_contracts import Topics

logger = logging.getLogger("setpoint")

T = TypeVar("T")
Answer = Literal["never", "silence", "answer"]
"""Of the daemon to the question for a service: there never was one; none, but it may come later; anything else."""

_SILENCE_S, _LONGEST_SILENCE_S = 2.0, 60.0
_REFUSED_S, _AWAY_S = 0.3, 0.8
_MOST_TOLD = 1000
_WHY = {
    "unsigned": "it is not signed",
    "bad_signature": "no key that is pinned here signed it",
    "bad_document": "it is no document of that service",
    "older": "it is older than what was taken before",
    "other_key": "another key signed it than is pinned here; if the daemon has a new store, pin its new key",
}


class Following:
    """What one client follows. ``call`` sends a command; None for a client without a token."""

    def __init__(self, link: Link, topics: Topics, cache: Cache, keys: Sequence[Jwk] | None, call: Call | None) -> None:
        self._link, self._topics, self._cache, self.call = link, topics, cache, call
        self.trust = Trust(keys or (), self._pin)
        if len(self.trust.pinned) != len(keys or ()):
            raise ConfigurationError("the keys are not all public Ed25519 JWKs with a kid")
        self._follower = Follower(self.trust, topics)
        self._loop = asyncio.get_running_loop()
        self._exact: defaultdict[str, list[Sink]] = defaultdict(list)
        self._globs: defaultdict[str, list[Sink]] = defaultdict(list)
        self._told_of: dict[str, Taken] = {}  # what those who follow know
        self._loaded: dict[str, Taken] = {}  # what the cache had, until the broker has it too
        self._waiting: dict[str, tuple[Taken, int | None]] = {}  # what is to be written, and when it was heard
        self._writing: dict[str, tuple[Taken, int | None]] = {}
        self._whole: dict[str, Order] = {}  # which documents are on disk as they are
        self._good: dict[str, Taken] = {}
        self._work = asyncio.Event()
        self._away_since = self._loop.time()
        self._connection = 0
        self._heard: dict[str, int] = {}  # in which connection something of a service came last
        self._without_key: list[str] = []
        self._ignored: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._disk_fails = False

    # Its life

    async def open(self) -> None:
        """Read what was pinned and seen, and begin; call it before the link runs."""
        if not self.trust.pinned:
            self.trust.believe(await self._read(self._cache.keys, []))
        self._follower.seen = await self._read(self._cache.seen, {})
        self.trust.on_pinned(self._subscribe_at_last)
        self._link.on_message(self._topics.keys, self._take)
        self._link.on_message(self._topics.all_updated, self._take)
        self._link.on_connected(self._begin_connection)
        self._link.on_lost(self._end_connection)
        await self._link.subscribe(self._topics.keys)
        self.start(self._keep(), "setpoint cache")

    async def close(self) -> None:
        """End all that follows."""
        for sinks in [*self._exact.values(), *self._globs.values()]:
            for sink in sinks:
                sink.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something until it is done, or until the client is closed."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Who follows

    def follow(self, pattern: str, sink: Sink) -> None:
        """Tell somebody of a service, or of all that a glob matches: first what is held, then what is newer."""
        self._of(pattern)[pattern].append(sink)
        for service, taken in [*self._told_of.items()]:
            if fnmatchcase(service, pattern):
                sink.take(taken)
                if sink.whole and self._whole.get(service) != taken.order:
                    self._enqueue(taken, None)
        topic = self._filter(pattern)
        if self.trust.pinned:
            self.start(self._link.subscribe(topic), "setpoint follow")
        else:
            self._without_key.append(topic)

    def unfollow(self, pattern: str, sink: Sink) -> None:
        """Tell somebody no more. From any thread; no effect when he is not told, or when all is over."""
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._unfollow, pattern, sink)

    def _unfollow(self, pattern: str, sink: Sink) -> None:
        sinks = self._of(pattern)
        if sink not in sinks.get(pattern, ()):
            return
        sinks[pattern].remove(sink)
        if not sinks[pattern]:
            del sinks[pattern]
        for service in [service for service in self._told_of if not any(self._sinks(service))]:
            del self._told_of[service]  # what is newer of it does not come any more
        topic = self._filter(pattern)
        if topic in self._without_key:
            self._without_key.remove(topic)
        else:
            self.start(self._link.unsubscribe(topic), "setpoint unfollow")

    async def wait_connected(self) -> None:
        """Wait for a connection on which all is subscribed to that is followed."""
        await self._link.wait_connected()

    async def is_reached_soon(self) -> bool:
        """Whether there is a connection, or comes one within a moment of its loss or of the opening of the client.

        Where it is refused, e.g. since no broker runs, that moment is shorter than where nothing answers.
        """
        for patience_s in (_REFUSED_S, _AWAY_S):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._away_since + patience_s):
                    await self._link.wait_connected()
            if self._link.is_connected or self._link.last_error is not None:
                break
        return self._link.is_connected

    def why_nothing(self, service: str) -> str:
        """Why nothing of a service was taken, in words."""
        if not self._link.is_connected:
            return f"there is no connection to the broker ({self._link.last_error or 'it does not answer'})"
        if not self.trust.pinned:
            return "the broker has no key of a daemon to check documents with: has the daemon ever run there?"
        ignored = [outcome for topic, outcome in self._ignored if topic == self._topics.updated(service)]
        return f"what came was ignored: {_WHY[ignored[0]]}" if ignored else "nothing is published of it"

    def is_current(self, service: str) -> bool:
        """Whether there is a connection, and something of the service came since it was made."""
        return self._link.is_connected and self._heard.get(service) == self._connection

    async def load(self, service: str) -> Loaded:
        """Read what the cache has of a service, and judge it as what comes from the broker."""
        try:
            found = await asyncio.to_thread(self._cache.read, service)
        except RefusedError as error:
            return _refused(str(error))
        if found is None:
            return Loaded()
        if found[0].topic != self._topics.updated(service):
            return _refused(f"the cached document of {service}: it is another service's")
        newest, good = (None if kept is None else self._judge(kept) for kept in found)
        if newest is None or newest.kept is None:
            why = "no key that is pinned here signed it" if self.trust.pinned else "there is no key to check it with"
            return _refused(f"the cached document of {service}: {why}")
        if newest.order < self._follower.seen.get(service, newest.order):
            return _refused(f"the cached document of {service}: it is older than one that was seen")
        if self._follower.take(newest.kept.topic, newest.kept.payload, newest.kept.jws) == "taken":
            self._loaded[service] = newest
            self._whole[service] = newest.order
        return Loaded(newest, good)

    def remember_good(self, taken: Taken, secrets: str | None) -> None:
        """Keep a document beside newer ones as the last good one, with its secrets as they are sealed for the cache."""
        if taken.kept is None:
            return
        service, kept = taken.document.service, Kept(taken.kept.topic, taken.kept.payload, taken.kept.jws, secrets)
        self._good[service] = Taken(taken.document, kept)
        if secrets is not None and taken.kept.secrets != secrets and self._follower.order(service) == taken.order:
            self._enqueue(self._good[service], None)

    async def ask(self, service: str) -> bool:
        """Ask the daemon for the newest document of a service; whether it says that there never was one.

        What it has is judged as what comes from the broker.
        """
        return await self._ask(service) == "never"

    async def _ask(self, service: str) -> Answer:
        if self.call is None:
            return "answer"
        try:
            document: Any = await self.call("get", {"service": service})
        except NotFound as error:
            if (document := error.details.get("current")) is None:
                if service not in self._follower.holds:
                    self._heard[service] = self._connection
                return "never"
        except SetpointError as error:
            logger.info("cannot ask for %s after a silence: %s", service, error)
            return "silence" if error.retryable else "answer"
        outcome = self._follower.take_reply_document(document)
        if outcome == "taken":
            self._enqueue(Taken(document_of(document), None), self._connection)
        elif outcome == "same":
            self._confirm(service, None)
        return "answer"

    # What comes

    def _take(self, received: Received) -> None:
        outcome = self._follower.take(received.topic, received.payload, received.jws)
        service = self._topics.updated_service(received.topic) or ""
        if outcome == "taken":
            self._enqueue(Taken(document_of(self._follower.holds[service]), _kept(received)), self._connection)
        elif outcome == "same":
            self._confirm(service, received)
        elif outcome in _WHY:
            self._tell(received.topic, outcome)

    def _enqueue(self, taken: Taken, heard: int | None) -> None:
        service = taken.document.service
        if heard is None and service in self._waiting:
            heard = self._waiting[service][1]
        self._waiting[service] = taken, heard
        self._work.set()

    def _confirm(self, service: str, received: Received | None) -> None:
        """Act on hearing again what is held: it is current, be it from the cache or told of already."""
        held = self._follower.holds[service]
        for batch in (self._waiting, self._writing):
            if service in batch:  # it is told of when it is on disk
                batch[service] = batch[service][0], self._connection
                return
        if order_of(held) != self._follower.order(service):
            return  # another process has taken a newer one
        kept = None if received is None else _kept(received)
        taken = self._told_of.get(service) or self._loaded.get(service) or Taken(document_of(held), kept)
        if taken.kept is None and kept is not None:  # it came in a reply; now it can be kept as it is
            self._enqueue(Taken(taken.document, kept), self._connection)
        else:
            self._tell_of(taken, self._connection)

    def _tell_of(self, taken: Taken, heard: int | None) -> None:
        service = taken.document.service
        if heard is not None:
            self._heard[service] = heard
        self._loaded.pop(service, None)
        sinks = [*self._sinks(service)]
        if sinks:
            self._told_of[service] = taken
        for sink in sinks:
            sink.take(taken)

    async def _keep(self) -> None:
        """Write what was taken, and then tell of it."""
        while True:
            await self._work.wait()
            self._work.clear()
            self._writing, self._waiting = self._waiting, {}
            newer = await self._write([self._entry(taken) for taken, _ in self._writing.values()])
            self._follower.seen.update(newer)
            written, self._writing = self._writing, {}
            for service, (taken, heard) in written.items():
                if service not in newer:
                    self._tell_of(taken, heard)

    def _entry(self, taken: Taken) -> Entry:
        service = taken.document.service
        if taken.kept is None or not any(sink.whole for sink in self._sinks(service)):
            return Entry(service, taken.order)
        self._whole[service] = taken.order
        good = self._good.get(service)
        return Entry(service, taken.order, taken.kept, good.kept if good else None)

    async def _write(self, entries: list[Entry]) -> dict[str, Order]:
        try:
            newer = await asyncio.to_thread(self._cache.keep, entries)
        except OSError as error:
            # Who cannot keep what he took goes on: a full card must not keep a service from its config.
            if not self._disk_fails:
                logger.warning("the cache %s cannot be written: %s", self._cache.directory, error.strerror or error)
            self._disk_fails = True
            for entry in entries:
                self._whole.pop(entry.service, None)
            return {}
        self._disk_fails = False
        return newer

    def _pin(self, keys: list[Jwk]) -> list[Jwk]:
        try:
            pinned = self._cache.pin(keys)
        except OSError as error:
            logger.warning("the pinned key cannot be kept in %s: %s", self._cache.directory, error.strerror or error)
            return keys
        logger.info("pinned the key %s of the daemon", ", ".join(str(jwk["kid"]) for jwk in pinned))
        return pinned

    async def _read(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return await asyncio.to_thread(read)
        except RefusedError as error:
            logger.warning("the cache is not believed: %s", error)
            return otherwise

    # Connections

    def _begin_connection(self) -> None:
        if self.call is not None:
            self._asking = self.start(self._ask_about_the_silent(), "setpoint ask")

    def _end_connection(self) -> None:
        self._connection += 1
        self._away_since = self._loop.time()
        self._ignored.clear()
        if self._asking is not None:
            self._asking.cancel()

    async def _ask_about_the_silent(self) -> None:
        pause, answered = _SILENCE_S, set[str]()
        while True:
            await asyncio.sleep(pause)
            silent = [service for service in self._followed() if self._is_silent(service) and service not in answered]
            if not silent:
                return
            for service in silent:
                if await self._ask(service) != "silence":
                    answered.add(service)
            pause = min(2 * pause, _LONGEST_SILENCE_S)

    def _followed(self) -> list[str]:
        """Name the services that are followed, as far as they are known."""
        known = self._exact.keys() | self._follower.holds.keys()
        return sorted(service for service in known if any(self._sinks(service)))

    def _is_silent(self, service: str) -> bool:
        return not (self.is_current(service) or service in self._waiting or service in self._writing)

    def _subscribe_at_last(self) -> None:
        topics, self._without_key = self._without_key, []
        for topic in topics:
            self.start(self._link.subscribe(topic), "setpoint follow")

    # What these stand on

    def _judge(self, kept: Kept) -> Taken | None:
        document = self._follower.verified(kept.topic, kept.payload, kept.jws)
        return None if document is None else Taken(document_of(document), kept)

    def _of(self, pattern: str) -> defaultdict[str, list[Sink]]:
        return self._globs if is_glob(pattern) else self._exact

    def _filter(self, pattern: str) -> str:
        return self._topics.all_updated if is_glob(pattern) else self._topics.updated(pattern)

    def _sinks(self, service: str) -> Iterator[Sink]:
        yield from self._exact.get(service, ())
        for pattern, sinks in self._globs.items():
            if fnmatchcase(service, pattern):
                yield from sinks

    def _tell(self, topic: str, outcome: str) -> None:
        if (topic, outcome) not in self._ignored and len(self._ignored) < _MOST_TOLD:
            self._ignored.add((topic, outcome))
            logger.warning("ignored what came on %s: %s", topic, _WHY[outcome])


def _kept(received: Received) -> Kept:
    return Kept(received.topic, received.payload, received.jws or "")


def _refused(why: str) -> Loaded:
    logger.warning("the cache is not believed: %s", why)
    return Loaded(refused=why)
