"""``setpoint profile``: what services hold, kept under a name, and the way back to it."""

from typing import Any

import click

from setpoint.cli.connection import Session, ask, run
from setpoint.cli.options import Group, Options, Profile, Service, pass_options, reason
from setpoint.cli.output import Table, show, typed
from setpoint.cli.times import local
from setpoint.cli.writing import carry_out, finish


@click.group("profile", cls=Group)
def profile() -> None:
    """Keep what services hold now under a name, and go back to it."""


@profile.command("save")
@click.argument("name", type=Profile())
@click.argument("services", nargs=-1, type=Service(), metavar="[SERVICE]...")
@click.option("--description", metavar="TEXT", help="What it is for.")
@click.option("--overwrite", is_flag=True, help="Replace a profile of this name.")
@pass_options
def save(options: Options, name: str, services: tuple[str, ...], description: str | None, *, overwrite: bool) -> None:
    """Keep what the services hold now under NAME; all of them, unless some are named."""
    params = {
        "name": name,
        "services": list(services) or None,
        "description": description,
        "overwrite": overwrite or None,
    }
    _show_one(options, ask(options, "profile/save", params))


@profile.command("list")
@pass_options
def list_(options: Options) -> None:
    """List the profiles."""
    found = ask(options, "profile/list")
    rows = [
        (one["name"], one["services"], local(one["updated_at"]), one["updated_by"], one["description"] or "")
        for one in found["profiles"]
    ]
    table = Table(("PROFILE", "SERVICES", "SAVED", "BY", "DESCRIPTION"), rows, styles={0: "bold"}, whole=frozenset({2}))
    show(options, found, table, raw=[one["name"] for one in found["profiles"]])


@profile.command("show")
@click.argument("name", type=Profile())
@pass_options
def show_(options: Options, name: str) -> None:
    """Show what a profile holds."""
    found = ask(options, "profile/get", {"name": name})
    rows = [
        (service, key, typed(value))
        for service, config in found["snapshot"].items()
        for key, value in (config or {"": None}).items()
    ]
    heading = f"{found['name']} · {found['services']} services · {local(found['updated_at'])} · {found['updated_by']}"
    show(options, found, Table(("SERVICE", "KEY", "VALUE"), rows, heading=heading, styles={0: "bold"}))


@profile.command("delete")
@click.argument("name", type=Profile())
@pass_options
def delete(options: Options, name: str) -> None:
    """Delete a profile. The services stay as they are."""
    _show_one(options, ask(options, "profile/delete", {"name": name}))


@profile.command("load")
@click.argument("name", type=Profile())
@click.option("--exact", is_flag=True, help="Delete the services that the profile lacks, too.")
@reason
@pass_options
def load(options: Options, name: str, reason: str | None, *, exact: bool, dry_run: bool, quiet: bool) -> None:
    """Bring the services to what a profile holds: all of them or none."""
    params = {"name": name, "exact": exact or None, "reason": reason}

    async def work(session: Session) -> dict[str, Any]:
        return await carry_out(session, "profile/load", params, dry_run=dry_run, quiet=quiet)

    finish(options, [run(options, work)])


def _show_one(options: Options, found: dict[str, Any]) -> None:
    row = (found["name"], found["services"], found["revision"], local(found["updated_at"]), found["updated_by"])
    show(options, found, Table(("PROFILE", "SERVICES", "REVISION", "SAVED", "BY"), [row], styles={0: "bold"}))
