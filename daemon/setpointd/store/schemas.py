"""The JSON Schemas of configs: ``config_schemas``."""

from collections.abc import Callable, Iterator

from sqlite_utils import Database

from setpoint_contracts.audit import Action
from setpointd.records import SchemaRecord
from setpointd.store.audit import AuditWrites
from setpointd.store.config import ConfigWrites
from setpointd.store.known import Known
from setpointd.store.outbox import OutboxWrites
from setpointd.store.sql import Reading, Writing

_HEAD = "service, updated_at, updated_by"


class SchemaReads(Reading):
    """Reads of schemas."""

    def text(self, service: str) -> str | None:
        """The schema of a service as JSON text; None when it has none."""
        row = self._one("SELECT schema_json FROM config_schemas WHERE service = :service", service=service)
        return None if row is None else row[0]

    def find(self, service: str) -> SchemaRecord | None:
        """The schema of a service, and since when it has it."""
        row = self._one(f"SELECT {_HEAD}, schema_json FROM config_schemas WHERE service = :service", service=service)  # noqa: S608
        return None if row is None else SchemaRecord(*row)

    def heads(self, after: str | None = None) -> Iterator[SchemaRecord]:
        """The services that have a schema in the order of their names, without its text."""
        rows = self._all(
            f"SELECT {_HEAD}, '' FROM config_schemas WHERE service > :after ORDER BY service",  # noqa: S608
            after=after or "",
        )
        return (SchemaRecord(*row) for row in rows)

    def retained(self) -> Iterator[tuple[str, str]]:
        """What stands retained on the broker: services, each with the text of its schema."""
        return ((row[0], row[1]) for row in self._all("SELECT service, schema_json FROM config_schemas"))


class SchemaWrites(SchemaReads, Writing):
    """Writes of schemas; each is a revision of the store.

    ``check_schema`` refuses a schema that nobody could be sent, by raising.
    """

    def __init__(
        self, db: Database, known: Known, config: ConfigWrites, audit: AuditWrites, outbox: OutboxWrites
    ) -> None:
        super().__init__(db)
        self.next_job()
        self._known = known
        self._config = config
        self._audit = audit
        self._outbox = outbox

    def next_job(self) -> None:
        """Begin a job: nothing is refused for its size until somebody says so."""
        self.check_schema: Callable[[str, str], None] = lambda _service, _text: None

    def put(self, service: str, text: str, *, concealed: bool = False) -> SchemaRecord:
        """Set the schema of a service; ``concealed``: its config has a new version for that, in the same revision."""
        self.check_schema(service, text)
        record = SchemaRecord(service, self._known.stamp.at, self._known.stamp.by, text)
        self._do(
            "INSERT INTO config_schemas (service, schema_json, updated_at, updated_by)"
            " VALUES (:service, :text, :at, :by)"
            " ON CONFLICT (service) DO UPDATE SET schema_json = :text, updated_at = :at, updated_by = :by",
            service=service,
            text=text,
            at=record.updated_at,
            by=record.updated_by,
        )
        self._noted(Action.SET_SCHEMA, service, bytes=len(text.encode()), **({"concealed": True} if concealed else {}))
        return record

    def remove(self, service: str) -> None:
        """Remove the schema of a service."""
        self._do("DELETE FROM config_schemas WHERE service = :service", service=service)
        self._noted(Action.DELETE_SCHEMA, service)

    def announce(self, service: str) -> None:
        """Have the schema of a service published, or its topic cleared when there is none."""
        self._outbox.add_document("schema", service)

    def _noted(self, action: Action, service: str, **details: int) -> None:
        self._audit.record(action, service=service, revision=self._config.take_revision(), **details)
        self.announce(service)
