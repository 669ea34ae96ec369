"""``setpoint schema``, ``audit`` and ``backup``."""

from typing import Any

import click

from setpoint.cli.connection import Session, ask, run
from setpoint.cli.exits import complain
from setpoint.cli.options import Command, Group, Number, Options, Service, pass_options
from setpoint.cli.output import Table, form, show, show_json, typed
from setpoint.cli.times import Moment, local
from setpoint.cli.tools import members
from setpoint.cli.values import json_object


@click.group("schema", cls=Group)
def schema() -> None:
    """Say what the config of a service has to look like, as a JSON Schema (2020-12)."""


@schema.command("set")
@click.argument("service", type=Service())
@click.argument("file", metavar="FILE|-")
@click.option("--force", is_flag=True, help="Set it although the current config does not fit.")
@pass_options
def set_(options: Options, service: str, file: str, *, force: bool) -> None:
    """Hold every write of SERVICE against the schema in FILE (JSON, YAML or TOML) from now on."""
    content = json_object(file if file == "-" or file.startswith("@") else f"@{file}", file)
    found = ask(options, "schema/set", {"service": service, "schema": content, "force": force or None})
    for one in found["failing"]:
        complain(f"{service} does not fit it at {one['pointer'] or '(all)'}: {one['message']}")
    if found["concealed"]:
        complain(f"some of {service} is a secret from now on; its old versions are sealed, too")
    _show_one(options, found, "unchanged" if found["changed"] is False else "set")


@schema.command("get")
@click.argument("service", type=Service())
@pass_options
def get(options: Options, service: str) -> None:
    """Print the schema of SERVICE."""
    found = ask(options, "schema/get", {"service": service})
    if form(options) == "table":
        show_json(found["schema"])
    else:
        show(options, found, Table((), []), raw=typed(found["schema"]))


@schema.command("list")
@pass_options
def list_(options: Options) -> None:
    """List which services have a schema."""

    async def work(session: Session) -> list[dict[str, Any]]:
        return await session.pages("schema/list", {}, "schemas", "after", None)

    schemas = run(options, work)
    rows = [(one["service"], local(one["updated_at"]), one["updated_by"]) for one in schemas]
    table = Table(("SERVICE", "UPDATED", "BY"), rows, styles={0: "bold"}, whole=frozenset({1}))
    show(options, {"schemas": schemas}, table, raw=[one["service"] for one in schemas])


@schema.command("delete")
@click.argument("service", type=Service())
@pass_options
def delete(options: Options, service: str) -> None:
    """Remove the schema of SERVICE; its config stays as it is."""
    _show_one(options, ask(options, "schema/delete", {"service": service}), "removed")


def _show_one(options: Options, found: dict[str, Any], what: str) -> None:
    row = (found["service"], what, local(found["updated_at"]), found["updated_by"])
    show(options, found, Table(("SERVICE", "SCHEMA", "UPDATED", "BY"), [row]))


@click.command("audit", cls=Command)
@click.option("--action", metavar="ACTION", help="Only this, e.g. update_config or permission_denied.")
@click.option("--user", metavar="NAME", help="Only what this principal did, or was denied.")
@click.option("--service", type=Service(), metavar="SERVICE", help="Only what was done to this one.")
@click.option("--since", type=Moment(), metavar="TIME", help="From this time on: RFC 3339, local, or 2h ago as 2h.")
@click.option("--until", type=Moment(), metavar="TIME", help="Before this time.")
@click.option("--limit", type=Number(1), default=100, metavar="N", help="At most so many. [100]")
@pass_options
def audit(
    options: Options,
    action: str | None,
    user: str | None,
    service: str | None,
    since: str | None,
    until: str | None,
    limit: int,
) -> None:
    """Read the audit log, newest first."""
    params = {"action": action, "user": user, "service": service, "since": since, "until": until}

    async def work(session: Session) -> list[dict[str, Any]]:
        return await session.pages("audit/query", params, "events", "before", limit)

    events = run(options, work)
    rows = [
        (
            local(one["timestamp"]),
            one["action"],
            one["user"],
            one.get("service") or "",
            ", ".join(f"{name}={typed(value)}" for name, value in one["details"].items()),
        )
        for one in events
    ]
    table = Table(("WHEN", "ACTION", "BY", "SERVICE", "DETAILS"), rows, whole=frozenset({0}))
    show(options, {"events": events}, table)


@click.command("backup", cls=Command)
@pass_options
def backup(options: Options) -> None:
    """Have the daemon make a snapshot of its store, in its data directory."""
    found = ask(options, "backup")
    show(options, found, members(found))
