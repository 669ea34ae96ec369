"""Whose store it is, and how its epochs and revisions grow (wire section 7)."""

import pytest
from sqlite_utils import Database

from setpointd.records import Identity
from setpointd.store.identity import next_epoch
from tests.store.jobs import job

NOW = 1_767_225_600


def test_a_store_has_one_identity(db: Database) -> None:
    """The id stays; each taking over begins an epoch, remembering does not; both keep the instance."""
    with job(db) as tx:
        made = tx.identity.now()
        assert (made.epoch, made.revision, made.instance) == (0, 0, None)
        assert tx.identity.take_over("i-1", NOW + 0.9) == Identity(made.store_id, NOW, 0, "i-1")
        assert tx.identity.remember("i-2") == Identity(made.store_id, NOW, 0, "i-2")
        assert tx.identity.take_over("i-3", NOW) == Identity(made.store_id, NOW + 1, 0, "i-3")


@pytest.mark.parametrize(
    ("last", "now", "epoch"),
    [
        (0, 0.0, 1),
        (3, 0.0, 4),
        (3, NOW + 0.999, NOW),
        (NOW, NOW, NOW + 1),
        (NOW, NOW + 1, NOW + 1),
        (NOW + 7, NOW - 86_400, NOW + 8),
        (3, -5.0, 4),
        (3, 4_102_444_800.0, 4_102_444_800),
        (4_102_444_800, NOW, 4_102_444_801),
        (3, 1e300, 2**53 - 1),
    ],
)
def test_the_next_epoch_goes_by_the_clock_and_only_grows(last: int, now: float, epoch: int) -> None:
    """By the clock where it is ahead; one more where it stands at 1970, or was far ahead once and is right again."""
    assert next_epoch(last, now) == epoch


def test_a_store_goes_above_what_was_seen(db: Database) -> None:
    """Above its own epoch and revision and above those elsewhere, whichever is greater."""
    with job(db) as tx:
        made = tx.identity.now()
        assert tx.identity.advance(7, 3, now=0) == Identity(made.store_id, 8, 4, None)
        assert tx.identity.advance(2, 1, now=0) == Identity(made.store_id, 9, 5, None)
        assert tx.identity.advance(2, 1, now=NOW) == Identity(made.store_id, NOW, 6, None)
