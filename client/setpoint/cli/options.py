"""What every command takes: which broker and token, how long to wait, and in which form to answer.

These options may stand before the command or behind it. What is not given comes from the context, or else from the
environment (``setpoint.cli.contexts`` says in which order).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

FORMS = ("table", "json", "yaml", "raw")
DEFAULT_TIMEOUT_S = 5.0
_LEAST_TIMEOUT_S = 0.1
_SEVERAL_REQUESTS = frozenset({"doctor", "edit", "export", "import", "wait", "watch"})
F = TypeVar("F", bound=Callable[..., Any])


class Number(click.ParamType[float]):
    """A number within bounds; click's own writes them behind every option, where nobody needs them."""

    name = "number"

    def __init__(self, least: float, most: float | None = None, of: type[int | float] = int) -> None:
        self._least, self._most, self._of = least, most, of

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the number."""
        try:
            found = self._of(value)
        except ValueError:
            self.fail(f"{value!r} is no {'whole number' if self._of is int else 'number'}", param, ctx)
        if not self._least <= found <= (math.inf if self._most is None else self._most):
            until = "" if self._most is None else f" and at most {self._most}"
            self.fail(f"{value} is out of range: it is at least {self._least}{until}", param, ctx)
        return found


@dataclass
class Options:
    """What was given on the command line; None: nothing."""

    broker: str | None = None
    token: str | None = None
    prefix: str | None = None
    context: str | None = None
    timeout: float | None = None
    output: str | None = None
    print_mqtt: bool = False

    @property
    def timeout_s(self) -> float:
        """For how many seconds a command waits for its answer."""
        return DEFAULT_TIMEOUT_S if self.timeout is None else self.timeout


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    options = ctx.ensure_object(Options)
    if value is not None and param.name is not None:
        setattr(options, param.name, value)


def _complete_contexts(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from setpoint.cli.contexts import names

    return [CompletionItem(name) for name in names() if name.startswith(incomplete)]


def _common(default_timeout_s: float = DEFAULT_TIMEOUT_S) -> list[click.Option]:
    return [
        click.Option(
            ["--broker"],
            metavar="URL",
            expose_value=False,
            callback=_keep,
            help="mqtt[s]://, ws[s]://, host and port. [SETPOINT_BROKER_URL; mqtt://127.0.0.1:1883]",
        ),
        click.Option(
            ["--token"],
            metavar="FILE",
            type=click.Path(),
            expose_value=False,
            callback=_keep,
            help="The token to sign with. [SETPOINT_TOKEN]",
        ),
        click.Option(
            ["--prefix"],
            expose_value=False,
            callback=_keep,
            help="What stands before every topic, e.g. site1/. [SETPOINT_TOPIC_PREFIX]",
        ),
        click.Option(
            ["--context"],
            metavar="NAME",
            expose_value=False,
            callback=_keep,
            shell_complete=_complete_contexts,
            help="Broker, token and prefix by a name: `setpoint context`. [SETPOINT_CONTEXT]",
        ),
        click.Option(
            ["--timeout"],
            metavar="SECONDS",
            type=Number(_LEAST_TIMEOUT_S, 86_400, of=float),
            expose_value=False,
            callback=_keep,
            help=f"How long to wait for an answer. [{default_timeout_s:g}]",
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(FORMS),
            expose_value=False,
            callback=_keep,
            help="The form of what is printed. [SETPOINT_OUTPUT; table]",
        ),
        click.Option(
            ["--print-mqtt"],
            is_flag=True,
            default=None,
            expose_value=False,
            callback=_keep,
            help="Print the mosquitto_rr line that does the same, signed for a minute, and send nothing.",
        ),
    ]


class Command(click.Command):
    """A command that takes the common options too, and shows them in a section of their own.

    ``default_timeout_s`` is what its help says of ``--timeout``.
    """

    def __init__(self, *args: Any, default_timeout_s: float = DEFAULT_TIMEOUT_S, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = {name for param in self.params for name in param.opts}
        self._common = [option for option in _common(default_timeout_s) if not own & set(option.opts)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, if what it prints can be printed: nothing is sent before that is known."""
        from setpoint.cli.output import form

        options = ctx.ensure_object(Options)
        form(options)
        if options.print_mqtt and self.name in _SEVERAL_REQUESTS:
            raise click.UsageError(
                f"--print-mqtt is for commands that are one request, and {self.name} is several", ctx
            )
        return super().invoke(ctx)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its own parameters, and the common ones."""
        return [*self.params, *self._common, *_help_of(self, ctx)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write its own options, then the common ones."""
        format_options(self, ctx, formatter, self._common)


class Group(click.Group):
    """A command with commands below it, all of which take the common options."""

    command_class = Command


def _help_of(command: click.Command, ctx: click.Context) -> list[click.Parameter]:
    option = command.get_help_option(ctx)
    return [] if option is None else [option]


def format_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter, common: list[click.Option]
) -> None:
    """Write a command's own options, then the common ones in a section of their own."""
    own = [param for param in command.params if isinstance(param, click.Option) and param not in common]
    for title, params in (("Options", [*own, *_help_of(command, ctx)]), ("Connection and output", common)):
        records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def common_options() -> list[click.Option]:
    """Make the common options, for the group at the top."""
    return _common()


pass_options = click.make_pass_decorator(Options, ensure=True)


class Service(click.ParamType[str]):
    """The name of a service, which a shell completes by asking the daemon."""

    name = "service"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Ask for the services whose name begins so; none when nobody answers in time."""
        from setpoint.cli.completion import services

        return [CompletionItem(name) for name in services(_options_of(ctx), incomplete)]


class Profile(click.ParamType[str]):
    """The name of a profile, which a shell completes by asking the daemon."""

    name = "profile"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Ask for the profiles whose name begins so; none when nobody answers in time."""
        from setpoint.cli.completion import profiles

        return [CompletionItem(name) for name in profiles(_options_of(ctx), incomplete)]


def _options_of(ctx: click.Context) -> Options:
    return ctx.find_object(Options) or Options()


def reason(command: F) -> F:
    """Add ``--reason``, ``--dry-run`` and ``--quiet``, which every change takes."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Do not show the difference."),
        click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing."),
        click.option("--reason", metavar="TEXT", help="Why; it stands in history and audit."),
    ):
        command = option(command)
    return command


def expect(command: F) -> F:
    """Add ``--expect``."""
    return click.option(
        "--expect",
        type=Number(0),
        metavar="N",
        help="Write only if the service is at version N; 0: only if there is none.",
    )(command)
