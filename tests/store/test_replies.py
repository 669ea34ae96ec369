"""Stored replies: what a command that ran was answered, until it cannot come again."""

from sqlite_utils import Database

from setpoint_contracts.timestamps import rfc3339
from setpointd.records import StoredReply
from setpointd.store.replies import SLICE_BYTES, SLICE_ROWS
from tests.store.jobs import FIRST_MOMENT, job


def test_stored_replies_are_kept_until_they_run_out(db: Database) -> None:
    """By token and jti, digest and bytes as they were; the moment of expiry still counts as kept."""
    one, two, three = StoredReply(b"\x00\xff", b"one"), StoredReply(b"d", b"two"), StoredReply(b"d", b"three")
    with job(db) as tx:
        tx.replies.store("tok_a", "j-1", one, rfc3339(FIRST_MOMENT + 5))
        tx.replies.store("tok_a", "j-2", two, rfc3339(FIRST_MOMENT + 6))
        tx.replies.store("tok_b", "j-1", three, rfc3339(FIRST_MOMENT + 9))
        assert tx.replies.stored("tok_a", "j-1") == one
        assert tx.replies.stored("tok_b", "j-2") is None
    with job(db) as tx:
        assert tx.replies.forget(rfc3339(FIRST_MOMENT + 6)) == 1
        found = [tx.replies.stored(*key) for key in (("tok_a", "j-1"), ("tok_a", "j-2"), ("tok_b", "j-1"))]
    assert found == [None, two, three]


def store(db: Database, count: int, size: int) -> None:
    """Keep so many replies of so many bytes each, all of which run out at once but the last."""
    with job(db) as tx:
        for n in range(count):
            tx.replies.store("tok_a", f"j-{n}", StoredReply(b"d", b"x" * size), rfc3339(FIRST_MOMENT + n / 1000))
        tx.replies.store("tok_a", "lasting", StoredReply(b"d", b"y"), rfc3339(FIRST_MOMENT + 9000))


def slices(db: Database) -> list[int]:
    """Forget what has run out, a transaction for each slice, and tell how large they were."""
    sizes = [-1]
    while sizes[-1]:
        with job(db) as tx:
            sizes.append(tx.replies.forget(rfc3339(FIRST_MOMENT + 5000)))
    with job(db) as tx:
        assert tx.replies.stored("tok_a", "lasting") == StoredReply(b"d", b"y")
    return sizes[1:-1]


def test_expired_replies_go_in_slices_of_a_few_rows(db: Database) -> None:
    """However many have run out, one statement removes a bounded number of them."""
    store(db, 2 * SLICE_ROWS + 1, size=10)
    assert slices(db) == [SLICE_ROWS, SLICE_ROWS, 1]


def test_expired_replies_go_in_slices_of_a_few_bytes(db: Database) -> None:
    """However large they are, one statement removes a bounded number of bytes, give or take one reply."""
    store(db, 9, size=SLICE_BYTES // 2)
    assert slices(db) == [2, 2, 2, 2, 1]


def test_a_reply_larger_than_a_slice_goes_too(db: Database) -> None:
    """Each slice removes something, or it would never end."""
    store(db, 3, size=2 * SLICE_BYTES)
    assert slices(db) == [1, 1, 1]
