"""Setpoint for Python services: commands that are signed and answered, and configs that are followed.

``Client`` is the way in; client/README.md is the guide. ``setpoint.sync`` is the same without asyncio, and
``setpoint.testing`` helps the tests of a service.

What stands here is imported when it is used first: the command line's ``--help`` needs none of it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from setpoint.client import Client
    from setpoint.errors import (
        AlreadyExists,
        BadReplyTopic,
        BadRequest,
        ClockSkew,
        ConfigurationError,
        Expired,
        Forbidden,
        IdempotencyConflict,
        Internal,
        NoConfig,
        NotApplied,
        NotFound,
        RateLimited,
        ReadOnly,
        SchemaInvalid,
        SetpointError,
        TokenExpired,
        TokenRevoked,
        TooLarge,
        Unavailable,
        UnknownCommand,
        Unreachable,
        VersionConflict,
        WrongTopic,
    )
    from setpoint.live import Change, Live
    from setpoint.signed import SignedCommand
    from setpoint_contracts import Token
    from setpoint_contracts.config import ConfigDocument as Document

__all__ = [
    "AlreadyExists",
    "BadReplyTopic",
    "BadRequest",
    "Change",
    "Client",
    "ClockSkew",
    "ConfigurationError",
    "Document",
    "Expired",
    "Forbidden",
    "IdempotencyConflict",
    "Internal",
    "Live",
    "NoConfig",
    "NotApplied",
    "NotFound",
    "RateLimited",
    "ReadOnly",
    "SchemaInvalid",
    "SetpointError",
    "SignedCommand",
    "Token",
    "TokenExpired",
    "TokenRevoked",
    "TooLarge",
    "Unavailable",
    "UnknownCommand",
    "Unreachable",
    "VersionConflict",
    "WrongTopic",
]

_ELSEWHERE = {
    "Change": "setpoint.live",
    "Client": "setpoint.client",
    "Document": "setpoint_contracts.config:ConfigDocument",
    "Live": "setpoint.live",
    "SignedCommand": "setpoint.signed",
    "Token": "setpoint_contracts",
}
"""Where those are that are not in ``setpoint.errors``: a module, and the name there if it is another."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module, _, attribute = _ELSEWHERE.get(name, "setpoint.errors").partition(":")
    found = globals()[name] = getattr(importlib.import_module(module), attribute or name)
    return found


def __dir__() -> list[str]:
    return __all__
