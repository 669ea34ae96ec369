"""``setpoint``, the command: which commands there are, where they are, and how they end.

Rules:

- Data goes to standard output, everything else to standard error.
- An error is one line that says what, and perhaps one that says what to do; never a traceback. ``exits`` has the codes.
- A command's module is imported when the command is used, and what is slow to import when it is needed: ``--help``
  loads neither the client nor the contracts, and nobody loads what draws tables for a pipe.
"""

import contextlib
import gc
import importlib
import io
import os
import sys
from typing import Any, cast

import click
from click.shell_completion import CompletionItem

from setpoint.cli.exits import Exit, Failed, complain
from setpoint.cli.options import Options, common_options, format_options

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Configs": {
        "get": ("configs:get", "Show the config of a service, now or as it was."),
        "list": ("configs:list_", "List services."),
        "search": ("configs:search", "Find keys by a text in their name or value."),
        "set": ("writing:set_", "Replace the whole config of a service."),
        "patch": ("writing:patch", "Change some keys of a config, and leave the rest."),
        "delete": ("writing:delete", "Delete a service; its history stays."),
        "edit": ("editing:edit", "Edit a config in your editor."),
        "apply": ("writing:apply", "Change several services at once: all of it or nothing."),
    },
    "History": {
        "diff": ("past:diff", "Compare what a service was at two points."),
        "history": ("past:history", "Show who changed what, and when."),
        "restore": ("past:restore", "Make configs what they were."),
        "profile": ("profiles:profile", "Keep what services hold under a name, and go back to it."),
    },
    "Following": {
        "watch": ("following:watch", "Follow configs, and run a command at each change."),
        "wait": ("following:wait", "Wait until the instances of a service run a version."),
    },
    "Administration": {
        "status": ("diagnosis:status", "Say how the daemon does."),
        "info": ("diagnosis:info", "Say what the daemon is, its limits, and who you are to it."),
        "doctor": ("diagnosis:doctor", "Find out what is wrong, and what to do about it."),
        "schema": ("admin:schema", "Say what a config has to look like."),
        "token": ("tokens:token", "Make, list, replace and revoke tokens."),
        "audit": ("admin:audit", "Read the audit log."),
        "backup": ("admin:backup", "Have the daemon make a snapshot of its store."),
        "export": ("exporting:export", "Write all configs, profiles and schemas to a file."),
        "import": ("importing:import_", "Bring a daemon to what such a file holds."),
    },
    "Tools": {
        "call": ("tools:call", "Send any command by its name."),
        "sign": ("tools:sign", "Print a signed command, for another MQTT client to publish."),
        "context": ("contexts:context", "Keep brokers and tokens under names."),
        "completion": ("completion:completion", "Print the completion of a shell."),
    },
}
"""Every command: module and attribute, and what it does."""

COMMANDS = {name: found for section in SECTIONS.values() for name, found in section.items()}


class _Commands(click.Group):
    """Finds its commands in ``COMMANDS``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._common = common_options()
        self.params.extend(self._common)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        return cast("click.Command", getattr(importlib.import_module(f"setpoint.cli.{module}"), attribute))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; click's own way suggests only what is imported already."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the command line, which prints help and version, too."""
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError:
            raise click.exceptions.Exit(Exit.BROKEN_PIPE) from None

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # before click makes 1 of it, which means something here
            raise click.exceptions.Exit(Exit.BROKEN_PIPE) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, purpose) for name, (_, purpose) in commands.items()])
        format_options(self, ctx, formatter, self._common)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command without importing any; click's own way imports them all for their help."""
        if incomplete.startswith("-"):
            return super(click.Group, self).shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=purpose) for name, (_, purpose) in COMMANDS.items() if name.startswith(incomplete)
        ]


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"setpoint {version('setpoint')}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.pass_context
def setpoint(ctx: click.Context) -> None:
    """Read, write and follow the configuration of services, over MQTT.

    Values are KEY=VALUE (JSON if it can be read as JSON, else text), @FILE (YAML, TOML or JSON) or - for standard
    input. `setpoint doctor` says whether broker, token and daemon are as they should be.
    """
    ctx.ensure_object(Options)


def run() -> int:
    """Run the command line of this process and return its exit code."""
    gc.disable()  # what is imported stays; looking through it for garbage would only cost time
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() not in {"utf-8", "utf8"}:
            stream.reconfigure(errors="backslashreplace")
    return _closed(_run())


def _run() -> int:  # noqa: PLR0911 - each way to end is one
    try:
        return cast("int | None", setpoint.main(prog_name="setpoint", standalone_mode=False)) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
    except Failed as error:
        complain(error.format_message(), error.todo)
        return error.ending
    except click.ClickException as error:
        return _misused(error)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except OSError as error:
        named = f"{error.filename}: " if isinstance(error.filename, str) else ""
        complain(named + (error.strerror or str(error)))
        return Exit.USAGE
    except Exception as error:  # the edge: a fault of this program is a line, too
        if os.environ.get("SETPOINT_DEBUG"):
            raise
        complain(f"a fault of this program: {_where(error)}", "SETPOINT_DEBUG=1 shows all of it; please report it")
        return Exit.REFUSED


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"


def _misused(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    todo = f"see `{context.command_path} --help`" if context is not None else None
    complain(error.format_message().rstrip("."), todo)
    return error.exit_code


def _closed(code: int) -> int:
    """Write out what is left; a reader that has gone is no error, and no reason for a traceback at the very end."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    if sys.stdout is None:
        return code
    try:
        with contextlib.suppress(ValueError):  # closed already
            sys.stdout.flush()
    except BrokenPipeError:
        code = Exit.BROKEN_PIPE
    except OSError as error:
        complain(f"the output could not be written: {error.strerror}")
        code = code or Exit.USAGE
    if code:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(code)
