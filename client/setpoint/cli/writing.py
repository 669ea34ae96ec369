"""``setpoint set``, ``patch``, ``delete`` and ``apply``: changes, with the difference shown before it is made.

What would change is asked for with ``dry_run``, and shown on standard error. Another may write in between: then what
did change is shown, too.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from setpoint.cli import diffs, values
from setpoint.cli.configs import heading
from setpoint.cli.connection import Refused, Session, run
from setpoint.cli.exits import Exit, Failed
from setpoint.cli.options import Command, Options, Service, expect, pass_options, reason
from setpoint.cli.output import Table, form, is_terminal, show
from setpoint.cli.values import config

Json = dict[str, Any]


@click.command("set", cls=Command)
@click.argument("service", type=Service())
@click.argument("values", nargs=-1, required=True, metavar="KEY=VALUE|@FILE|-...")
@expect
@reason
@pass_options
def set_(
    options: Options,
    service: str,
    values: tuple[str, ...],
    expect: int | None,
    reason: str | None,
    *,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Replace the whole config of SERVICE. Keys that are not given are gone: to keep them, use `setpoint patch`."""
    params = {"service": service, "config": config(values), "expected_version": expect, "reason": reason}
    write(options, "set", params, dry_run=dry_run, quiet=quiet)


@click.command("patch", cls=Command)
@click.argument("service", type=Service())
@click.argument("values", nargs=-1, required=True, metavar="KEY=VALUE|@FILE|-...")
@expect
@reason
@pass_options
def patch(
    options: Options,
    service: str,
    values: tuple[str, ...],
    expect: int | None,
    reason: str | None,
    *,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Change some keys of SERVICE (a JSON Merge Patch): KEY=null removes a key, objects are merged, the rest stays."""
    params = {"service": service, "patch": config(values), "expected_version": expect, "reason": reason}
    write(options, "patch", params, dry_run=dry_run, quiet=quiet)


@click.command("delete", cls=Command)
@click.argument("service", type=Service())
@expect
@reason
@pass_options
def delete(
    options: Options, service: str, expect: int | None, reason: str | None, *, dry_run: bool, quiet: bool
) -> None:
    """Delete SERVICE. Its history stays, and `setpoint restore` brings it back."""
    params = {"service": service, "expected_version": expect, "reason": reason}

    async def work(session: Session) -> Json:
        if not quiet and not session.is_printing:
            current = await _asked_before(session, "get", {"service": service})
            gone = [{"op": "remove", "path": f"/{key}", "old": old} for key, old in (current["config"] or {}).items()]
            diffs.tell(f"{service} version {current['version']}, to be deleted", gone)
        return await session.call("delete", {**params, "dry_run": dry_run or None})

    finish(options, [run(options, work)])


def write(options: Options, command: str, params: Mapping[str, Any], *, dry_run: bool, quiet: bool) -> None:
    """Show what a change would do, then do it, and print what became of it."""

    async def work(session: Session) -> Json:
        return await carry_out(session, command, params, dry_run=dry_run, quiet=quiet)

    finish(options, [run(options, work)])


async def carry_out(session: Session, command: str, params: Mapping[str, Any], *, dry_run: bool, quiet: bool) -> Json:
    """Show what a change would do, then do it, unless it is not to be done; its result."""
    if dry_run and session.is_printing:
        return await session.call(command, {**params, "dry_run": True})
    shown: list[Json] = []
    if (dry_run or not quiet) and not session.is_printing:
        would = await _asked_before(session, command, {**params, "dry_run": True})
        shown = changes(would)
        if not quiet:
            tell(shown)
        if dry_run:
            return would
    done = await session.call(command, params)
    if not quiet and _differences(changes(done)) != _differences(shown):
        click.echo("setpoint: others wrote meanwhile; this is what has changed:", err=True)
        tell(changes(done))
    return done


async def _asked_before(session: Session, command: str, params: Mapping[str, Any]) -> Json:
    """Ask for what is shown before a change; when no answer comes, say that there was no change yet."""
    from setpoint.errors import Unreachable

    try:
        return await session.call(command, params)
    except Unreachable as error:
        raise Refused(error, before="nothing was changed: ") from None


def changes(result: Json) -> list[Json]:
    """Return what became of each service: a result of one change, or of several."""
    found: list[Json] = result.get("results", [result])
    return found


def _differences(results: Sequence[Json]) -> list[Any]:
    return [one.get("diff") for one in results]


def tell(results: Sequence[Json]) -> None:
    """Show the differences of each service on standard error."""
    for one in results:
        if one.get("diff"):
            diffs.tell(_title(one), one["diff"])
        elif one.get("changed") is False:
            click.echo(f"{one['service']} version {one['version']}: nothing changes", err=True)
        elif one.get("deleted"):
            click.echo(f"{_title(one)}: deleted", err=True)


def _title(result: Json) -> str:
    before = result["version"] - 1
    return f"{result['service']} " + (f"version {before} → {result['version']}" if before else "(new)")


def finish(options: Options, results: Sequence[Json]) -> None:
    """Print the results of changes: the whole of them, or for people a line each."""
    whole = results[0] if len(results) == 1 else {"results": list(results)}
    each = [change for result in results for change in changes(result)]
    dry_run = any(result.get("dry_run") for result in results)
    if form(options) == "table" and not each:
        click.echo("nothing would change" if dry_run else "nothing was changed", err=True)
    elif form(options) == "table" and is_terminal(sys.stdout):
        for one in each:
            click.echo(_sentence(one, dry_run=dry_run))
    else:
        rows = [(one["service"], one["version"], _what(one, dry_run=dry_run)) for one in each]
        show(options, whole, Table(("SERVICE", "VERSION", "RESULT"), rows))


def _what(result: Json, *, dry_run: bool) -> str:
    if result.get("changed") is False:
        return "unchanged"
    if result.get("deleted"):
        return "would be deleted" if dry_run else "deleted"
    return "would change" if dry_run else "changed"


def _sentence(result: Json, *, dry_run: bool) -> str:
    if result.get("changed") is False:
        return f"unchanged: {heading(result)}"
    if dry_run:
        deleted = ", deleted" if result.get("deleted") else ""
        return f"would be: {result['service']} version {result['version']}{deleted}"
    return heading(result)


@click.command("apply", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE|-...")
@reason
@pass_options
def apply(options: Options, files: tuple[str, ...], reason: str | None, *, dry_run: bool, quiet: bool) -> None:
    """Change several services at once: all of it in one revision, or nothing.

    A FILE (YAML, TOML or JSON) holds a list of {op: set|patch|delete, service, config|patch, expected_version}, or
    such a list under `changes`, or {SERVICE: CONFIG, ...}, each of which is set.
    """
    if files.count(values.STDIN) > 1:
        raise click.UsageError("standard input can be read once only")
    found = [change for file in files for change in _changes_of(values.document(file), file)]
    write(options, "apply", {"changes": found, "reason": reason}, dry_run=dry_run, quiet=quiet)


def _changes_of(document: Any, file: str) -> list[Json]:
    where = "standard input" if file == values.STDIN else file.removeprefix("@")
    if isinstance(document, dict) and isinstance(document.get("changes"), list):
        document = document["changes"]
    if isinstance(document, list) and all(isinstance(one, dict) for one in document):
        return document
    if isinstance(document, dict) and document and all(isinstance(one, dict) for one in document.values()):
        return [{"op": "set", "service": service, "config": found} for service, found in document.items()]
    raise Failed(
        f"{where}: give a list of changes, or a config for each service", "see `setpoint apply --help`", Exit.INVALID
    )
