"""From the connection to those who watch and bind: what comes is judged, kept, and then acted on.

Rules:

- A document counts by contracts/following.md, and is on disk before anybody is told of it (``setpoint.keeping``).
- A key that is seen first is on disk before it is believed. What comes meanwhile is judged then. Documents are
  subscribed to once there is a key to check them with: they are retained.
- What nobody follows is not taken. Nobody is told of a document that is older than what he was told of. The same one
  may be told twice.
- A service of which something came whose signature does not hold is not current until something has come that counts,
  and none is while another key signs the daemon's keys than is pinned. The daemon is asked (``setpoint.asking``).
- What is ignored is logged once for each topic and reason while a connection lasts.
"""

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Callable, Collection, Coroutine, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from setpoint.asking import Asking
from setpoint.cache import Cache, Kept, RefusedError
from setpoint.errors import ConfigurationError
from setpoint.follower import WHY, Follower, Order, order_of
from setpoint.keeping import Keeping
from setpoint.link import Link, Received
from setpoint.loading import Loading
from setpoint.patterns import is_glob
from setpoint.revealing import Call
from setpoint.taken import Loaded, Sink, Sinks, Taken, document_of
from setpoint.trust import Jwk, Trust
from setpoint_contracts import Topics

logger = logging.getLogger("setpoint")

T = TypeVar("T")
_REFUSED_S, _AWAY_S = 0.3, 0.8
_MOST_TOLD = 1000
_HEAL = "make it yours alone, or remove it to pin the daemon's key anew, or give keys"


