"""Whose store this is, and how far it is: ``config_epoch``, one row."""

import sqlite3
from typing import Any

from typing_extensions import override

from setpoint_contracts.numbers import MAX_INTEGER
from setpointd.errors import StoreError
from setpointd.records import Identity
from setpointd.store.sql import Reading, Writing


class IdentityReads(Reading):
    """Reads of the store's identity."""

    def now(self) -> Identity:
        """Return store, epoch, revision, and the instance that last ran on it."""
        return _identity(self._one("SELECT store_id, epoch, revision, instance FROM config_epoch"))

    def store_bytes(self) -> int:
        """The size of the database in bytes, without its write-ahead log."""
        return self._number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")


class IdentityWrites(IdentityReads, Writing):
    """Writes of the store's identity, which is read once: in a transaction nobody else can change it."""

    _now: Identity | None = None

    @override
    def now(self) -> Identity:
        if self._now is None:
            self._now = super().now()
        return self._now

    def forget(self) -> None:
        """Read it again: what was written may have been undone."""
        self._now = None

    def establish(self, store_id: str) -> None:
        """Make this a store: once, when it is new."""
        self._do(
            "INSERT INTO config_epoch (store_id, epoch, revision, instance) VALUES (:store_id, 0, 0, NULL)",
            store_id=store_id,
        )

    def next_revision(self) -> int:
        """Move to the next revision and return it."""
        return int(self._change("revision = revision + 1").revision)

    def take_over(self, instance: str, now: float) -> Identity:
        """Begin the next epoch as its writer."""
        epoch = next_epoch(self.now().epoch, now)
        return self._change("epoch = :epoch, instance = :instance", epoch=epoch, instance=instance)

    def remember(self, instance: str) -> Identity:
        """Note which daemon runs on this store, without making it the writer."""
        return self._change("instance = :instance", instance=instance)

    def advance(self, seen_epoch: int, seen_revision: int, now: float, *, further: int = 0) -> Identity:
        """Go to an epoch, perhaps some further, and a revision above the store's own and what was seen elsewhere."""
        own = self.now()
        return self._change(
            "epoch = :epoch, revision = :revision",
            epoch=next_epoch(max(own.epoch, seen_epoch), now) + further,
            revision=max(own.revision, seen_revision) + 1,
        )

    def _change(self, what: str, **values: Any) -> Identity:
        row = self._one(f"UPDATE config_epoch SET {what} RETURNING store_id, epoch, revision, instance", **values)  # noqa: S608
        self._now = _identity(row)
        return self._now


def _identity(row: sqlite3.Row | None) -> Identity:
    if row is None:
        raise StoreError("the store has lost its identity")
    return Identity(*row)


def next_epoch(last: int, now: float) -> int:
    """The epoch that follows another, begun at a time in POSIX seconds (wire section 7).

    By the clock, so that copies of a store that begin one at different times do not share it; but order does not depend
    on the clock: an epoch only grows.
    """
    return max(last + 1, min(int(now), MAX_INTEGER))
