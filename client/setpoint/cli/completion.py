"""``setpoint completion``, and what it asks the daemon for: names of services and profiles, quickly or not at all."""

import os
import re

import click

from setpoint.cli.connection import run
from setpoint.cli.exits import Failed
from setpoint.cli.options import Options

SHELLS = ("bash", "zsh", "fish")
_PATIENCE_S = 1.0
_MOST = 1000
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")

_HOW = {
    "bash": 'eval "$(setpoint completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(setpoint completion zsh)"    in ~/.zshrc, behind compinit',
    "fish": "setpoint completion fish >~/.config/fish/completions/setpoint.fish",
}


@click.command("completion", epilog="\b\n" + "\n".join(_HOW.values()))
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion of a shell, which asks the daemon for names of services and profiles.

    It goes by the context in use and the environment, and completes nothing when the daemon does not answer in a
    second.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "setpoint", "_SETPOINT_COMPLETE").source())


def services(options: Options, begin: str) -> list[str]:
    """Return the names of services that begin so; none when the daemon does not answer."""
    found = _ask(options, "list", {"prefix": begin, "limit": _MOST})
    return [one["service"] for one in found.get("services", [])]


def profiles(options: Options, begin: str) -> list[str]:
    """Return the names of profiles that begin so; none when the daemon does not answer.

    Bash puts them into the line as they are, so those that mean something else to it are left out there.
    """
    found = _ask(options, "profile/list", {})
    names = [one["name"] for one in found.get("profiles", []) if one["name"].startswith(begin)]
    if os.environ.get("_SETPOINT_COMPLETE", "").startswith("bash"):
        return [name for name in names if _PLAIN.fullmatch(name)]
    return names


def _ask(options: Options, command: str, params: dict[str, object]) -> dict[str, list[dict[str, str]]]:
    options.timeout, options.print_mqtt = _PATIENCE_S, False
    try:
        return run(options, lambda session: session.call(command, params))
    except (Failed, OSError):
        return {}
