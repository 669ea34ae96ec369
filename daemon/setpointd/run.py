"""``setpointd run``: the daemon, with every setting as an option."""

import functools
import signal
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo
from typing_extensions import override

from setpointd import app
from setpointd.errors import OperatorError
from setpointd.settings import Settings, option, variable
from setpointd.store import DATABASE


class _TakesSettings(click.Command):
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
    kinds: dict[Any, str] = {int: "NUMBER", Path: "PATH", Path | None: "FILE"}
    return kinds.get(field.annotation, "TEXT")


@click.command("run", cls=_TakesSettings)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings, named as here with _ for -.")
def command(config: Path | None, **settings: Any) -> int:
    """Run the daemon until SIGTERM or Ctrl-C.

    Each setting may also stand in the environment (its variable is named in brackets) or in the --config file; the
    command line is strongest, then the environment. SETPOINT_BROKER_FILE and SETPOINT_BROKER_PASSWORD_FILE name
    files that hold those two.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    found = Settings.load(given, config)
    if not (found.data_dir / DATABASE).exists():
        raise OperatorError(f"no store in {found.data_dir}: make one with `setpointd init --data-dir {found.data_dir}`")
    # Until the daemon listens for it, Ctrl-C ends the process at once. Python's own way, an exception wherever the main
    # thread is just then, could leave a lock held that the daemon waits for ever after.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return app.main(found)
