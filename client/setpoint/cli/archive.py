"""The file of ``setpoint export`` and ``import``: JSON Lines, sorted, canonical, so that equal states are equal files.

The first line is the head: ``{"counts":{"config":N,"profile":N,"schema":N},"format":"setpoint-export","secrets":S,
"version":1}``, where S is ``none``, ``redacted`` (there are some, and their values are not in the file) or
``revealed``; by the counts a file that was cut is told from a whole one. Then come all schemas, profiles and configs,
in this order and each kind by name:

- ``{"kind":"schema","name":SERVICE,"schema":{…}}``
- ``{"kind":"profile","description":TEXT|null,"name":NAME,"snapshot":{SERVICE:{…},…}}``
- ``{"kind":"config","config":{…},"name":SERVICE}``

What a store counts by itself is not in it: versions, revisions, times, who wrote; nor are deleted services, history,
tokens and the audit log.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from setpoint.cli.exits import Exit, Failed
from setpoint.cli.output import cell

FORMAT = "setpoint-export"
VERSION = 1
KINDS = ("schema", "profile", "config")
_BODY = {"schema": "schema", "profile": "snapshot", "config": "config"}
_SECRET = "$secret"  # noqa: S105 - the member that stands for one (setpoint_contracts.redaction)

Json = dict[str, Any]


def head(secrets: str, counts: dict[str, int]) -> bytes:
    """Write the first line; ``counts`` has each kind."""
    return canonical({"format": FORMAT, "version": VERSION, "secrets": secrets, "counts": counts}).encode() + b"\n"


def canonical(value: Any) -> str:
    """Write JSON so that equal values are equal texts."""
    from setpoint_contracts import strictjson

    return strictjson.canonical(value)


def entry(kind: str, name: str, body: Json, **more: Any) -> str:
    """Write the line of one thing."""
    return canonical({"kind": kind, "name": name, _BODY[kind]: body, **more})


def sort_key(kind: str, name: str) -> tuple[int, str]:
    """Return what the lines of a file are sorted by; names by their code points."""
    return KINDS.index(kind), name


def redacted_in(value: Any) -> bool:
    """Whether the place of a secret stands somewhere in a value."""
    if isinstance(value, dict):
        return _SECRET in value or any(redacted_in(one) for one in value.values())
    return isinstance(value, list) and any(redacted_in(one) for one in value)


def conceals(schema: Any) -> bool:
    """Whether a schema may make a secret of something: ``writeOnly`` is true somewhere in it."""
    if isinstance(schema, dict):
        return schema.get("writeOnly") is True or any(conceals(one) for one in schema.values())
    return isinstance(schema, list) and any(conceals(one) for one in schema)


@dataclass
class Archive:
    """What a file holds, by kind and name: the parsed lines."""

    secrets: str = "none"
    entries: dict[str, dict[str, Json]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    @property
    def schemas(self) -> dict[str, Json]:
        """Schemas by service."""
        return {name: one["schema"] for name, one in self.entries["schema"].items()}

    @property
    def profiles(self) -> dict[str, Json]:
        """Profiles by name: their lines."""
        return self.entries["profile"]

    @property
    def configs(self) -> dict[str, Json]:
        """Configs by service."""
        return {name: one["config"] for name, one in self.entries["config"].items()}

    def redacted(self) -> list[str]:
        """Name the lines in which a secret stands without its value."""
        return [
            f"{kind} {name}"
            for kind in ("profile", "config")
            for name, one in self.entries[kind].items()
            if redacted_in(one[_BODY[kind]])
        ]


def read(lines: Iterable[bytes], where: str) -> Archive:
    """Read a file, all of it before anything is written; raises ``Failed`` with the line that is wrong."""
    first: Json | None = None
    found = Archive()
    for number, line in enumerate(lines, 1):
        one = _parsed(line, f"{where}, line {number}")
        if first is None:
            first = one
            found.secrets = _checked_head(one, where)
        else:
            _add(found, one, f"{where}, line {number}")
    if first is None:
        raise Failed(f"{where} is empty, and no export", None, Exit.INVALID)
    _check_counts(found, first.get("counts"), where)
    return found


def _check_counts(found: Archive, told: Any, where: str) -> None:
    for kind, entries in found.entries.items():
        expected = told.get(kind) if isinstance(told, dict) else None
        if expected != len(entries):
            count = expected if isinstance(expected, int) else "an unknown number of"
            message = f"{where} is not whole: there are {len(entries)} of {count} {kind}s"
            raise Failed(message, "export it again", Exit.INVALID)


def _parsed(line: bytes, where: str) -> Json:
    from setpoint_contracts import strictjson

    try:
        one = strictjson.loads(line)
    except strictjson.InvalidJsonError as error:
        raise Failed(f"{where}: {error}", "export it again", Exit.INVALID) from None
    if not isinstance(one, dict):
        raise Failed(f"{where}: no object", "export it again", Exit.INVALID)
    return one


def _checked_head(one: Json, where: str) -> str:
    if one.get("format") != FORMAT:
        raise Failed(f"{where} is no export of Setpoint", "`setpoint export FILE` writes one", Exit.INVALID)
    if one.get("version") != VERSION:
        raise Failed(f"{where} is of a later format ({cell(one.get('version'))})", "use a newer setpoint", Exit.INVALID)
    return str(one.get("secrets"))


def is_entry(one: Json) -> bool:
    """Whether a parsed line is that of one thing."""
    kind = one.get("kind")
    return kind in KINDS and isinstance(one.get("name"), str) and isinstance(one.get(_BODY[kind]), dict)


def _add(found: Archive, one: Json, where: str) -> None:
    if not is_entry(one):
        raise Failed(f"{where}: neither a schema nor a profile nor a config", "export it again", Exit.INVALID)
    kind, name = one["kind"], one["name"]
    if name in found.entries[kind]:
        raise Failed(f"{where}: the {kind} {cell(name)} stands there twice", "export it again", Exit.INVALID)
    found.entries[kind][name] = one


def batches(changes: Iterable[Json], most: int, most_bytes: int) -> Iterable[list[Json]]:
    """Put changes into lists of at most so many, and of so many bytes of JSON; one that is larger alone."""
    batch: list[Json] = []
    size = 0
    for change in changes:
        added = len(json.dumps(change, ensure_ascii=False, separators=(",", ":")).encode()) + 1
        if batch and (len(batch) >= most or size + added > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += added
    if batch:
        yield batch
