"""``setpoint doctor``, ``status`` and ``info``: whether all is as it should be, and what to do where it is not."""

import click

from setpoint.cli.checks import CODES, Check, examine
from setpoint.cli.connection import ask
from setpoint.cli.options import Command, Options, pass_options
from setpoint.cli.output import Table, cell, show, typed
from setpoint.cli.times import duration, local

_SIGNS = {"ok": "green", "warn": "magenta", "fail": "red"}


@click.command("info", cls=Command)
@pass_options
def info(options: Options) -> None:
    """Say what the daemon is, its commands and limits, and who you are to it."""
    found = ask(options, "info")
    rows = [(name, _shown(value)) for name, value in found.items() if name != "limits"]
    rows += [(name, cell(value)) for name, value in found.get("limits", {}).items()]
    show(options, found, Table(("", ""), rows, styles={0: "bold"}))


@click.command("status", cls=Command)
@pass_options
def status(options: Options) -> None:
    """Say how the daemon does: its mode, epoch and revision, and what waits."""
    found = ask(options, "status")
    shown = dict(found)
    if isinstance(found.get("uptime_s"), int | float):
        shown["uptime_s"] = duration(found["uptime_s"])
    if found.get("last_backup"):
        shown["last_backup"] = local(found["last_backup"])
    rows = [(name.removesuffix("_s"), _shown(value)) for name, value in shown.items()]
    show(options, found, Table(("", ""), rows, styles={0: "bold"}))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(cell(one) for one in value)
    return typed(value) if isinstance(value, dict) else cell(value)


@click.command("doctor", cls=Command)
@pass_options
def doctor(options: Options) -> None:
    """Check settings, token, broker, daemon, clock, permissions and round-trip time; say what to do where one fails.

    Exits 0 when nothing failed, else with the code of the first thing that did.
    """
    checks = examine(options)
    rows = [row for check in checks for row in _rows(check)]
    table = Table(("", "CHECK", "FOUND"), rows, styles={1: "bold"}, words=_SIGNS, whole=frozenset({0, 1}))
    show(
        options, {"ok": all(check.result != "fail" for check in checks), "checks": [vars(one) for one in checks]}, table
    )
    for check in checks:
        if check.result == "fail":
            raise click.exceptions.Exit(CODES[check.check])


def _rows(check: Check) -> list[tuple[str, str, str]]:
    todo = [("", "", f"do: {check.todo}")] if check.todo else []
    return [(check.result, check.check, check.found), *todo]
