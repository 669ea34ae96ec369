"""What the broker has not confirmed yet: ``outbox``, one row for each service, schema or audit event."""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from setpointd.records import OutboxKind, OutboxRow
from setpointd.store.sql import Reading, Writing

_NONE: Mapping[int, OutboxRow] = {}


class OutboxReads(Reading):
    """Reads of the outbox."""

    def first(
        self, kind: OutboxKind, limit: int, without: Collection[int] = (), done: Mapping[int, OutboxRow] = _NONE
    ) -> list[OutboxRow]:
        """The rows of a kind that wait longest. Costs no more when more wait.

        Left out are those of some ids, and those that are ``done``, by their ids, if they are still as they were.
        """
        rows = self._all(
            "SELECT id, kind, ref, writes FROM outbox WHERE kind = :kind ORDER BY id LIMIT :limit",
            kind=kind,
            limit=limit + len(without) + len(done),
        )
        left = (row for row in (OutboxRow(*row) for row in rows) if row.id not in without and done.get(row.id) != row)
        return list(islice(left, limit))

    def pending(self) -> int:
        """How many rows wait to be published."""
        return self._number("SELECT count(*) FROM outbox")


class OutboxWrites(OutboxReads, Writing):
    """Writes of the outbox."""

    def add(self, kind: OutboxKind, ref: str) -> None:
        """Have something published; once is enough, whatever has changed until then.

        What waits already keeps its place: else a service that changes all the time would never get its turn.
        """
        self._do(
            "INSERT INTO outbox (kind, ref) VALUES (:kind, :ref)"
            " ON CONFLICT (kind, ref) DO UPDATE SET writes = outbox.writes + 1",
            kind=kind,
            ref=ref,
        )

    def remove(self, rows: Iterable[OutboxRow]) -> None:
        """Take out rows that the broker has confirmed, unless they were written again since they were read."""
        self._do_many(
            "DELETE FROM outbox WHERE id = :id AND writes = :writes",
            [{"id": row.id, "writes": row.writes} for row in rows],
        )
