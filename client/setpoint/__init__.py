"""Setpoint for Python services: commands that are signed and answered, and configs that are followed.

``Client`` is the way in; client/README.md is the guide. ``setpoint.sync`` is the same without asyncio, and
``setpoint.testing`` helps the tests of a service.
"""

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
