"""Watching services: documents as they come, newest per service."""

import asyncio
import copy
import weakref
from typing import Self

from setpoint.follower import Order
from setpoint.patterns import check_pattern
from setpoint.taken import Feed, Taken
from setpoint_contracts.config import ConfigDocument

_NEVER: Order = (-1, -1)


class Watch:
    """An async iterator over the documents of a service, or of all services that a glob matches.

    First come those that are current, then each newer one, tombstones (``document.deleted``) too. The daemon has signed
    each, and of one service each is newer than the one before, over lost connections and restarts too. A slow reader
    gets the newest of each service, and none of those between. Of very many services a broker drops what does not fit
    its queue: that is asked for, moments later; a client without a token sees what the broker delivers.

    It ends when its client is closed, and with ``aclose``;
    leaving the loop is enough. Raises ``ConfigurationError`` for a pattern that is neither.
    """

    def __init__(self, following: Feed, pattern: str) -> None:
        check_pattern(pattern)
        self._following, self._pattern = following, pattern
        self._newest = _Newest()
        self._follows = self._closed = False
        self._leave = weakref.finalize(self, following.unfollow, pattern, self._newest)
        self._leave.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConfigDocument:
        if self._closed:
            raise StopAsyncIteration
        if not self._follows:
            self._follows = True
            self._following.follow(self._pattern, self._newest)
        return await self._newest.next()

    async def aclose(self) -> None:
        """Watch no more; who waits or asks for the next document is told that there is none."""
        self._closed = True
        self._leave()
        self._newest.close()


class _Newest:
    """The newest documents that were not read yet, one of each service, in the order in which the services came."""

    whole = False

    def __init__(self) -> None:
        self._unread: dict[str, ConfigDocument] = {}
        self._orders: dict[str, Order] = {}
        self._news = asyncio.Event()
        self._closed = False

    def take(self, taken: Taken) -> None:
        service = taken.document.service
        if taken.order > self._orders.get(service, _NEVER):
            self._orders[service] = taken.order
            self._unread[service] = taken.document
            self._news.set()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    async def next(self) -> ConfigDocument:
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        document = self._unread.pop(next(iter(self._unread)))
        return document.model_copy(update={"config": copy.deepcopy(document.config)})  # others hold the same one
