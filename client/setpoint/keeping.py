"""What was taken goes to disk before anybody is told of it.

Rules:

- What waits is written as one batch, in a thread; of one service only the newest. After a batch there is a pause, so
  that of many documents that come at once more are in the next: the orders of all services are written with each.
- Of a bound service the document is written as it came; of one that is only watched too where an earlier binding has
  left one, else which it was. Who binds while the latter is on its way is told when the document itself is on disk.
- Who cannot keep what he took is told all the same: a full card must not keep a service from its config. It is tried
  again when the document is heard again.
"""

import asyncio
import logging
from collections.abc import Callable

from setpoint.cache import Cache, Entry
from setpoint.follower import Order
from setpoint.taken import Taken
from setpoint.trust import Jwk

logger = logging.getLogger("setpoint")

_PAUSE, _LONGEST_PAUSE_S = 2.0, 1.0  # times as long as the batch took


class Keeping:
    """The way to the cache.

    ``is_bound``: whether a service's document is to be kept as it is. ``tell`` is called with what is on disk, and when
    it was heard; ``seen`` is where the orders go of what another process has taken meanwhile.
    """

    def __init__(
        self,
        cache: Cache,
        seen: dict[str, Order],
        is_bound: Callable[[str], bool],
        tell: Callable[[Taken, int | None], None],
    ) -> None:
        self._cache, self._seen, self._is_bound, self._tell = cache, seen, is_bound, tell
        self._waiting: dict[str, tuple[Taken, int | None]] = {}  # what is to be written, and when it was heard
        self._writing: dict[str, tuple[Taken, int | None]] = {}
        self._whole: dict[str, Order] = {}  # which documents are on disk as they are
        self._good: dict[str, Taken] = {}
        self._work = asyncio.Event()
        self._fails = False

    def __contains__(self, service: str) -> bool:
        return service in self._waiting or service in self._writing

    def add(self, taken: Taken, heard: int | None) -> None:
        """Write a document, and then tell of it; one that is newer and on its way stays."""
        service = taken.document.service
        for batch in (self._waiting, self._writing):
            if service in batch and batch[service][0].order > taken.order:
                self.hear(service, heard)
                return
        if heard is None and service in self._waiting:
            heard = self._waiting[service][1]
        self._waiting[service] = taken, heard
        self._work.set()

    def hear(self, service: str, heard: int | None) -> bool:
        """Note of what is on its way when it was heard again; whether there is something."""
        for batch in (self._waiting, self._writing):
            if service in batch:
                if heard is not None:
                    batch[service] = batch[service][0], heard
                return True
        return False

    def lacks(self, taken: Taken) -> bool:
        """Whether a document is to be on disk as it is, and is not."""
        service = taken.document.service
        return taken.kept is not None and self._is_bound(service) and self._whole.get(service) != taken.order

    def has(self, taken: Taken) -> None:
        """Note that a document was found on disk."""
        self._whole[taken.document.service] = taken.order

    def remember_good(self, good: Taken) -> None:
        """Keep a document beside newer ones, from the next one on."""
        self._good[good.document.service] = good

    async def pin(self, keys: list[Jwk]) -> list[Jwk]:
        """Keep keys that are seen first; returns what is pinned then, which may be another process's.

        Raises ``RefusedError`` when there are some that are not believed.
        """
        try:
            pinned = await asyncio.to_thread(self._cache.pin, keys)
        except OSError as error:
            logger.warning("the pinned key cannot be kept in %s: %s", self._cache.directory, error.strerror or error)
            return keys
        logger.info("pinned the key %s of the daemon", ", ".join(str(jwk["kid"]) for jwk in pinned))
        return pinned

    async def run(self) -> None:
        """Write what was taken, and then tell of it."""
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            self._work.clear()
            began = loop.time()
            self._writing, self._waiting = self._waiting, {}
            entries = [self._entry(taken) for taken, _ in self._writing.values()]
            newer = await self._write(entries)
            self._seen.update(newer)
            written, self._writing = self._writing, {}
            for entry, (taken, heard) in zip(entries, written.values(), strict=True):
                if entry.service in newer:
                    continue
                if not entry.bound and self.lacks(taken):
                    self.add(taken, heard)
                else:
                    self._tell(taken, heard)
            await asyncio.sleep(min(_PAUSE * (loop.time() - began), _LONGEST_PAUSE_S))

    def _entry(self, taken: Taken) -> Entry:
        service = taken.document.service
        if taken.kept is None or not self._is_bound(service):
            return Entry(service, taken.order, taken.kept, bound=False)
        good = self._good.get(service)
        last = None if good is None else good.kept
        if good is not None and good.order == taken.order and last is not None and last.secrets is not None:
            return Entry(service, taken.order, last)  # the same one, with its secrets
        return Entry(service, taken.order, taken.kept, last)

    async def _write(self, entries: list[Entry]) -> dict[str, Order]:
        try:
            newer = await asyncio.to_thread(self._cache.keep, entries)
        except OSError as error:
            if not self._fails:
                logger.warning("the cache %s cannot be written: %s", self._cache.directory, error.strerror or error)
            self._fails = True
            for entry in entries:
                self._whole.pop(entry.service, None)
            return {}
        self._fails = False
        for entry in entries:
            if entry.bound and entry.service not in newer:
                self._whole[entry.service] = entry.order
        return newer
