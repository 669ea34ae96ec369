"""``setpointd``, the command: which commands there are, and how they end.

Rules:

- An error is one line on standard error and a non-zero exit code: 2 for a command line that does not fit, else the
  error's own.
- A command's module is imported when the command is used. Asking for help or the version loads none of them.
- Nothing that is made can be read by others, whatever umask the caller had.
"""

import gc
import importlib
import os
import sqlite3
import sys
from types import ModuleType
from typing import cast

import click
from typing_extensions import override

from setpointd import __version__

COMMANDS = {
    "init": ("setpointd.operator.init", "Make a new store with its keys and a first admin token."),
    "run": ("setpointd.operator.run", "Run the daemon until SIGTERM or Ctrl-C."),
    "dev": ("setpointd.operator.dev", "Try it out: a private broker and the daemon, until Ctrl-C."),
    "token": ("setpointd.operator.tokens", "Make, import, list and revoke tokens."),
    "verify": ("setpointd.operator.verify", "Prove that a store is as it was written."),
    "epoch": ("setpointd.operator.epoch", "Make a store the truth after two have parted."),
}
"""Every command: the module that holds it as ``command``, and what it does."""

PRIVATE_UMASK = 0o077
INTERRUPTED = 128 + 2  # as a shell reports a process that SIGINT ended


class _Commands(click.Group):
    """Finds its commands in ``COMMANDS``, and turns what they raise into one line."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        return cast("click.Command", _imported(module).command)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in COMMANDS.items()])

    @override
    def invoke(self, ctx: click.Context) -> object:
        from setpointd.errors import SetpointdError  # noqa: PLC0415 - slow to import, and not for --help or --version

        try:
            return super().invoke(ctx)
        except SetpointdError as error:
            return _fail(str(error.args[0]), getattr(error, "exit_code", 1))
        except KeyboardInterrupt:
            return _fail("interrupted", INTERRUPTED)
        except sqlite3.Error as error:
            return _fail(f"the store cannot be used: {error}", 1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def setpointd() -> None:
    """Keep the configuration of services: signed commands in over MQTT, durable versions and retained updates out.

    `setpointd dev` needs no preparation. For an installation: `setpointd init`, then `setpointd run`.
    """


def main() -> int:
    """Run the command line of this process and return its exit code."""
    os.umask(PRIVATE_UMASK)
    try:
        return cast("int | None", setpointd.main(prog_name="setpointd", standalone_mode=False)) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return _fail(_one_line(error), error.exit_code)
    except click.Abort:
        return _fail("interrupted", INTERRUPTED)
    except OSError as error:
        named = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return _fail(named + (error.strerror or str(error)), 1)


def _imported(module: str) -> ModuleType:
    """Import the module of a command with all that it needs, which is most of what a start takes.

    What is imported stays, so nobody looks through it for garbage, now or later. And ``structlog`` is kept from taking
    ``rich`` along where that happens to be installed: 3 MiB, for tracebacks that no line of ours shows.
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # None: as if it were not there
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def _one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{message.rstrip('.')} (see `{error.ctx.command_path} --help`)"
    return message


def _fail(message: str, exit_code: int) -> int:
    click.echo(f"setpointd: {message}", err=True)
    if sys.stdout is not None:  # what could not be written must not fail once more, with a traceback, at the very end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return exit_code
