"""The chain of the audit log: the hash of a row covers the row and the hash of the row before it.

Rules:

- ``hash`` is the SHA-256 of a text in UTF-8: the compact JSON array ``[prev_hash, id, action, user, service, timestamp,
  request_id, revision, details_json]``. ``prev_hash`` stands in it as 64 lower-case hex digits, NULL as null, and
  ``details_json`` as a string, the text that the row holds.
- ``prev_hash`` is the ``hash`` of the row with the next lower id; of the first row it is 32 zero bytes.
- This is a format on disk, as the tables are: it is never changed for rows that are written.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from setpoint_contracts import strictjson

MEMBERS = "id, action, user, service, timestamp, request_id, revision, details_json"
"""The columns that a hash covers beside ``prev_hash``, in their order."""


@dataclass(frozen=True, slots=True)
class Link:
    """A row's place in the chain; as text ``ID:HASH``."""

    id: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.id}:{self.hash.hex()}"

    def then(self, members: Sequence[Any]) -> "Link":
        """Return the link of a row that follows; ``members`` are the values of ``MEMBERS``."""
        text = strictjson.dumps([self.hash.hex(), *members])
        return Link(members[0], hashlib.sha256(text.encode()).digest())


START = Link(0, bytes(32))
"""What the first row follows."""


class BrokenChainError(Exception):
    """A row does not fit; ``args[0]`` says in a line which one, and why."""


def follow(last: Link, rows: Iterable[sqlite3.Row]) -> Iterator[Link]:
    """Follow rows of ``MEMBERS, prev_hash, hash`` on from a link; ``BrokenChainError`` at one that does not fit."""
    try:
        for *members, prev_hash, own in rows:
            if prev_hash != last.hash:
                what = f"it does not follow on row {last.id}" if last.id else "it is not the first one that was written"
                raise BrokenChainError(f"row {members[0]} does not fit: {what}")
            link = _link(last, members)
            if link is None or own != link.hash:
                raise BrokenChainError(f"row {members[0]} does not fit: its hash is that of other content")
            yield link
            last = link
    except sqlite3.Error as error:
        # Text that is no UTF-8 is found by the module, which has no code of SQLite's for it.
        if not getattr(error, "sqlite_errorname", "SQLITE_CORRUPT").startswith("SQLITE_CORRUPT"):
            raise
        raise BrokenChainError(f"the row after row {last.id} cannot be read") from None


def _link(last: Link, members: Sequence[Any]) -> Link | None:
    try:
        return last.then(members)
    except (TypeError, ValueError):  # a blob, or a number beyond all bounds: no row is written with one
        return None
