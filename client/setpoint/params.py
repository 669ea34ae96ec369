"""What the commands take, and how it stands on the wire."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

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
    """Return a config as JSON has it."""
    return config.model_dump(mode="json") if isinstance(config, BaseModel) else dict(config)
