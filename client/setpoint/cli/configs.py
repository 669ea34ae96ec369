"""``setpoint get``, ``list`` and ``search``: configs as they are and were."""

import json
import sys
from typing import Any

import click

from setpoint.cli.connection import Session, ask, run
from setpoint.cli.exits import Exit, Failed
from setpoint.cli.options import Command, Number, Options, Service, pass_options
from setpoint.cli.output import Table, cell, form, is_terminal, show, typed
from setpoint.cli.revealing import Secrets
from setpoint.cli.times import Moment, local

_WHOLE = frozenset({0, 1, 2})


@click.command("get", cls=Command)
@click.argument("service", type=Service())
@click.option("--key", metavar="KEY", help="Only the value of this top-level key.")
@click.option("--version", type=Number(1), metavar="N", help="As of this version.")
@click.option("--revision", type=Number(0), metavar="N", help="As of this revision of the store.")
@click.option("--time", type=Moment(), metavar="TIME", help="As of this time: RFC 3339, a local time, or 2h ago as 2h.")
@click.option("--reveal", is_flag=True, help="Show the values of secrets.")
@pass_options
def get(
    options: Options,
    service: str,
    key: str | None,
    version: int | None,
    revision: int | None,
    time: str | None,
    *,
    reveal: bool,
) -> None:
    """Show the config of SERVICE.

    With -o json or yaml the whole document as the wire has it; with -o raw the config alone as one line of JSON, or
    with --key its value, a text without quotation marks.
    """
    params = {"service": service, "key": key, "version": version, "revision": revision, "time": time}
    found = ask(options, "get", {**params, "reveal": reveal or None})
    if reveal:
        found = _with_secrets(options, found, key)
    show(options, found, document_table(found, key), raw=_raw(found, key))


def _with_secrets(options: Options, document: dict[str, Any], key: str | None) -> dict[str, Any]:
    """Put the values of secrets where they belong, and warn who shows them on a terminal."""
    if document.get("secrets_jwe") is not None and is_terminal(sys.stdout):
        click.echo("setpoint: this shows secrets: mind who looks on, and what keeps what is shown", err=True)
    if document.get("config") is None:  # deleted
        return document
    config = Secrets(options).put_into(document)
    shown = {name: value for name, value in document.items() if name != "secrets_jwe"}
    return shown | ({} if key is None else {"value": config[key]})


def document_table(document: dict[str, Any], key: str | None = None) -> Table:
    """Make a table of a config document: its head, and a row for each key."""
    head = heading(document)
    if document.get("deleted") or document.get("config") is None:
        return Table(("KEY", "VALUE"), [], heading=head)
    config = document["config"] if key is None else {key: document.get("value")}
    rows = [(name, typed(value)) for name, value in config.items()]
    return Table(("KEY", "VALUE"), rows, heading=head, styles={0: "bold"})


def heading(document: dict[str, Any]) -> str:
    """Say in a line which state of a service a document is."""
    parts = [f"{document['service']}", f"version {document['version']}"]
    if document.get("deleted"):
        parts.append("deleted")
    parts += [f"revision {document['revision']}", local(document.get("updated_at")), cell(document.get("updated_by"))]
    return " · ".join(parts)


def _raw(document: dict[str, Any], key: str | None) -> str:
    value = document.get("config") if key is None else document.get("value")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@click.command("list", cls=Command)
@click.argument("begin", default="", metavar="[PREFIX]")
@click.option("--limit", type=Number(1), metavar="N", help="At most so many. [all]")
@pass_options
def list_(options: Options, begin: str, limit: int | None) -> None:
    """List services, or those whose name begins with PREFIX."""

    async def work(session: Session) -> list[dict[str, Any]]:
        return await session.pages("list", {"prefix": begin}, "services", "after", limit)

    services = run(options, work)
    rows = [
        (one["service"], one["version"], one["keys"], local(one["updated_at"]), one["updated_by"]) for one in services
    ]
    table = Table(("SERVICE", "VERSION", "KEYS", "UPDATED", "BY"), rows, styles={0: "bold"}, whole=frozenset({3}))
    show(options, {"services": services}, table, raw=[one["service"] for one in services])
    if not services and form(options) == "table":
        click.echo("no services" + (f" begin with {begin}" if begin else " yet"), err=True)


@click.command("search", cls=Command)
@click.argument("query")
@click.option("--service", type=Service(), metavar="SERVICE", help="Only in the config of this one.")
@click.option("--limit", type=Number(1, 1000), default=100, metavar="N", help="At most so many. [100]")
@pass_options
def search(options: Options, query: str, service: str | None, limit: int) -> None:
    """Find keys that have QUERY in their name or value, whatever the case of its letters."""
    found = ask(options, "search", {"query": query, "service": service, "limit": limit})
    rows = [(one["service"], one["key"], typed(one["value"])) for one in found["matches"]]
    show(options, found, Table(("SERVICE", "KEY", "VALUE"), rows, styles={0: "bold"}))
    if not rows:
        raise Failed(f"nothing has {query!r} in it", None, Exit.NOT_FOUND)
