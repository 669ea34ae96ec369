"""``setpoint edit``: a config in an editor, written back only over the version that was read.

When another wrote meanwhile, the editor opens again: with the new config, what you changed put into it, and your text
as it was below. When the text cannot be read or the daemon does not take it, it opens again with the reason on top. A
text that comes to nothing in the end is kept in a file, which is named.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click

from setpoint.cli import diffs
from setpoint.cli.connection import Refused, Session, ask, run
from setpoint.cli.exits import Exit, Failed, complain
from setpoint.cli.formats import parse, to_yaml
from setpoint.cli.merging import merge, same
from setpoint.cli.opening import edited
from setpoint.cli.options import Command, Options, Service, pass_options, reason
from setpoint.cli.output import cell
from setpoint.cli.writing import carry_out, finish

Json = dict[str, Any]
_MARK = "# "
_MOST_ROUNDS = 20
_MENDABLE = frozenset({"schema_invalid", "bad_request", "too_large"})


@dataclass(frozen=True)
class Base:
    """What the editor shows: a config and the version that it is of; 0: there is none."""

    version: int
    config: Json


@click.command("edit", cls=Command)
@click.argument("service", type=Service())
@click.option("--editor", metavar="COMMAND", help="The editor. [VISUAL; EDITOR]")
@reason
@pass_options
def edit(options: Options, service: str, editor: str | None, reason: str | None, *, dry_run: bool, quiet: bool) -> None:
    """Edit the config of SERVICE as YAML in your editor; a service that is not there begins empty.

    What you save is written only over the version that you saw. If another wrote meanwhile, the editor opens again
    with both. An unchanged or emptied text changes nothing.
    """
    work = _Edit(options, service, editor, _newest(options, service))
    with work.kept():
        done = None
        for _ in range(_MOST_ROUNDS):
            if work.is_over(config := work.read()) or (
                done := work.written(config, reason=reason, dry_run=dry_run, quiet=quiet)
            ):
                break
        else:
            raise Failed(f"nothing that can be written in {_MOST_ROUNDS} rounds", None, Exit.INVALID)
    if done is not None:
        finish(options, [done])


class _Edit:
    """One edit: the text as it is now, what it is held against, and how often the editor has been there."""

    def __init__(self, options: Options, service: str, editor: str | None, base: Base) -> None:
        self._options, self._service, self._editor, self._base = options, service, editor, base
        self._text = self._first = _head(service, base) + (to_yaml(base.config) if base.config else "")
        self._refusal: Failed | None = None
        self._unwritten: bytes | None = None
        """What the editor saved last, as long as nothing has become of it."""

    def read(self) -> Json | None:
        """Open the editor; the config that it leaves, None when that cannot be read. Raises ``Failed``."""
        before = self._text
        self._text = edited(self._editor, self._service, before, self._leave)
        if self._text == before == self._first:
            return self._base.config
        if not _without_comments(self._text).strip():
            self._unwritten = None
            raise Failed("the text is empty, so nothing was written", "to delete a service: setpoint delete SERVICE")
        if self._refusal is not None and self._text == before:
            raise self._refusal
        self._refusal = None
        try:
            return _read(self._text)
        except Failed as error:
            self._refuse(error)
            return None

    def is_over(self, config: Json | None) -> bool:
        """Whether nothing was changed."""
        if config is None or not same(config, self._base.config):
            return False
        self._unwritten = None
        click.echo(f"{self._service} version {self._base.version}: nothing was changed", err=True)
        return True

    def written(self, config: Json | None, *, reason: str | None, dry_run: bool, quiet: bool) -> Json | None:
        """Write what was read; its result, None when the editor has to open again. Raises ``Refused``."""
        if config is None:
            return None
        params = {
            "service": self._service,
            "config": config,
            "expected_version": self._base.version,
            "reason": reason,
        }
        try:
            done = run(self._options, lambda session: _write(session, params, dry_run=dry_run, quiet=quiet))
        except Refused as error:
            if error.code == "version_conflict":
                current = error.details["current"]
                self._base, self._text = _after_conflict(self._service, self._base, config, self._text, current)
            elif error.code in _MENDABLE:
                self._refuse(error)
            else:
                raise
            return None
        self._unwritten = None
        return done

    def _leave(self, content: bytes) -> None:
        """Take what an editor has left, however it ended."""
        if content != self._text.encode():
            self._unwritten = content

    def _refuse(self, why: Failed) -> None:
        self._refusal, self._text = why, _again(why.format_message(), self._text)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the text in a file if it has come to nothing in the end."""
        try:
            yield
        finally:
            if self._unwritten is not None:
                handle, path = tempfile.mkstemp(prefix=f"setpoint-{self._service}-", suffix=".yaml")  # 0600
                with os.fdopen(handle, "wb") as file:
                    file.write(self._unwritten)
                complain(f"your text is kept in {path}")


async def _write(session: Session, params: Mapping[str, Any], *, dry_run: bool, quiet: bool) -> Json:
    return await carry_out(session, "set", params, dry_run=dry_run, quiet=quiet)


def _newest(options: Options, service: str) -> Base:
    try:
        found = ask(options, "get", {"service": service})
    except Refused as error:
        if error.code != "not_found":
            raise
        return Base(0, {})
    return Base(found["version"], found["config"])


def _head(service: str, base: Base) -> str:
    what = f"{service} version {base.version}" if base.version else f"{service}, which is not there yet"
    return (
        f"# {what}. Save and close to write it; leave it as it is, or empty it, to write nothing.\n"
        "# Lines that begin with # are not kept.\n"
    )


def _again(why: str, text: str) -> str:
    first = text.split("\n", 1)[0]
    rest = text.split("\n", 1)[1] if first.startswith("# NOT WRITTEN") else text
    return f"# NOT WRITTEN: {' '.join(why.split())}\n{rest}"


def _after_conflict(service: str, base: Base, mine: Json, text: str, current: Json) -> tuple[Base, str]:
    """Make the text of a second chance: the new config with what was changed, and what both changed pointed out."""
    theirs: Json = current.get("config") or {}
    merged, both = merge(base.config, mine, theirs)
    version, who = current["version"], current.get("updated_by") or "somebody"
    lines = [f"NOT WRITTEN: {who} has made version {version} of {service} meanwhile."]
    if current.get("deleted"):
        lines = [f"NOT WRITTEN: {who} has deleted {service} meanwhile (version {version})."]
    lines += ["Below is that version, with your changes in it. Save and close to write it; empty it to give up."]
    if both:
        lines += ["Both of you changed, and yours stands below:", *(f"  {cell(path)}" for path in both)]
    lines += [f"What was changed from version {base.version} to {version}:", *_changes(base.config, theirs)]
    shown = "".join(f"{_MARK}{line}\n" for line in lines)
    yours = "".join(f"#| {line}\n" for line in text.split("\n") if not line.startswith("#"))
    complain(f"{lines[0].removeprefix('NOT WRITTEN: ')} The editor opens again.")
    return Base(version, theirs), f"{shown}{to_yaml(merged)}\n# Your text was:\n{yours}"


def _changes(before: Json, after: Json) -> list[str]:
    from setpoint_contracts.difference import differences

    return [f"  {line}" for line in diffs.lines(differences(before, after))]


def _read(text: str) -> Json:
    found = parse(text.encode(), ".yaml", "the text")
    if not isinstance(found, dict):
        raise Failed("the text is no mapping of keys to values", code=Exit.INVALID)
    return found


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.startswith("#"))
