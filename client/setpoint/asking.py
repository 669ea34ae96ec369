"""What the daemon is asked, where the broker does not say it.

Rules:

- After a connect, of a service that is followed and of which nothing has come, the daemon is asked: its tombstone may
  have been cleared meanwhile.
- Who follows a glob asks for the list of services too, and for each that is newer there: a broker drops what it retains
  beyond its limits for one queue, and tells nobody.
- What is doubted is asked for: a service of which something came whose signature does not hold; and again and again
  all, while the daemon's keys are signed by another key than is pinned.
- The pauses double, up to a minute, also when somebody publishes forgeries all the time.
"""

import asyncio
import logging
from collections.abc import Collection
from typing import Any, Literal, Protocol

from setpoint.errors import NotFound, SetpointError
from setpoint.follower import Order
from setpoint.revealing import Call

logger = logging.getLogger("setpoint")

Answer = Literal["never", "silence", "answer"]
"""Of the daemon to the question for a service: there never was one; none, but it may come later; anything else."""

_SILENCE_S, _LONGEST_SILENCE_S = 2.0, 60.0
_PAGE = 1000


class Asker(Protocol):
    """Who has the questions, and takes the answers."""

    @property
    def named(self) -> Collection[str]:
        """The services that are followed by their names."""

    @property
    def has_globs(self) -> bool:
        """Whether any glob is followed."""

    @property
    def doubts_all(self) -> bool:
        """Whether nothing that is published is to be believed."""

    def silent(self) -> list[str]:
        """Name the services that are followed, and of which nothing has come that counts."""

    def lacks(self, service: str, order: Order) -> bool:
        """Whether a service is followed, and those who follow have nothing so new of it."""

    def take_reply(self, document: Any) -> None:
        """Take the newest document of a service."""

    def take_never(self, service: str) -> None:
        """Take note that there never was one."""


class Asking:
    """The questions of one client; ``call`` sends a command."""

    def __init__(self, call: Call, asker: Asker) -> None:
        self._call, self._asker = call, asker
        self._answered: set[str] = set()
        self._wants_list = True
        self._more = asyncio.Event()

    def want_list(self) -> None:
        """Ask for the list of services: another glob is followed."""
        self._wants_list = True
        self._more.set()

    def doubt(self, service: str) -> None:
        """Ask for a service, or whatever is followed, though it was asked for before."""
        self._answered.discard(service)
        self._more.set()

    async def run(self) -> None:
        """Ask, on one connection, whenever there is something to ask for."""
        loop, pause = asyncio.get_running_loop(), _SILENCE_S
        self._answered.clear()
        self._wants_list = True
        while True:
            await asyncio.sleep(pause)
            self._more.clear()
            began = loop.time()
            if not await self._ask_for_all():
                await self._more.wait()
            is_new = self._wants_list or loop.time() - began > _LONGEST_SILENCE_S
            pause = _SILENCE_S if is_new else min(2 * pause, _LONGEST_SILENCE_S)

    async def ask(self, service: str) -> Answer:
        """Ask for the newest document of a service, and have what comes judged."""
        try:
            document: Any = await self._call("get", {"service": service})
        except NotFound as error:
            if (document := error.details.get("current")) is None:
                self._asker.take_never(service)
                return "never"
        except SetpointError as error:
            logger.info("cannot ask for %s after a silence: %s", service, error)
            return "silence" if error.retryable else "answer"
        self._asker.take_reply(document)
        return "answer"

    async def _ask_for_all(self) -> bool:
        """Ask for whatever there is to ask for; whether some of it is to be asked for again."""
        if self._asker.doubts_all:
            self._answered.difference_update(self._asker.named)
        if self._asker.has_globs and (self._wants_list or self._asker.doubts_all):
            self._wants_list = not await self._ask_for_what_is_listed()
        for service in self._unanswered():
            if await self.ask(service) != "silence":
                self._answered.add(service)
        return self._wants_list or self._asker.doubts_all or bool(self._unanswered())

    async def _ask_for_what_is_listed(self) -> bool:
        """Go through all services that there are; whether the daemon has told of all."""
        after: str | None = None
        while True:
            try:
                page = await self._call("list", {"limit": _PAGE} | ({} if after is None else {"after": after}))
            except SetpointError as error:
                logger.info("cannot ask which services there are: %s", error)
                return not error.retryable
            for one in page["services"]:
                if self._asker.lacks(one["service"], (one["epoch"], one["revision"])):
                    await self.ask(one["service"])
            if (after := page.get("next")) is None:
                return True

    def _unanswered(self) -> list[str]:
        return [service for service in self._asker.silent() if service not in self._answered]
