"""``setpoint diff``, ``history`` and ``restore``: how configs came to be what they are, and the way back."""

import itertools
import re
import sys
from typing import Any

import click

from setpoint.cli import diffs
from setpoint.cli.connection import Session, run
from setpoint.cli.exits import Exit
from setpoint.cli.options import Command, Number, Options, Service, pass_options, reason
from setpoint.cli.output import Table, cell, form, is_terminal, show, typed
from setpoint.cli.times import Moment, local
from setpoint.cli.writing import carry_out, finish

_POINT = re.compile(r"(?:(?P<kind>version|v|revision|r|time|t|profile|p):)?(?P<rest>.+)", re.DOTALL)
_KINDS = {"v": "version", "r": "revision", "t": "time", "p": "profile"}
_DEFAULT_ENTRIES = 100


class Point(click.ParamType[dict[str, Any]]):
    """Which state of a service: a version, or ``revision:N``, ``time:T`` or ``profile:NAME``."""

    name = "point"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Read a point as the wire has it."""
        found = _POINT.fullmatch(value)
        kind, rest = (found["kind"] or "version", found["rest"]) if found else ("version", value)
        kind = _KINDS.get(kind, kind)
        if kind == "profile":
            return {kind: rest}
        if kind == "time":
            return {kind: Moment().convert(rest, param, ctx)}
        if not rest.isdecimal() or not rest.isascii():
            self.fail(f"{value!r} is no version; write N, revision:N, time:TIME or profile:NAME", param, ctx)
        return {kind: int(rest)}


@click.command("diff", cls=Command)
@click.argument("service", type=Service())
@click.option("--from", "from_", type=Point(), metavar="POINT", help="The one side. [the version before]")
@click.option("--to", type=Point(), metavar="POINT", help="The other side. [the newest version]")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing: only exit 0 or 1.")
@pass_options
def diff(
    options: Options, service: str, from_: dict[str, Any] | None, to: dict[str, Any] | None, *, quiet: bool
) -> None:
    """Compare what SERVICE was at two points; exits 0 when they are the same, 1 when they differ.

    A POINT is a version, or revision:N, time:TIME (RFC 3339, local, or 2h ago as 2h), or profile:NAME.
    """
    if options.print_mqtt and (from_ is None or to is None):
        raise click.UsageError("--print-mqtt is for one request: give --from and --to")

    async def work(session: Session) -> dict[str, Any]:
        end = to or {"version": await _newest(session, service)}
        start = from_ or _before(end["version"] if "version" in end else await _newest(session, service))
        return await session.call("diff", {"service": service, "from": start, "to": end})

    found = run(options, work)
    if quiet:
        pass
    elif form(options) == "table":
        diffs.tell(_title(found), found["diff"], err=False)
    else:
        show(options, found, Table((), []), raw=diffs.lines(found["diff"]))
    if found["diff"]:
        raise click.exceptions.Exit(Exit.DIFFERS)


async def _newest(session: Session, service: str) -> int:
    page = await session.call("history/versions", {"service": service, "limit": 1})
    return int(page["versions"][0]["version"])


def _before(version: int) -> dict[str, Any]:
    return {"version": version - 1} if version > 1 else {"revision": 0}  # when there was nothing yet


def _title(found: dict[str, Any]) -> str:
    sides = [
        f"version {side['version']}" + (" (deleted)" if side.get("deleted") and side["version"] else "")
        for side in (found["from"], found["to"])
    ]
    return f"{found['service']} {sides[0]} → {sides[1]}" + ("" if found["diff"] else ": the same")


@click.command("history", cls=Command)
@click.argument("service", type=Service(), required=False)
@click.option("--versions", is_flag=True, help="List the versions of SERVICE instead of the changes of its keys.")
@click.option("--key", metavar="KEY", help="Only changes of this top-level key.")
@click.option("--user", metavar="NAME", help="Only what this principal changed.")
@click.option("--since", type=Moment(), metavar="TIME", help="From this time on: RFC 3339, local, or 2h ago as 2h.")
@click.option("--until", type=Moment(), metavar="TIME", help="Before this time.")
@click.option("--limit", type=Number(1), metavar="N", help=f"At most so many. [{_DEFAULT_ENTRIES}]")
@pass_options
def history(
    options: Options,
    service: str | None,
    key: str | None,
    user: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    *,
    versions: bool,
) -> None:
    """Show who changed what and when, newest first; of SERVICE or of all."""
    if versions:
        if service is None or key or user or since or until:
            raise click.UsageError("--versions takes a SERVICE, and --limit")
        _versions(options, service, limit or _DEFAULT_ENTRIES)
        return
    params = {"service": service, "key": key, "user": user, "since": since, "until": until}

    async def work(session: Session) -> list[dict[str, Any]]:
        found = await session.pages("history/query", params, "entries", "before", limit or _DEFAULT_ENTRIES)
        if service is not None and not found:
            await _newest(session, service)  # an error if there never was such a service
        return found

    entries = run(options, work)
    if not entries and form(options) == "table":
        click.echo("there is no such change", err=True)
    if form(options) == "table" and is_terminal(sys.stdout):
        _tell(entries)
        return
    columns = ("WHEN", "SERVICE", "VERSION", "CHANGE", "BY", "REASON")
    rows = [_row(entry) for entry in entries]
    show(options, {"entries": entries}, Table(columns, rows, whole=frozenset({0})))


def _tell(entries: list[dict[str, Any]]) -> None:
    """Print entries as the differences that versions made, each under its head: a table would be too narrow."""
    for _, group in itertools.groupby(entries, lambda entry: (entry["service"], entry["version"])):
        changes = list(group)
        first = changes[0]
        head = f"{first['service']} version {first['version']} · {local(first['changed_at'])} · {first['changed_by']}"
        found = [{**change, "path": f"/{change['key']}"} for change in reversed(changes)]
        diffs.tell(head + (f" · {cell(first['reason'])}" if first["reason"] else ""), found, err=False)


def _row(entry: dict[str, Any]) -> tuple[Any, ...]:
    old, new = (typed(entry[side]) if side in entry else "(none)" for side in ("old", "new"))
    change = f"{entry['key']}: {old} → {new}"
    return (
        local(entry["changed_at"]),
        entry["service"],
        entry["version"],
        change,
        entry["changed_by"],
        entry["reason"] or "",
    )


def _versions(options: Options, service: str, limit: int) -> None:
    async def work(session: Session) -> list[dict[str, Any]]:
        return await session.pages("history/versions", {"service": service}, "versions", "before", limit)

    found = run(options, work)
    rows = [
        (
            one["version"],
            one["revision"],
            local(one["updated_at"]),
            one["updated_by"],
            "deleted" if one.get("deleted") else "",
            one["reason"] or "",
        )
        for one in found
    ]
    table = Table(("VERSION", "REVISION", "WHEN", "BY", "", "REASON"), rows, whole=frozenset({2}))
    show(options, {"versions": found}, table)


@click.command("restore", cls=Command)
@click.argument("services", nargs=-1, type=Service(), metavar="[SERVICE]...")
@click.option("--all", "everything", is_flag=True, help="All services that the store knows.")
@click.option("--version", type=Number(1), metavar="N", help="To this version, of one service.")
@click.option("--revision", type=Number(0), metavar="N", help="To what was at this revision of the store.")
@click.option(
    "--time", type=Moment(), metavar="TIME", help="To what was at this time: RFC 3339, local, or 2h ago as 2h."
)
@reason
@pass_options
def restore(  # noqa: PLR0913 - the wire has as many parameters
    options: Options,
    services: tuple[str, ...],
    version: int | None,
    revision: int | None,
    time: str | None,
    reason: str | None,
    *,
    everything: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Make services what they were: new versions with the old content, all of them or none."""
    if bool(services) == everything:
        raise click.UsageError("name the services, or give --all")
    if sum(point is not None for point in (version, revision, time)) != 1:
        raise click.UsageError("give one of --version, --revision and --time")
    if version is not None and len(services) != 1:
        raise click.UsageError("--version is of one service: give --revision or --time for several")
    params = {
        "services": list(services) or None,
        "version": version,
        "revision": revision,
        "time": time,
        "reason": reason,
    }

    async def work(session: Session) -> dict[str, Any]:
        return await carry_out(session, "history/restore", params, dry_run=dry_run, quiet=quiet)

    finish(options, [run(options, work)])
