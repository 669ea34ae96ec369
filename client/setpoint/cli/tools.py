"""``setpoint call`` and ``setpoint sign``: any command, sent or only signed."""

import sys
from typing import Any

import click

from setpoint.cli.connection import ask, signer
from setpoint.cli.exits import Failed, complain
from setpoint.cli.options import Command, Number, Options, pass_options
from setpoint.cli.output import Table, cell, is_terminal, show, typed
from setpoint.cli.values import json_object


@click.command("call", cls=Command)
@click.argument("command")
@click.argument("params", required=False)
@pass_options
def call(options: Options, command: str, params: str | None) -> None:
    """Send COMMAND, e.g. profile/list, with PARAMS: a JSON object, @FILE or -; and print the result.

    contracts/commands.md has all commands, `setpoint info` those of your daemon.
    """
    result = ask(options, command, json_object(params, "PARAMS"))
    options.output = options.output or "json"
    show(options, result, members(result))


def members(result: dict[str, Any]) -> Table:
    """Make a table of the members of a result."""
    return Table(("", ""), [(name, _short(value)) for name, value in result.items()], styles={0: "bold"})


def _short(value: Any) -> str:
    return typed(value) if isinstance(value, dict | list) else cell(value)


def _warn_of_unknown(command: str) -> None:
    from difflib import get_close_matches

    from setpoint_contracts import COMMANDS

    if command not in COMMANDS:
        meant = get_close_matches(command, COMMANDS, 1)
        complain(f"no command {command} is known here" + (f"; did you mean {meant[0]}?" if meant else ""))


@click.command("sign", cls=Command)
@click.argument("command")
@click.argument("params", required=False)
@click.option("--jti", metavar="ID", help="The request's id, under which it takes effect once. [a random one]")
@click.option("--lifetime", type=Number(1, 86_400, of=float), default=60.0, metavar="SECONDS", help="[60]")
@click.option("--reply-to", metavar="TOPIC", help="Where to answer. [config/reply/NAME/JTI]")
@click.option("--no-reply", is_flag=True, help="Ask for no answer.")
@pass_options
def sign(
    options: Options,
    command: str,
    params: str | None,
    jti: str | None,
    lifetime: float,
    reply_to: str | None,
    *,
    no_reply: bool,
) -> None:
    """Sign COMMAND with PARAMS (a JSON object, @FILE or -) and print it: one line, for `mosquitto_pub -s`.

    It is to be published on config/cmd/COMMAND (below the topic prefix), and can be sent until it expires; whoever has
    it can send it, once with effect.
    """
    from setpoint_contracts import sign_command

    _, settings, token = signer(options)
    if no_reply and reply_to is not None:
        raise click.UsageError("--no-reply and --reply-to exclude each other")
    if reply_to is not None and (why := settings.topics.reply_refusal(token.name, reply_to)):
        raise Failed(f"--reply-to: {why}")
    answer: dict[str, Any] = {"reply_to": reply_to} if no_reply or reply_to is not None else {}
    given = json_object(params, "PARAMS")
    _warn_of_unknown(command)
    signed = sign_command(token, command, given, jti=jti, lifetime_s=lifetime, topics=settings.topics, **answer)
    if is_terminal(sys.stdout):
        click.echo(f"for the topic {settings.topics.command(command)}, within {lifetime:g} s", err=True)
    click.echo(signed)
