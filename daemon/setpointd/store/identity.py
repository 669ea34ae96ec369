"""Whose store this is, and how far it is: ``config_epoch``, one row."""

import sqlite3
from dataclasses import replace

from sqlite_utils import Database
from typing_extensions import override

from setpoint_contracts.numbers import MAX_INTEGER
from setpointd.errors import StoreError
from setpointd.records import Identity
from setpointd.store.known import Known
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
    """Writes of the store's identity."""

    def __init__(self, db: Database, known: Known) -> None:
        super().__init__(db)
        self._known = known

    @override
    def now(self) -> Identity:
        if self._known.identity is None:
            self._known.identity = super().now()
        return self._known.identity

    def establish(self, store_id: str) -> None:
        """Make this a store: once, when it is new."""
        self._do(
            "INSERT INTO config_epoch (store_id, epoch, revision, instance) VALUES (:store_id, 0, 0, NULL)",
            store_id=store_id,
        )

    def next_revision(self) -> int:
        """Move to the next revision and return it."""
        own = self.now()
        return self._become(Identity(own.store_id, own.epoch, own.revision + 1, own.instance)).revision

    def take_over(self, instance: str, now: float) -> Identity:
        """Begin the next epoch as its writer."""
        own = self.now()
        epoch = next_epoch(own.epoch, now)
        return self._become(replace(own, epoch=epoch, instance=instance))

    def remember(self, instance: str) -> Identity:
        """Note which daemon runs on this store, without making it the writer."""
        return self._become(replace(self.now(), instance=instance))

    def advance(self, seen_epoch: int, seen_revision: int, now: float, *, further: int = 0) -> Identity:
        """Go to an epoch, perhaps some further, and a revision above the store's own and what was seen elsewhere."""
        own = self.now()
        epoch = next_epoch(max(own.epoch, seen_epoch), now) + further
        revision = max(own.revision, seen_revision) + 1
        return self._become(replace(own, epoch=epoch, revision=revision))

    def _become(self, identity: Identity) -> Identity:
        self._do(
            "UPDATE config_epoch SET epoch = :epoch, revision = :revision, instance = :instance",
            epoch=identity.epoch,
            revision=identity.revision,
            instance=identity.instance,
        )
        self._known.identity = identity
        return identity


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