class Following:
    """What one client follows. ``call`` sends a command; None for a client without a token."""

    def __init__(self, link: Link, topics: Topics, cache: Cache, keys: Sequence[Jwk] | None, call: Call | None) -> None:
        self._link, self._topics, self._cache, self.call = link, topics, cache, call
        self.trust = Trust(keys or ())
        if len(self.trust.pinned) != len(keys or ()):
            raise ConfigurationError("the keys are not all public Ed25519 JWKs with a kid")
        self._follower = Follower(self.trust, topics)
        self._sinks = Sinks()
        self._keeping = Keeping(cache, self._follower.seen, self._sinks.are_whole, self._tell_of)
        self._loop = asyncio.get_running_loop()
        self._told_of: dict[str, Taken] = {}  # what those who follow know
        self._loaded: dict[str, Taken] = {}  # what the cache had, until the broker has it too
        self._away_since = self._loop.time()
        self._connection = 0
        self._heard: dict[str, int] = {}  # in which connection something of a service came last
        self._without_key: list[str] = []
        self._ignored: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._asking = None if call is None else Asking(call, self)
        self._questions: asyncio.Task[None] | None = None
        self._doubted: set[str] = set()  # services of which something came that is not signed as it should be
        self._has_other_key = False
        self._pinning: asyncio.Task[None] | None = None
        self._no_pin: str | None = None  # why no key may be pinned
        self._meanwhile: list[Received] = []  # what came while a key is being pinned
        self._closed = False

    # Its life

    async def open(self) -> None:
        """Read what was pinned and seen, and begin; call it before the link runs."""
        if not self.trust.pinned:
            try:
                self.trust.believe(await asyncio.to_thread(self._cache.keys))
            except RefusedError as error:
                self._pin_none(error)
        seen: dict[str, Order] = await self._read(self._cache.seen, {})
        self._follower.seen.update(seen)
        self.trust.on_pinned(self._subscribe_at_last)
        self._link.on_message(self._topics.keys, self._take)
        self._link.on_message(self._topics.all_updated, self._take)
        self._link.on_connected(self._begin_connection)
        self._link.on_lost(self._end_connection)
        await self._link.subscribe(self._topics.keys)
        self.start(self._keeping.run(), "setpoint cache")

    async def close(self) -> None:
        """End all that follows."""
        self._closed = True
        self._sinks.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something until it is done, or until the client is closed. Its fault is logged, without its words."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_tell_of_a_fault)
        return task

    # Who follows

    def follow(self, pattern: str, sink: Sink) -> None:
        """Tell somebody of a service, or of all that a glob matches: first what is held, then what is newer."""
        if self._closed:
            sink.close()
            return
        self._sinks.add(pattern, sink)
        for service, taken in [*self._told_of.items()]:
            if fnmatchcase(service, pattern):
                sink.take(taken)
                if self._keeping.lacks(taken):
                    self._keeping.add(taken, None)
        topic = self._filter(pattern)
        if is_glob(pattern) and self._asking is not None:
            self._asking.want_list()
        if self.trust.pinned:
            self.start(self._link.subscribe(topic), "setpoint follow")
        else:
            self._without_key.append(topic)

    def unfollow(self, pattern: str, sink: Sink) -> None:
        """Tell somebody no more. From any thread; no effect when he is not told, or when all is over."""
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._unfollow, pattern, sink)

    def _unfollow(self, pattern: str, sink: Sink) -> None:
        if not self._sinks.remove(pattern, sink):
            return
        for known in (self._told_of, self._heard):  # what is newer does not come any more
            for service in [service for service in known if not self._sinks.has(service)]:
                del known[service]
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
        if not self.trust.pinned and self._no_pin is not None:
            return f"the pinned key is not believed: {self._no_pin}; {_HEAL}"
        if not self.trust.pinned:
            return "the broker has no key of a daemon to check documents with: has the daemon ever run there?"
        ignored = [outcome for topic, outcome in self._ignored if topic == self._topics.updated(service)]
        return f"what came was ignored: {WHY[ignored[0]]}" if ignored else "nothing is published of it"

    def is_current(self, service: str) -> bool:
        """Whether there is a connection, and something of the service came since it was made; not what is doubted."""
        is_heard = self._link.is_connected and self._heard.get(service) == self._connection
        return is_heard and not self._has_other_key and service not in self._doubted

    async def load(self, service: str) -> Loaded:
        """Read what the cache has of a service, and judge it as what comes from the broker."""
        newest = None
        try:
            found = await asyncio.to_thread(self._cache.read, service)
            if found is None:
                return Loaded()
            loading = Loading(self._follower, service, self._topics.updated(service), has_keys=bool(self.trust.pinned))
            newest = loading.newest(found)
            if self._follower.take(found.newest.topic, found.newest.payload, found.newest.jws) == "taken":
                self._loaded[service] = newest
                self._keeping.has(newest)
            good = loading.good(found, newest.order)
        except RefusedError as error:
            logger.warning("the cache is not believed: %s", error)
            return Loaded(newest, refused=str(error))
        return Loaded(newest, good)

    def remember_good(self, taken: Taken, secrets: str | None) -> None:
        """Keep a document beside newer ones as the last good one, with its secrets as they are sealed for the cache."""
        if taken.kept is None:
            return
        good = Taken(taken.document, Kept(taken.kept.topic, taken.kept.payload, taken.kept.jws, secrets))
        self._keeping.remember_good(good)
        if secrets not in (None, taken.kept.secrets) and self._follower.order(taken.document.service) == taken.order:
            self._keeping.add(good, None)

    async def ask(self, service: str) -> bool:
        """Ask the daemon for the newest document of a service; whether it says that there never was one.

        What it has is judged as what comes from the broker.
        """
        return self._asking is not None and await self._asking.ask(service) == "never"

    # What the questions need

    @property
    def named(self) -> Collection[str]:
        """The services that are followed by their names."""
        return self._sinks.exact.keys()

    @property
    def has_globs(self) -> bool:
        """Whether any glob is followed."""
        return bool(self._sinks.globs)

    @property
    def doubts_all(self) -> bool:
        """Whether another key signs the daemon's keys."""
        return self._has_other_key

    def silent(self) -> list[str]:
        """Name the services that are followed, and of which nothing has come that counts."""
        known = sorted(self._sinks.exact.keys() | self._follower.holds.keys())
        silent = [service for service in known if not (self.is_current(service) or service in self._keeping)]
        return [service for service in silent if self._sinks.has(service)]

    def lacks(self, service: str, order: Order) -> bool:
        """Whether a service is followed, and those who follow have nothing so new of it."""
        if service in self._keeping or not self._sinks.has(service):
            return False
        told = self._told_of.get(service)
        return told is None or told.order < order

    def take_never(self, service: str) -> None:
        """Take note that there never was a document of a service."""
        if service not in self._follower.holds and self._sinks.has(service):
            self._heard[service] = self._connection
            self._doubted.discard(service)

    def take_reply(self, document: Any) -> None:
        """Take a document that the daemon has sent in a reply."""
        if not (isinstance(document, dict) and self._sinks.has(str(document.get("service")))):
            return  # nobody follows it any more
        outcome = self._follower.take_reply_document(document)
        if outcome in ("taken", "same"):
            self._doubted.discard(document["service"])
        if outcome == "taken":
            self._keeping.add(Taken(document_of(document), None), self._connection)
        elif outcome == "same":
            self._confirm(document["service"], None)

    # What comes

    def _take(self, received: Received) -> None:
        if self._no_pin is not None and not self.trust.pinned:
            return
        if not self.trust.pinned and received.topic == self._topics.keys:
            self._pin_first(received)
        if self._pinning is not None:
            self._meanwhile.append(received)
            return
        service = self._topics.updated_service(received.topic) or ""
        if service and not self._sinks.has(service):
            return  # a glob's subscription has all services
        outcome = self._follower.take(received.topic, received.payload, received.jws)
        self._doubt(service, outcome)
        if outcome == "taken":
            self._keeping.add(Taken(document_of(self._follower.holds[service]), _kept(received)), self._connection)
        elif outcome == "same":
            self._confirm(service, received)
        elif outcome in WHY:
            self._tell(received.topic, outcome)

    def _doubt(self, service: str, outcome: str) -> None:
        """Note what a message says of those that come on its topic."""
        if outcome in ("taken", "same"):
            self._doubted.discard(service)
        elif outcome in ("known_key", "other_key"):
            self._has_other_key = outcome == "other_key"
        elif outcome in ("unsigned", "bad_signature") and (
            service in self._sinks.exact or service in self._follower.holds
        ):
            self._doubted.add(service)
        if self._asking is not None and (self._has_other_key or service in self._doubted):
            self._asking.doubt(service)

    def _pin_first(self, received: Received) -> None:
        """Begin to pin the key that signed a key set, the first that is seen."""
        if self._pinning is None:
            signer = self.trust.signer(received.topic, received.payload, received.jws or "")
            if signer is not None:
                self._pinning = self.start(self._pin(signer), "setpoint pin")

    async def _pin(self, signer: Jwk) -> None:
        """Pin the key that was seen first, and then judge by it what came, the key set itself too."""
        try:
            self.trust.believe(await self._keeping.pin([signer]))
        except RefusedError as error:
            self._pin_none(error)
        finally:
            self._pinning = None
        came, self._meanwhile = self._meanwhile, []
        for received in came:
            self._take(received)

    def _pin_none(self, refused: RefusedError) -> None:
        """Take no key that is seen first: one was pinned, and may be another."""
        self._no_pin = str(refused)
        logger.error("the pinned key is not believed: %s; %s", refused, _HEAL)

    def _confirm(self, service: str, received: Received | None) -> None:
        """Act on hearing again what is held: it is current, be it from the cache or told of already."""
        held = self._follower.holds[service]
        if self._keeping.hear(service, self._connection):
            return  # it is told of when it is on disk
        if order_of(held) != self._follower.order(service):
            return  # another process has taken a newer one
        kept = None if received is None else _kept(received)
        known = [taken for taken in (self._told_of.get(service), self._loaded.get(service)) if taken is not None]
        same = [taken for taken in known if taken.order == order_of(held)]
        taken = same[0] if same else Taken(document_of(held), kept)
        if came_in_a_reply := taken.kept is None and kept is not None:  # now it can be kept as it is
            taken = Taken(taken.document, kept)
        if came_in_a_reply or self._keeping.lacks(taken):
            self._keeping.add(taken, self._connection)
        else:
            self._tell_of(taken, self._connection)

    def _tell_of(self, taken: Taken, heard: int | None) -> None:
        service = taken.document.service
        self._loaded.pop(service, None)
        sinks = [*self._sinks.of(service)]
        if sinks:
            self._told_of[service] = taken
            if heard is not None:
                self._heard[service] = heard
        for sink in sinks:
            sink.take(taken)

    async def _read(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return await asyncio.to_thread(read)
        except RefusedError as error:
            logger.warning("the cache is not believed: %s", error)
            return otherwise

    # Connections

    def _begin_connection(self) -> None:
        if self._asking is not None:
            self._questions = self.start(self._asking.run(), "setpoint ask")

    def _end_connection(self) -> None:
        self._connection += 1
        self._away_since = self._loop.time()
        self._ignored.clear()
        self._doubted.clear()
        self._has_other_key = False
        if self._questions is not None:
            self._questions.cancel()

    def _subscribe_at_last(self) -> None:
        topics, self._without_key = self._without_key, []
        for topic in topics:
            self.start(self._link.subscribe(topic), "setpoint follow")

    # What these stand on

    def _filter(self, pattern: str) -> str:
        return self._topics.all_updated if is_glob(pattern) else self._topics.updated(pattern)

    def _tell(self, topic: str, outcome: str) -> None:
        if (topic, outcome) not in self._ignored and len(self._ignored) < _MOST_TOLD:
            self._ignored.add((topic, outcome))
            logger.warning("ignored what came on %s: %s", topic, WHY[outcome])


def _kept(received: Received) -> Kept:
    return Kept(received.topic, received.payload, received.jws or "")


def _tell_of_a_fault(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        where = "".join(traceback.format_tb(fault.__traceback__))  # its words may hold a value
        logger.error("%s ended by a fault: %s\n%s", task.get_name(), type(fault).__name__, where)
