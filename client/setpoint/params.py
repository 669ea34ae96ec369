"""What the commands take, and how it stands on the wire."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from setpoint.errors import ConfigurationError

Params = Mapping[str, Any]
"""The parameters of a command, as the wire has them."""
ConfigLike = Mapping[str, Any] | BaseModel
"""A config: a mapping that can be written as JSON, or a pydantic model."""
Point = int | Params
"""Which state of a service: a version, or one of ``{"version"|"revision": int}`` and ``{"time"|"profile": str}``."""
Names = Sequence[str]


def point(at: Point) -> Params:
    """Write a point as the wire has it."""
    return {"version": at} if isinstance(at, int) else dict(at)


def plain(config: ConfigLike) -> dict[str, Any]:
    """Return a config as JSON has it. What a model holds as a secret is written, and not its mask."""
    if isinstance(config, Mapping):
        return dict(config)
    if not isinstance(config, BaseModel):
        raise ConfigurationError(f"a config is a mapping or a pydantic model, and not {type(config).__name__}")
    shown = config.model_dump(mode="json", by_alias=True)
    opened: dict[str, Any] = _opened(shown, config.model_dump(by_alias=True))
    return opened


def _opened(shown: Any, value: Any) -> Any:
    """Put secrets into what JSON shows of a value."""
    if isinstance(value, SecretStr | SecretBytes | Secret):
        secret = value.get_secret_value()
        return secret.decode() if isinstance(secret, bytes) else secret
    if isinstance(value, Mapping) and isinstance(shown, dict) and len(value) == len(shown):
        members = zip(shown.items(), value.values(), strict=True)
        return {name: _opened(member, inner) for (name, member), inner in members}
    if isinstance(value, list | tuple) and isinstance(shown, list) and len(value) == len(shown):
        return [_opened(item, inner) for item, inner in zip(shown, value, strict=True)]
    return shown
