"""Binding a service's model: what becomes of each document, and what is in force at the start.

Rules:

- The order at the start: a live document, else the last known good one of the cache, else the model's defaults. What is
  not there in time is not waited for, unless there is nothing else.
- A document that does not fit the model changes nothing: the last good value stays, and says so.
- A tombstone brings the defaults back; a model that has none keeps its last value, and says so.
- A document with secrets counts once they are known, or it is known that they may not be seen.
"""

import asyncio
import contextlib
import copy
import logging
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from setpoint.errors import Forbidden, NoConfig, SetpointError, TokenExpired, TokenRevoked
from setpoint.guarded import guarded, misfit, words_at
from setpoint.live import Change, Hub, Live, Source
from setpoint.reporting import Reporter
from setpoint.revealing import Secrets, tags_in
from setpoint.taken import Feed, Loaded, Taken
from setpoint_contracts import strictjson
from setpoint_contracts.config import ConfigDocument, Difference
from setpoint_contracts.difference import differences

logger = logging.getLogger("setpoint")

M = TypeVar("M", bound=BaseModel)

_SILENCE_S = 0.3  # what is retained comes at once; then the daemon is asked whether there is anything
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_DELETED = "the service was deleted, and the model has no defaults"


class Binding(Generic[M]):
    """What keeps one ``Live`` up to date. Without a ``reporter``, no applied report is made."""

    whole = True

    def __init__(
        self,
        following: Feed,
        service: str,
        model: type[M],
        *,
        defaults: M | None,
        secrets: Secrets,
        reporter: Reporter | None,
    ) -> None:
        self._following, self._service, self._model = following, service, model
        self._secrets, self._reporter = secrets, reporter
        self._defaults = _defaults(model, defaults)
        self._hub: Hub[M] = Hub()
        self._live: Live[M] | None = None
        self._newest: Taken | None = None
        self._applied: Taken | None = None
        self._asking: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._opened: set[str] = set()
        self._error: str | None = None
        self._unasked: str | None = None  # why the secrets of the newest document cannot be asked for
        self._left = False

    async def start(self, timeout: float) -> Live[M]:
        """Return the config as soon as a live document is applied, else what there is after ``timeout`` seconds.

        Raises ``NoConfig``.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        loaded = await self._following.load(self._service)
        refused = self._open_cached(loaded)
        self._following.follow(self._service, self)
        if self._reporter is not None:
            self._reporter.begin(self._service)
        try:
            has_other = self._defaults is not None or loaded.newest is not None
            await self._wait(deadline, has_other=has_other)
            live = self._live or self._fall_back(loaded)
        except BaseException:
            self.leave()
            raise
        live.refused = refused
        return live

    def leave(self) -> None:
        """Follow no more; no effect the second time."""
        if self._left:
            return
        self._left = True
        self._following.unfollow(self._service, self)
        self._hub.close()
        if self._asking is not None:
            self._asking.cancel()
        if self._reporter is not None:
            self._reporter.end(self._service)

    # What the following calls

    def take(self, taken: Taken) -> None:
        """Act on a document, unless it was acted on already, or nobody follows any more."""
        if self._left or (self._newest is not None and taken.order <= self._newest.order):
            return
        self._newest = taken
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self._unasked = None
        config = taken.document.config
        if config is None or self._secrets.are_known(config) or not self._secrets.may_ask:
            self._judge(taken)
            return
        if self._live is not None:
            self._live.waits_for_secrets = True
        self._asking = self._following.start(self._ask_for_secrets(taken), "setpoint secrets")

    def close(self) -> None:
        """Nothing comes any more: the client is closed."""
        self._settled.set()
        self._hub.close()

    # The start

    async def _wait(self, deadline: float, *, has_other: bool) -> None:
        asking = self._following.start(self._ask_whether_there_is_any(), "setpoint ask")
        try:
            async with asyncio.timeout_at(deadline):
                if not has_other or await self._following.is_reached_soon():
                    await self._settled.wait()
        except TimeoutError:
            pass
        finally:
            asking.cancel()

    async def _ask_whether_there_is_any(self) -> None:
        """Wait no longer for a document when the daemon says that there never was one."""
        await self._following.wait_connected()
        await asyncio.sleep(_SILENCE_S)
        if self._newest is None and await self._following.ask(self._service):
            self._settled.set()

    def _open_cached(self, loaded: Loaded) -> str | None:
        """Take the secrets out of the cache; why something of it is not believed."""
        refused = loaded.refused
        for taken in (loaded.good, loaded.newest):
            sealed = taken.kept.secrets if taken is not None and taken.kept is not None else None
            if sealed is not None and self._secrets.open_cached(sealed):
                self._opened.add(sealed)
            elif sealed is not None:
                refused = f"the cached secrets of {self._service} were sealed for another token"
                logger.warning("the cache is not believed: %s", refused)
        return refused

    def _fall_back(self, loaded: Loaded) -> Live[M]:
        """Put the best of what there is into force: the newest of the cache, the last good one, or the defaults."""
        error, live = self._error, None
        cached = [taken for taken in (loaded.newest, loaded.good) if taken is not None]
        for taken in sorted(cached, key=self._lacks_secrets):  # a newer one may have been kept by who only watches
            if self._newest is not None and taken.order == self._newest.order:
                continue  # it was heard again, and rejected, or waits for its secrets
            value, missing, why = self._made_of(taken.document)
            if value is not None:
                live = self._put_into_force(taken, value, missing, "defaults" if taken.document.deleted else "cache")
                self._remember(taken)
                break
            error = error or why
        if live is None:
            if self._defaults is None:
                raise NoConfig(f"{self._service} has no config: {self._why_none(error)}; and the model has no defaults")
            live = self._live_with(_copy(self._defaults))
        live.waits_for_secrets = self._asking is not None
        if self._asking is not None and self._unasked is None:
            self._cannot_ask("no answer has come yet")
        live.error = error or self._unasked
        return live

    def _lacks_secrets(self, taken: Taken) -> bool:
        return not self._secrets.are_known(taken.document.config or {})

    def _why_none(self, error: str | None) -> str:
        if error is not None:
            return f"the newest document was rejected: {error}"
        if self._asking is not None:
            return self._unasked or "its secrets cannot be asked for yet"
        return self._following.why_nothing(self._service)

    # Each document

    async def _ask_for_secrets(self, taken: Taken) -> None:
        pause = _FIRST_PAUSE_S
        while not self._secrets.are_known(taken.document.config or {}):
            try:
                await self._secrets.ask(taken.document.version)
                if self._secrets.are_known(taken.document.config or {}):
                    break
            except (Forbidden, TokenExpired, TokenRevoked) as error:
                logger.warning("the secrets of %s may not be seen: %s", self._service, error)
                break
            except SetpointError as error:  # the value stays
                self._cannot_ask(str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        self._asking = None
        self._judge(taken)

    def _cannot_ask(self, why: str) -> None:
        """Say that a document waits for its secrets, in the log once."""
        if self._unasked is None:
            logger.warning("the secrets of %s cannot be asked for: %s", self._service, why)
        self._unasked = f"its secrets cannot be asked for: {why}"
        if self._live is not None:
            self._live.error = self._unasked

    def _judge(self, taken: Taken) -> None:
        """Put a live document into force, or reject it."""
        value, missing, error = self._made_of(taken.document)
        if value is not None:
            self._put_into_force(taken, value, missing, "defaults" if taken.document.deleted else "live")
            self._remember(taken)
            self._secrets.forget_all_but(taken.document.config)
        else:
            self._reject(taken, error)
        if self._reporter is not None:
            self._reporter.say(taken.document, error)
        self._settled.set()

    def _made_of(self, document: ConfigDocument) -> tuple[M | None, list[str], str | None]:
        """Make the value of a document; which secrets are missing in it; or why there is none."""
        if document.config is None:
            return (None, [], _DELETED) if self._defaults is None else (_copy(self._defaults), [], None)
        config, places, missing = self._secrets.put_in(document.config)
        try:
            words = words_at(config, places)
            return guarded(self._model.model_validate_json(strictjson.dumps(config)), places, words), missing, None
        except ValidationError as error:
            return None, missing, misfit(error, [path for path, _ in tags_in(document.config)])
        except Exception as error:  # noqa: BLE001 - a model's validators are the service's own, and may raise anything
            return None, missing, f"the model failed with {type(error).__name__}"

    def _put_into_force(self, taken: Taken, value: M, missing: list[str], source: Source) -> Live[M]:
        live = self._live
        if live is None:
            live = self._live_with(value)
        again = self._applied is not None and self._applied.order == taken.order and _are_equal(live.value, value)
        old, before = live.value, live.document
        document = taken.document.model_copy(deep=True)
        live.value, live.document, live.source, live.missing = value, document, source, tuple(missing)
        live.error, live.waits_for_secrets = None, False
        self._applied, self._error = taken, None
        if not again:
            self._hub.tell(Change(old, value, document, _diff(before, document), source))
        return live

    def _reject(self, taken: Taken, error: str | None) -> None:
        self._error = error
        logger.warning("version %d of %s is not applied: %s", taken.document.version, self._service, error)
        if (live := self._live) is None:
            return
        live.error, live.waits_for_secrets = error, False
        document = taken.document.model_copy(deep=True)
        self._hub.tell(Change(live.value, live.value, document, _diff(live.document, document), live.source, error))

    def _remember(self, taken: Taken) -> None:
        sealed = taken.kept.secrets if taken.kept is not None else None
        if sealed not in self._opened and taken.document.config is not None:
            sealed = self._secrets.sealed(taken.document.config)
        self._following.remember_good(taken, sealed)

    def _is_current(self) -> bool:
        return not self._left and self._following.is_current(self._service)

    def _live_with(self, value: M) -> Live[M]:
        self._live = Live(self._service, value, hub=self._hub, is_current=self._is_current, leave=self.leave)
        return self._live


def _are_equal(one: BaseModel, other: BaseModel) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - a member's own comparison, which may raise anything
        return False


def _defaults(model: type[M], given: M | None) -> M | None:
    if given is not None:
        return guarded(given.model_copy(deep=True))
    with contextlib.suppress(Exception):  # ValidationError, or whatever the service's own model raises
        return guarded(model())
    return None


def _copy(defaults: M) -> M:
    """Copy what is put into force: lists in it could be changed there, and come back as the defaults."""
    try:
        return copy.deepcopy(defaults)
    except Exception:  # noqa: BLE001 - a member's own copying, which may raise anything
        return defaults


def _diff(before: ConfigDocument | None, after: ConfigDocument) -> tuple[Difference, ...]:
    old = before.config if before is not None else None
    return tuple(Difference.model_construct(**one) for one in differences(old or {}, after.config or {}))
