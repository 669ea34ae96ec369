"""Commands on the schemas of configs (wire section 6)."""

from itertools import islice

from setpoint_contracts import Code, strictjson
from setpoint_contracts.config_schema import MAX_SCHEMA_BYTES, SchemaDelete, SchemaGet, SchemaList, SchemaSet
from setpointd.call import Call
from setpointd.errors import Rejected
from setpointd.handlers.secret_values import SecretValues, check_count, conceal_past
from setpointd.records import SchemaRecord
from setpointd.render import Result
from setpointd.schema import Failing, Schema, schema_invalid
from setpointd.store import Snapshot, Tx


def set_schema(tx: Tx, call: Call, command: SchemaSet) -> Result:
    """Set the schema of a service."""
    service = command.service
    text = strictjson.dumps(command.content)
    _check_size(text)
    schema = call.daemon.schemas.add(text, Schema(command.content))
    failing = _failing(tx, call, service, schema)
    if failing and not command.force:
        raise schema_invalid(service, failing, "; mend it, or set the schema by force")
    record = tx.schemas.find(service)
    changed = record is None or record.text != text
    concealed = changed and schema.marks_secrets and conceal_past(tx, call, service, schema)
    if record is None or changed:
        record = tx.schemas.put(service, text, concealed=concealed)
    return Result(**record.head(), changed=changed, failing=failing, concealed=concealed)


def _failing(tx: Tx, call: Call, service: str, schema: Schema) -> list[Failing]:
    document = tx.config.current(service)
    if document is None or document.config is None:
        return []
    config, places = SecretValues(tx, call, service).opened(document.config, None, "")
    places |= schema.secret_places(service, config)
    check_count(places)
    return schema.failing(config, strictjson.dumps(config), places)


def get_schema(snapshot: Snapshot, _call: Call, command: SchemaGet) -> Result:
    """Read the schema of a service."""
    record = _existing(snapshot, command.service)
    return Result(**record.head(), schema=strictjson.loads_stored(record.text))


def list_schemas(snapshot: Snapshot, call: Call, command: SchemaList) -> Result:
    """List the schemas of the services that the caller sees."""
    seen = (record for record in snapshot.schemas.heads(command.after) if call.who.sees(record.service))
    page = list(islice(seen, command.limit + 1))
    schemas = [record.head() for record in page[: command.limit]]
    return Result(schemas=schemas, next=schemas[-1]["service"] if len(page) > command.limit else None)


def delete_schema(tx: Tx, _call: Call, command: SchemaDelete) -> Result:
    """Remove the schema of a service."""
    record = _existing(tx, command.service)
    tx.schemas.remove(command.service)
    return Result(**record.head())


def _existing(snapshot: Snapshot, service: str) -> SchemaRecord:
    record = snapshot.schemas.find(service)
    if record is None:
        raise Rejected(Code.NOT_FOUND, f"{service} has no schema")
    return record


def _check_size(text: str) -> None:
    size = len(text.encode())
    if size > MAX_SCHEMA_BYTES:
        message = f"the schema has {size} bytes; at most {MAX_SCHEMA_BYTES} are allowed"
        raise Rejected(Code.TOO_LARGE, message, bytes=size, max_bytes=MAX_SCHEMA_BYTES)
