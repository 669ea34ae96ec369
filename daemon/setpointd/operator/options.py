"""Every setting as an option of the command line."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo
from typing_extensions import override

from setpointd.settings import Settings, option, variable


def load(options: Mapping[str, Any], config: Path | None) -> Settings:
    """Gather the settings, the options that were given first. Raises ``OperatorError``."""
    return Settings.load({name: value for name, value in options.items() if value is not None}, config)


class TakesSettings(click.Command):
    """A command that takes every setting as an option."""

    @override
    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*_options(), *super().get_params(ctx)]


@functools.cache
def _options() -> tuple[click.Option, ...]:
    """Make an option of every setting. Values stay text here: ``Settings`` checks them, whatever their source."""
    return tuple(_option(name, field) for name, field in Settings.model_fields.items())


def _option(name: str, field: FieldInfo) -> click.Option:
    default = "" if field.default in {None, "", False} or field.is_required() else f" Default: {field.default}."
    kind = click.Choice(get_args(field.annotation)) if get_origin(field.annotation) is Literal else None
    flag = f"/{option('no_' + name)}" if field.annotation is bool else ""
    return click.Option(
        [option(name) + flag],
        default=None,
        type=kind,
        metavar=None if kind or flag else _metavar(field),
        help=f"{field.description}{default} [{variable(name)}]",
    )


def _metavar(field: FieldInfo) -> str:
    kinds: dict[Any, str] = {int: "NUMBER", int | None: "NUMBER", Path: "PATH", Path | None: "FILE"}
    return kinds.get(field.annotation, "TEXT")
