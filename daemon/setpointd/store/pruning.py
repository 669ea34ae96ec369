"""Removing old versions and their entries in the history, slice by slice: ``config_pruned``, ``config_prunes``.

Rules:

- The newest version of a service stays, a tombstone too, and so does what ``_needed`` names.
- Of the rest a version goes when it is beyond the newest ``Keep.versions``, and the one after it was there at
  ``Keep.since``; where both are given, when both hold. So what was in force at ``since`` or later can always be read.
- Oldest first, each version behind its entries, up to the first that stays by its age: one with a time that is wrong
  (a machine without a clock) removes no more than its predecessor.
- A slice is one transaction, bounded by rows and bytes. It keeps no place in the file: what a crash interrupts is
  walked anew.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from sqlite_utils import Database

from setpoint_contracts.audit import Action
from setpointd.records import Keep, Pruning, UnfinishedPrune
from setpointd.store.audit import AuditWrites
from setpointd.store.known import Known
from setpointd.store.sql import Reading, Writing

# One slice: some milliseconds of the writer.
SLICE_ROWS = 128
SLICE_BYTES = 256 * 1024
SLICE_SERVICES = 100
SLICE_FREED = 128 * 1024


def _needed(row: str) -> str:
    """SQL that says whether something beside the history needs the version in a row's ``service`` and ``version``."""
    named = f"p.service = {row}.service AND p.version = {row}.version"
    return f"EXISTS (SELECT 1 FROM profile_services p WHERE {named})"  # noqa: S608 - the alias of a table


@dataclass(slots=True)
class _Slice:
    """What one transaction removes, and how much more it may."""

    rows: int = field(default_factory=lambda: SLICE_ROWS)
    bytes: int = field(default_factory=lambda: SLICE_BYTES)
    versions: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def takes(self, size: int) -> bool:
        """Take a row in, if there is room; the first one however large it is."""
        if self.rows <= 0 or self.bytes <= 0:
            return False
        self.rows -= 1
        self.bytes -= size
        return True


class PruneReads(Reading):
    """Reads of what is still to be pruned."""

    def unfinished(self) -> list[UnfinishedPrune]:
        """What commands have left to the background, in their order."""
        rows = self._all("SELECT id, since, versions, asked_by, request_id FROM config_prunes ORDER BY id")
        return [UnfinishedPrune(row[0], Keep(row[1], row[2]), row[3], row[4]) for row in rows]

    def free_pages(self) -> int:
        """How many pages of the file hold nothing and can be given back; 0 in a store that cannot."""
        incremental = self._number("PRAGMA auto_vacuum") == 2  # noqa: PLR2004 - https://sqlite.org/pragma.html
        return self._number("PRAGMA freelist_count") if incremental else 0


