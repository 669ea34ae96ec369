"""``setpoint import``: bring a daemon to what an export holds.

Rules:

- The file is read whole, and looked through, before anything is written.
- Configs are written in batches, each of which is one ``apply``: all of it or nothing. What is as it should be already
  makes no version. So an import that was interrupted is run again, and passes over what is there.
- A schema that makes secrets comes before everything else, so that no value of one is ever published; any other comes
  last, so that configs and profiles that do not fit it are kept, too. One that is there and in their way is taken away
  for that long.
- A profile can only be saved from what services hold. So services are brought to what it holds, it is saved, and at the
  end they are brought to their configs. Followers would see that pass by: of services that were there before, it is
  done with ``--force`` only. Which ones that are stands in FILE.importing until the import is through. What somebody
  sets meanwhile counts as there before: only what still holds what a profile of the file holds came with the import.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from setpoint.cli import archive, diffs
from setpoint.cli.archive import Archive, batches
from setpoint.cli.connection import Refused, Session, all_or_none, run
from setpoint.cli.exits import Exit, Failed
from setpoint.cli.options import Command, Options, pass_options
from setpoint.cli.output import cell, form, show_json, show_yaml
from setpoint.cli.revealing import Secrets

Json = dict[str, Any]
_MOST_CHANGES = 128
_REASON = "import"
_OVERHEAD = 4096  # of a command beside its changes: header, claims, signature
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


@click.command("import", cls=Command)
@click.argument("file", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--force", is_flag=True, help="Let followers of services that are there see what profiles hold pass by.")
@click.option("--no-profiles", is_flag=True, help="Leave the profiles out.")
@click.option("--skip-redacted", is_flag=True, help="Leave out what holds secrets without their values.")
@click.option("--reason", default=_REASON, metavar="TEXT", help="Why; it stands in history and audit. [import]")
@pass_options
def import_(
    options: Options, file: str, reason: str, *, dry_run: bool, force: bool, no_profiles: bool, skip_redacted: bool
) -> None:
    """Bring a daemon to what FILE (of `setpoint export`), or - for standard input, holds.

    Services that FILE does not have stay as they are. Interrupted, the same command goes on.
    """
    found = _read(file)
    if no_profiles:
        found.entries["profile"].clear()
    _without_redacted(found, skip=skip_redacted)
    work = _Import(found, _Traces(file, found.profiles), reason, force=force)
    counts = run(options, lambda session: work.preview(session) if dry_run else work.carry_out(session))
    if form(options) in {"json", "raw"}:
        show_json(counts)
    elif form(options) == "yaml":
        show_yaml(counts)
    else:
        told = ", ".join(f"{one['changed']} of {one['all']} {kind}" for kind, one in counts.items())
        click.echo(f"{'would change' if dry_run else 'changed'} {told}", err=True)


def _read(file: str) -> Archive:
    if file == "-":
        return archive.read(sys.stdin.buffer, "standard input")
    with Path(file).expanduser().open("rb") as lines:
        return archive.read(lines, file)


def _without_redacted(found: Archive, *, skip: bool) -> None:
    redacted = found.redacted()
    if redacted and not skip:
        named = ", ".join(map(cell, redacted[:3]))
        raise Failed(
            f"the values of secrets are not in the file: {named}{' …' if redacted[3:] else ''}",
            "export with --reveal, or leave these out with --skip-redacted",
            Exit.INVALID,
        )
    for name in redacted:
        kind, _, which = name.partition(" ")
        del found.entries[kind][which]
        click.echo(f"setpoint: left out: {cell(name)}, for it holds secrets without their values", err=True)


class _Import:
    """One import: what is to be, and how much of it has changed something."""

    def __init__(self, found: Archive, traces: "_Traces", reason: str, *, force: bool) -> None:
        self._found, self._traces, self._reason, self._force = found, traces, reason, force
        self._most_bytes = 0
        self._changed: set[str] = set()
        self._versions: dict[str, int] = {}
        self._lifted: set[str] = set()
        self._counts = {f"{kind}s": {"all": len(found.entries[kind]), "changed": 0} for kind in reversed(archive.KINDS)}

    async def preview(self, session: Session) -> Json:
        """Show what configs would change, and count."""
        await self._look(session)
        secrets = Secrets(session.options, reveal=self._found.secrets == "revealed")
        for batch in self._batches(self._found.configs):
            results = (await self._apply(session, batch, dry_run=True))["results"]
            for one in results:
                if one["changed"] and not archive.conceals(self._found.schemas.get(one["service"])):
                    diffs.tell(one["service"], one["diff"])
                elif one["changed"]:
                    click.echo(f"{one['service']}: changes, and holds secrets, so they are not shown", err=True)
        for name, schema in self._found.schemas.items():
            current = await all_or_none(session.call("schema/get", {"service": name}), "not_found")
            self._count("schemas", current is None or current["schema"] != schema)
        for name, profile in self._found.profiles.items():
            self._count("profiles", not await _is_there(session, secrets, name, profile))
        return self._counted()

    async def carry_out(self, session: Session) -> Json:
        """Write it all."""
        from setpoint.cli.terminal import bar

        living = await self._look(session)
        secrets = Secrets(session.options, reveal=self._found.secrets == "revealed")
        profiles = {
            name: one for name, one in self._found.profiles.items() if not await _is_there(session, secrets, name, one)
        }
        store = (await session.call("status"))["store_id"]
        there = await self._there(session, secrets, store, living)
        await self._check_detours(session, secrets, profiles, there & living.keys())
        if profiles:
            self._traces.leave(store, there)
        concealing = {name: one for name, one in self._found.schemas.items() if archive.conceals(one)}
        await self._set_schemas(session, concealing)
        with bar("profiles", len(profiles)) as show:
            for done, (name, profile) in enumerate(profiles.items(), 1):
                await self._save(session, name, profile)
                show(done)
        await self._set_configs(session)
        await self._remove_passing(session, there)
        await self._set_schemas(
            session, {name: one for name, one in self._found.schemas.items() if name not in concealing}
        )
        self._traces.remove()
        return self._counted()

    async def _look(self, session: Session) -> dict[str, int]:
        """Ask for the limits, and for the services that live, each with its version."""
        limits = (await session.call("info"))["limits"]
        # A command is JSON in base64; its reply has the configs once and what they were, and passes the broker, too.
        most = limits["max_command_bytes"] * 3 // 4 - _OVERHEAD
        packet = limits.get("max_packet_bytes")
        self._most_bytes = min(most, packet // 4) if packet else most
        return await _living(session)

    async def _there(self, session: Session, secrets: Secrets, store: str, living: dict[str, int]) -> set[str]:
        """Return the services that are not there for the sake of a profile: of before the import began, and others'."""
        left = self._traces.left(store)
        if left is None:
            return set(living)
        held = _held(self._found.profiles)
        there = left | (living.keys() - held.keys())
        for service in sorted(living.keys() - there):
            if archive.canonical(await secrets.of_service(session, service)) in held[service]:
                self._versions[service] = living[service]
            else:
                there.add(service)
        return there

    async def _check_detours(
        self, session: Session, secrets: Secrets, profiles: dict[str, Json], there: set[str]
    ) -> None:
        """Refuse what would have followers of services that are there see old configs, unless it is forced."""
        touched = sorted({service for one in profiles.values() for service in one["snapshot"]} & there)
        passing = [
            service
            for service in touched
            if not _is_as_held(await secrets.of_service(session, service), service, profiles)
        ]
        if passing and not self._force:
            raise Failed(
                f"to save the profiles, {', '.join(passing[:3])}{' …' if passing[3:] else ''} would have to hold for a"
                " moment what they held then, and followers would see it",
                "import into an empty store, or with --no-profiles, or with --force",
                Exit.CONFLICT,
            )

    async def _set_schemas(self, session: Session, schemas: dict[str, Json]) -> None:
        for name, schema in schemas.items():
            params = {"service": name, "schema": schema, "force": True}
            self._count("schemas", (await session.call("schema/set", params))["changed"])

    async def _save(self, session: Session, name: str, profile: Json) -> None:
        """Bring services to what a profile holds, and save it."""
        for batch in self._batches(profile["snapshot"]):
            await self._apply(session, batch)
        services = list(profile["snapshot"])
        params = {"name": name, "description": profile.get("description"), "services": services, "overwrite": True}
        await session.call("profile/save", params)
        self._count("profiles", 1)

    async def _set_configs(self, session: Session) -> None:
        from setpoint.cli.terminal import bar

        done = 0
        with bar("configs", len(self._found.configs)) as show:
            for batch in self._batches(self._found.configs):
                await self._apply(session, batch)
                done += len(batch)
                show(done)

    async def _remove_passing(self, session: Session, there: set[str]) -> None:
        """Delete what was only there for the sake of a profile, unless somebody has written it since."""
        passing = set(_held(self._found.profiles)) - set(self._found.configs) - there
        gone = []
        for service, version in (await _living(session)).items():
            if service in passing and self._versions.get(service) == version:
                gone.append({"op": "delete", "service": service, "expected_version": version})
            elif service in passing:
                click.echo(f"setpoint: {service} was written meanwhile, so it stays", err=True)
        for batch in batches(gone, _MOST_CHANGES, sys.maxsize):
            await self._apply(session, batch)

    def _batches(self, configs: dict[str, Json]) -> Iterable[list[Json]]:
        changes = ({"op": "set", "service": service, "config": config} for service, config in configs.items())
        return batches(changes, _MOST_CHANGES, self._most_bytes)

    async def _apply(self, session: Session, batch: list[Json], *, dry_run: bool = False) -> Json:
        from setpoint.errors import SetpointError

        params = {"changes": batch, "reason": self._reason, "dry_run": dry_run or None}
        try:
            found = await session.call("apply", params)
        except SetpointError as error:
            if error.code == "too_large" and error.details.get("applied"):  # only its answer was
                written = {change["service"] for change in batch}
                self._changed |= written
                self._versions |= {name: one for name, one in (await _living(session)).items() if name in written}
                return {"results": []}
            if not dry_run and error.code == "schema_invalid" and await self._lift(session, error.details["service"]):
                return await self._apply(session, batch)
            if error.index is None:
                raise
            told = Refused(error)
            todo = "mend that, then run the same import again: what is there already is passed over"
            raise Failed(f"{cell(batch[error.index]['service'])}: {told.format_message()}", todo, told.ending) from None
        self._changed.update(one["service"] for one in found["results"] if one.get("changed"))
        self._versions.update((one["service"], one["version"]) for one in found["results"])
        return found

    async def _lift(self, session: Session, service: str) -> bool:
        """Remove a schema that is set at the end anyway, and of which nothing is a secret; whether that was done."""
        coming = self._found.schemas.get(service)
        if coming is None or archive.conceals(coming) or service in self._lifted:
            return False
        self._lifted.add(service)
        current = await all_or_none(session.call("schema/get", {"service": service}), "not_found")
        if current is None or archive.conceals(current["schema"]):
            return False
        await session.call("schema/delete", {"service": service})
        return True

    def _counted(self) -> Json:
        self._counts["configs"]["changed"] = len(self._changed & set(self._found.configs))
        return self._counts

    def _count(self, kind: str, changed: int) -> None:
        self._counts[kind]["changed"] += int(changed)


