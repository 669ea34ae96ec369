"""``setpoint export``: all configs, profiles and schemas in one file, or the history in one of its own.

Rules:

- All configs are read as of one revision, so that the file holds a state that there was, whoever writes meanwhile.
  Which services there were then is listed at the beginning, for a list is always of now.
- What was read goes to FILE.part (``setpoint.cli.parts``), and FILE comes into being at the end, whole. Interrupted,
  the same command goes on from there at the same revision; schemas and profiles, which have none, are read anew.
- When what there was at that revision has been pruned, it begins anew at the present one, and says so.
- Values of secrets stand in a file only with ``--reveal``.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import click

from setpoint.cli import archive
from setpoint.cli.chronicle import export_history
from setpoint.cli.connection import Session, run
from setpoint.cli.exits import Exit, Failed
from setpoint.cli.options import Command, Options, pass_options
from setpoint.cli.parts import Part, going_on, tell_scope
from setpoint.cli.revealing import Secrets
from setpoint.cli.times import Moment

Json = dict[str, Any]
_AT_ONCE = 32
_BEGINNINGS = 3


@click.command("export", cls=Command)
@click.argument("file", type=click.Path())
@click.option("--reveal", is_flag=True, help="With the values of secrets: whoever has the file has them.")
@click.option("--history", is_flag=True, help="The history instead, newest first: JSON Lines, or CSV to a FILE.csv.")
@click.option("--since", type=Moment(), metavar="TIME", help="With --history: from this time on.")
@click.option("--until", type=Moment(), metavar="TIME", help="With --history: before this time.")
@pass_options
def export(options: Options, file: str, since: str | None, until: str | None, *, reveal: bool, history: bool) -> None:
    """Write all configs, profiles and schemas to FILE, or - for standard output.

    `setpoint import FILE` brings a daemon to it; an export of that one is the same, byte for byte. Interrupted, the
    same command goes on where it was. What it does not hold: history, deleted services, tokens, the audit log.
    """
    if (since or until) and not history:
        raise click.UsageError("--since and --until are for --history")
    if history and reveal:
        raise click.UsageError("the history never holds values of secrets")
    if reveal and file == "-":
        raise click.UsageError("secrets are not written to standard output: name a FILE")
    if history:
        export_history(options, file, {"since": since, "until": until})
    else:
        _export_state(options, file, reveal=reveal)


def _export_state(options: Options, file: str, *, reveal: bool) -> None:
    with Part(file) as part:
        counts = run(options, lambda session: _gather(session, part, reveal=reveal))
    told = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items())
    click.echo(f"{told}: {'standard output' if file == '-' else file}", err=True)


class _PrunedError(Exception):
    """What a service, which is named, was at the export's revision is not kept any more."""


async def _gather(session: Session, part: Part, *, reveal: bool) -> dict[str, int]:
    status, info = await session.call("status"), await session.call("info")
    tell_scope(info["services"])
    same = {"store_id": status["store_id"], "epoch": status["epoch"], "sees": info["services"], "reveal": reveal}
    begun = part.left(same, _is_beginning)
    for _ in range(_BEGINNINGS):
        if begun is None:
            begun = {**same, **await _beginning(session)}
            part.begin(begun)
        try:
            return await _gather_from(session, part, begun, reveal=reveal)
        except _PrunedError as error:
            told = f"what {error} was at revision {begun['revision']} has been pruned: the export begins anew"
            click.echo(f"setpoint: {told}", err=True)
            begun = None
    raise Failed("what is to be exported is pruned again and again", "try again later", Exit.REFUSED)


def _is_beginning(begun: Json) -> bool:
    services = begun.get("services")
    is_list = isinstance(services, list) and all(isinstance(one, str) for one in services)
    return is_list and isinstance(begun.get("revision"), int)


async def _beginning(session: Session) -> Json:
    """Return the present revision, and the services that there are.

    When something was written while they were listed, they are listed once more behind it: so there is missing only
    what came after the first list and went before the second.
    """
    before = (await session.call("status"))["revision"]
    services = await _services(session)
    revision = (await session.call("status"))["revision"]
    if revision != before:
        services |= await _services(session)
    return {"revision": revision, "services": sorted(services)}


async def _services(session: Session) -> set[str]:
    return {one["service"] for one in await session.pages("list", {}, "services", "after", None)}


async def _gather_from(session: Session, part: Part, begun: Json, *, reveal: bool) -> dict[str, int]:
    from setpoint.cli.terminal import bar

    gathered = _Gathered(part)
    secrets = Secrets(session.options, reveal=reveal)
    services = begun["services"]
    todo = [service for service in services if ("config", service) not in gathered.places]
    with bar("configs", len(services)) as show:
        async for service, document in _documents(session, todo, begun["revision"], reveal=reveal):
            if document is not None:
                gathered.add("config", service, secrets.put_into(document))
            show(len(gathered.places))
    for one in await session.pages("schema/list", {}, "schemas", "after", None):
        found = await session.call("schema/get", {"service": one["service"]})
        gathered.add("schema", one["service"], found["schema"])
    for one in (await session.call("profile/list"))["profiles"]:
        found = await session.call("profile/get", {"name": one["name"]})
        snapshot = await secrets.of_profile(session, found)
        gathered.add("profile", one["name"], snapshot, description=found["description"])
    part.finish(gathered.lines(reveal=reveal))
    return gathered.counts()


class _Gathered:
    """Where the line of each thing is in the part, and what stands in them of secrets."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._redacted = self._conceals = False
        self.places: dict[tuple[str, str], int] = {}
        for place, one in part.lines(archive.is_entry):
            if one["kind"] == "config":
                self._keep("config", one["name"], place, one["config"])
        going_on(part, len(self.places), "configs")

    def add(self, kind: str, name: str, body: Json, **more: Any) -> None:
        """Write the line of one thing."""
        self._keep(kind, name, self._part.add(archive.entry(kind, name, body, **more)), body)

    def _keep(self, kind: str, name: str, place: int, body: Json) -> None:
        self.places[kind, name] = place
        if kind == "schema":
            self._conceals |= archive.conceals(body)
        else:
            self._redacted |= archive.redacted_in(body)

    def lines(self, *, reveal: bool) -> Iterator[bytes]:
        """Give the lines of the file, from the first to the last."""
        secrets = "redacted" if self._redacted else "revealed" if reveal and self._conceals else "none"
        yield archive.head(secrets, self.counts())
        for key in sorted(self.places, key=lambda one: archive.sort_key(*one)):
            yield self._part.at(self.places[key])

    def counts(self) -> dict[str, int]:
        """Count what there is of each kind."""
        return {kind: sum(found == kind for found, _ in self.places) for kind in archive.KINDS}


async def _documents(
    session: Session, services: list[str], revision: int, *, reveal: bool
) -> AsyncIterator[tuple[str, Json | None]]:
    """Read services as of a revision, many at once; None for one that was not there then."""
    for start in range(0, len(services), _AT_ONCE):
        some = services[start : start + _AT_ONCE]
        found = await asyncio.gather(*(_document(session, service, revision, reveal=reveal) for service in some))
        for service, document in zip(some, found, strict=True):
            yield service, document


async def _document(session: Session, service: str, revision: int, *, reveal: bool) -> Json | None:
    from setpoint.errors import NotFound

    try:
        return await session.call("get", {"service": service, "revision": revision, "reveal": reveal or None})
    except NotFound as error:
        if error.details.get("pruned"):
            raise _PrunedError(service) from None
        return None
