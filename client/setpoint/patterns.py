"""Which services are followed: one by its name, or all that a glob matches."""

import re

from setpoint.errors import ConfigurationError
from setpoint_contracts.names import GLOB_PATTERN, SERVICE_PATTERN

_WILD = frozenset("*?[")


def check_service(service: str) -> None:
    """Raise ``ConfigurationError`` unless it is a service's name."""
    if not re.fullmatch(SERVICE_PATTERN, service) or service.endswith("\n"):
        raise ConfigurationError(f"{service!r} is no name of a service: 1 to 63 of a-z 0-9 . _ -")


def check_pattern(pattern: str) -> None:
    """Raise ``ConfigurationError`` unless it is a service's name or a glob over such names."""
    if not is_glob(pattern):
        check_service(pattern)
    elif not re.fullmatch(GLOB_PATTERN, pattern) or pattern.endswith("\n"):
        raise ConfigurationError(f"{pattern!r} is no glob over names of services: * ? [...] and a-z 0-9 . _ -")


def is_glob(pattern: str) -> bool:
    """Whether it is a glob, and not the name of a service."""
    return bool(_WILD & set(pattern))