async def _living(session: Session) -> dict[str, int]:
    return {one["service"]: one["version"] for one in await session.pages("list", {}, "services", "after", None)}


async def _is_there(session: Session, secrets: Secrets, name: str, profile: Json) -> bool:
    found = await all_or_none(session.call("profile/get", {"name": name}), "not_found")
    if found is None or found["description"] != profile.get("description"):
        return False
    try:
        snapshot = await secrets.of_profile(session, found)
    except Failed:  # not in the history any more, so nobody can tell
        return False
    return archive.canonical(snapshot) == archive.canonical(profile["snapshot"])


def _is_as_held(config: Json, service: str, profiles: dict[str, Json]) -> bool:
    return _held(profiles)[service] == {archive.canonical(config)}


def _held(profiles: dict[str, Json]) -> dict[str, set[str]]:
    """Return what services hold in profiles, as canonical JSON."""
    held: dict[str, set[str]] = {}
    for one in profiles.values():
        for service, config in one["snapshot"].items():
            held.setdefault(service, set()).add(archive.canonical(config))
    return held


class _Traces:
    """FILE.importing: which services lived before the import began, for the case that it is run again.

    It counts for the same store and the same profiles in FILE, which are why services come and go; what else is in FILE
    may be mended meanwhile.
    """

    def __init__(self, file: str, profiles: dict[str, Json]) -> None:
        self._path = None if file == "-" else Path(file).expanduser().with_name(Path(file).name + ".importing")
        self._digest = hashlib.sha256(archive.canonical(profiles).encode()).hexdigest()
        self._is_there = False

    def left(self, store: str) -> set[str] | None:
        """Return which services of a store lived when the import began; None if it begins now."""
        if self._path is None:
            return None
        with contextlib.suppress(OSError, ValueError), os.fdopen(os.open(self._path, _READ)) as file:
            self._is_there = True
            left = json.load(file)
            same = {"store_id": store, "profiles": self._digest}
            if isinstance(left, dict) and same.items() <= left.items():
                return set(left["living"])
        return None

    def leave(self, store: str, living: set[str]) -> None:
        """Keep that, until the import is through."""
        if self._path is not None:
            left = {"store_id": store, "profiles": self._digest, "living": sorted(living)}
            try:
                with os.fdopen(os.open(self._path, _WRITE, 0o600), "w") as file:
                    self._is_there = True
                    json.dump(left, file)
            except OSError as error:
                raise Failed(
                    f"{self._path}, by which an import that stopped goes on, cannot be written: {error.strerror}",
                    "`setpoint import - <FILE` does without it",
                ) from None

    def remove(self) -> None:
        """The import is through."""
        if self._path is not None and self._is_there:
            self._path.unlink(missing_ok=True)