class PruneWrites(PruneReads, Writing):
    """Removes what is old."""

    def __init__(self, db: Database, known: Known, audit: AuditWrites) -> None:
        super().__init__(db)
        self._known = known
        self._audit = audit

    def slice(self, keep: Keep, so_far: Pruning) -> Pruning:
        """Do the next part: remove some of what is old, then give free pages back. Call it until it is ``over``."""
        done = replace(so_far, slices=so_far.slices + 1)
        return self._give_back(done) if so_far.walked else self._walk(keep, done)

    def record(self, keep: Keep, done: Pruning) -> None:
        """Record what was removed."""
        rule: dict[str, Any] = {"since": keep.since, "keep_versions": keep.versions}
        given = {name: value for name, value in rule.items() if value is not None}
        removed: dict[str, Any] = {"versions": done.versions, "history": done.history}
        self._audit.record(Action.PRUNE_HISTORY, **given, **removed, complete=done.over)

    def leave(self, keep: Keep) -> None:
        """Leave the rest to the background."""
        self._do(
            "INSERT INTO config_prunes (since, versions, asked_by, request_id) VALUES (:since, :versions, :by, :id)",
            since=keep.since,
            versions=keep.versions,
            by=self._known.stamp.by,
            id=self._known.stamp.request_id,
        )

    def finish(self, prune: UnfinishedPrune) -> None:
        """Note that nothing of it is left."""
        self._do("DELETE FROM config_prunes WHERE id = :id", id=prune.id)

    def _walk(self, keep: Keep, done: Pruning) -> Pruning:
        services = self._all(
            "SELECT service, version FROM config_state WHERE service > :after ORDER BY service LIMIT :limit",
            after=done.after,
            limit=SLICE_SERVICES,
        ).fetchall()
        some = _Slice()
        for row in services:
            finished = self._pick(row["service"], row["version"], keep, some)
            if not finished:
                break
            done = replace(done, after=row["service"])
        else:
            done = replace(done, walked=len(services) < SLICE_SERVICES)
        self._do_many("DELETE FROM config_history WHERE id = :id", some.entries)
        self._do_many("DELETE FROM config_versions WHERE service = :service AND version = :version", some.versions)
        self._note(some.versions)
        self._forget_secrets({row["service"] for row in some.versions})
        return replace(done, versions=done.versions + len(some.versions), history=done.history + len(some.entries))

    def _pick(self, service: str, newest: int, keep: Keep, some: _Slice) -> bool:
        """Choose what goes of a service; false when there is more than the slice takes."""
        old = self._old(service, newest, keep)
        if (oldest := next(old, None)) is None:
            return True
        entries = self._entries(service)
        entry = next(entries, None)
        for row in chain([oldest], old):
            while entry is not None and entry["version"] <= row["version"]:
                if not some.takes(entry["bytes"]):
                    return False
                some.entries.append({"id": entry["id"]})
                entry = next(entries, None)
            if not some.takes(row["bytes"]):
                return False
            some.versions.append(row)
        return True

    def _old(self, service: str, newest: int, keep: Keep) -> Iterator[dict[str, Any]]:
        """The versions of a service that go, oldest first."""
        below = newest if keep.versions is None else self._newest_kept(service, newest, keep.versions)
        rows = self._all(
            "SELECT v.service, v.version, v.revision, v.updated_at, ifnull(length(v.config_json), 0) AS bytes,"  # noqa: S608
            " (SELECT n.updated_at FROM config_versions n WHERE n.service = v.service AND n.version > v.version"
            "  ORDER BY n.version LIMIT 1) AS until"
            " FROM config_versions v WHERE v.service = :service AND v.version < :below"
            f" AND NOT {_needed('v')} ORDER BY v.version",
            service=service,
            below=below,
        )
        for row in rows:
            if keep.since is not None and row["until"] > keep.since:
                return
            yield dict(row)

    def _newest_kept(self, service: str, newest: int, versions: int) -> int:
        """The number of the oldest of the newest versions; 0 when there are no more than these."""
        oldest = self._number("SELECT min(version) FROM config_versions WHERE service = :service", service=service)
        if newest - oldest < versions:
            return 0
        return self._number(
            "SELECT version FROM config_versions WHERE service = :service ORDER BY version DESC LIMIT 1 OFFSET :rest",
            service=service,
            rest=versions - 1,
        )

    def _entries(self, service: str) -> Iterator[Any]:
        # All but the last one of all: SQLite would give its id to the next entry, and ids are what pages go by.
        return self._all(
            "SELECT h.id, h.version, ifnull(length(h.old_json), 0) + ifnull(length(h.new_json), 0) AS bytes"  # noqa: S608
            " FROM config_history h WHERE h.service = :service AND h.id < (SELECT max(id) FROM config_history)"
            f" AND NOT {_needed('h')} ORDER BY h.id",
            service=service,
        )

    def _note(self, versions: list[dict[str, Any]]) -> None:
        """Remember up to where the history of services is gone, so that nobody takes it for what never was."""
        self._do_many(
            "INSERT INTO config_pruned (service, version, revision, first_revision, first_at, pruned_at)"
            " VALUES (:service, :version, :revision, :revision, :updated_at, :at)"
            " ON CONFLICT (service) DO UPDATE SET version = max(version, excluded.version),"
            " revision = max(revision, excluded.revision), first_revision = min(first_revision, excluded.revision),"
            " first_at = min(first_at, excluded.first_at), pruned_at = excluded.pruned_at",
            [{**row, "at": self._known.stamp.at} for row in versions],
        )

    def _forget_secrets(self, services: Iterable[str]) -> None:
        """Remove the secrets that no version names which is left."""
        self._do_many(
            "DELETE FROM config_secrets WHERE service = :service AND last_version <"
            " (SELECT min(version) FROM config_versions WHERE service = :service)",
            [{"service": service} for service in services],
        )

    def _give_back(self, done: Pruning) -> Pruning:
        before = self.free_pages()
        pages = SLICE_FREED // self._number("PRAGMA page_size")
        for _ in range(min(before, pages)):
            self._do("PRAGMA incremental_vacuum(1)")  # with a greater number, sqlite3 does the first of its steps only
        left = self.free_pages()
        return replace(done, over=left in {0, before})
