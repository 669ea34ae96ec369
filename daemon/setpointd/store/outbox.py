"""What the broker has not confirmed yet: ``outbox_documents``, one row for each service or schema; ``outbox_events``.

Both are read in the order of their ids, so that reading takes no further index. A document's id is its place in the
queue, and never used again; an event's is that of the audit log.
"""

from collections.abc import Collection, Iterable
from itertools import islice

from setpointd.records import DocumentKind, OutboxQueue, OutboxRow
from setpointd.store.sql import Reading, Writing

_WAITING: dict[OutboxQueue, str] = {
    "documents": "SELECT id, kind, ref, writes FROM outbox_documents ORDER BY id LIMIT :limit",
    "events": "SELECT id, 'audit', CAST(id AS TEXT), 1 FROM outbox_events ORDER BY id LIMIT :limit",
}


class OutboxReads(Reading):
    """Reads of the outbox."""

    def first(
        self, queue: OutboxQueue, limit: int, without: Collection[int] = (), done: Collection[OutboxRow] = ()
    ) -> list[OutboxRow]:
        """The rows of a queue that wait longest. Costs no more when more wait.

        Left out are those of some ids, and those that are ``done``, if they are still as they were.
        """
        rows = self._all(_WAITING[queue], limit=limit + len(without) + len(done))
        left = (row for row in (OutboxRow(*row) for row in rows) if row.id not in without and row not in done)
        return list(islice(left, limit))

    def pending(self) -> int:
        """How many rows wait to be published."""
        return self._number(
            "SELECT (SELECT count(*) FROM outbox_documents) + (SELECT count(*) FROM outbox_events)",
        )


class OutboxWrites(OutboxReads, Writing):
    """Writes of the outbox."""

    def add_document(self, kind: DocumentKind, service: str) -> None:
        """Have a service or its schema published; once is enough, whatever has changed until then.

        What waits already keeps its place: else a service that changes all the time would never get its turn.
        """
        self._do(
            "INSERT INTO outbox_documents (kind, ref) VALUES (:kind, :ref)"
            " ON CONFLICT (kind, ref) DO UPDATE SET writes = outbox_documents.writes + 1",
            kind=kind,
            ref=service,
        )

    def add_event(self, event: int) -> None:
        """Have an event of the audit log published; it may wait already, where somebody has cut the log off."""
        self._do("INSERT INTO outbox_events (id) VALUES (:id) ON CONFLICT (id) DO NOTHING", id=event)

    def remove(self, rows: Iterable[OutboxRow]) -> None:
        """Take out rows that the broker has confirmed, unless they were written again since they were read."""
        values = [{"id": row.id, "writes": row.writes, "event": row.kind == "audit"} for row in rows]
        self._do_many("DELETE FROM outbox_events WHERE id = :id", [row for row in values if row["event"]])
        self._do_many(
            "DELETE FROM outbox_documents WHERE id = :id AND writes = :writes",
            [row for row in values if not row["event"]],
        )
