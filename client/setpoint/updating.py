"""Read, change, write: again when somebody was faster."""

import asyncio
import copy
import inspect
import random
from collections.abc import Callable
from typing import Any

from setpoint.commands import Commands
from setpoint.errors import ConfigurationError, NotFound, VersionConflict
from setpoint_contracts.config import ConfigDocument, WriteResult

Config = dict[str, Any]
Change = Callable[[Config], Config | None]
"""Gets a copy of a config; returns the new one, or changes the copy and returns None. May be called several times."""

_LONGEST_PAUSE_S = 0.05


async def update(
    commands: Commands,
    service: str,
    change: Change,
    *,
    reason: str | None,
    attempts: int,
    timeout: float | None,
) -> WriteResult:
    """Write what ``change`` makes of a config, at the version that it saw, in at most ``attempts`` attempts.

    Raises ``VersionConflict`` after the last one, and whatever ``change`` raises.
    """
    if attempts < 1:
        raise ConfigurationError("attempts is at least 1")
    document = await _newest(commands, service, timeout)
    for attempt in range(1, attempts + 1):
        config = copy.deepcopy(document.config or {})
        changed = change(config)
        if inspect.iscoroutine(changed):
            changed.close()
            raise ConfigurationError("what changes a config in `update` is a plain function, and no `async def`")
        try:
            return await commands.set(
                service,
                config if changed is None else changed,
                expected_version=0 if document.config is None else document.version,
                reason=reason,
                timeout=timeout,
            )
        except VersionConflict as conflict:
            if attempt == attempts or conflict.current is None:
                raise
            document = conflict.current
        await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE_S))  # noqa: S311 - so that not all come at once
    raise AssertionError  # the last attempt has returned or raised


async def _newest(commands: Commands, service: str, timeout: float | None) -> ConfigDocument:
    try:
        return await commands.get(service, timeout=timeout)
    except NotFound:
        return ConfigDocument(service=service, version=0, revision=0, epoch=0, updated_at=None, updated_by=None)
