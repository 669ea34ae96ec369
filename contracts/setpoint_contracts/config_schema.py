"""The JSON Schema that the configs of a service have to fit, and the commands on it (wire section 6)."""

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, StrictBool

from setpoint_contracts.audit import Action
from setpoint_contracts.commands import Command, Result
from setpoint_contracts.config import UPDATED
from setpoint_contracts.errors import Code
from setpoint_contracts.model import Model
from setpoint_contracts.names import PrincipalName, ServiceName
from setpoint_contracts.numbers import PageLimit
from setpoint_contracts.timestamps import Timestamp
from setpoint_contracts.tokens import Permission

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_SCHEMA_BYTES = 65_536
MAX_FAILURES = 100
PUBLISHED = "config/schema/{service}"

# On the wire it is ``schema``, a name that pydantic's models have taken.
JsonSchema = Annotated[dict[str, Any], Field(alias="schema", description="A JSON Schema, 2020-12.")]


class Failure(Model):
    """One thing of a config that does not fit its schema. It holds no value of the config."""

    model_config = ConfigDict(extra="forbid")

    pointer: str = Field(description="Where, as a JSON Pointer (RFC 6901) into the config.")
    message: str
    keyword: str = Field(description="The keyword of JSON Schema that it does not fit.")


class SchemaHead(Model):
    """Whose schema it is, and since when."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    service: ServiceName
    updated_at: Timestamp
    updated_by: PrincipalName


class SchemaGetResult(Result, SchemaHead):
    """A schema."""

    content: JsonSchema


class SchemaSetResult(Result, SchemaHead):
    """What became of the schema, and of the config that is there already."""

    changed: bool = Field(description="False: the schema was the same already.")
    failing: list[Failure] = Field(
        description=f"What of the current config does not fit, at most {MAX_FAILURES}; only with force.",
    )
    concealed: bool = Field(
        description="Something of the current config is a secret from now on; it is the same config in a new version."
    )


class SchemaListResult(Result):
    """Which services have a schema, in the order of their names."""

    schemas: list[SchemaHead]
    next: ServiceName | None = Field(description="Pass it as ``after`` to read on; null at the end.")


class SchemaDeleteResult(Result, SchemaHead):
    """The schema that was removed: since when it had been there, and who had set it."""


class SchemaSet(Command):
    """Set the schema of a service, be there a config of it or not: from then on every write is held against it."""

    name: ClassVar[str] = "schema/set"
    needs: ClassVar[Permission] = Permission.MANAGE
    result: ClassVar[type[Result]] = SchemaSetResult
    errors: ClassVar[tuple[Code, ...]] = (Code.SCHEMA_INVALID, Code.TOO_LARGE)
    actions: ClassVar[tuple[Action, ...]] = (Action.SET_SCHEMA,)
    publishes: ClassVar[tuple[str, ...]] = (PUBLISHED, UPDATED)

    service: ServiceName
    content: JsonSchema
    force: StrictBool = Field(default=False, description="Set it although the current config does not fit.")


class SchemaGet(Command):
    """Read the schema of a service."""

    name: ClassVar[str] = "schema/get"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = SchemaGetResult
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND,)

    service: ServiceName


class SchemaList(Command):
    """List which services have a schema."""

    name: ClassVar[str] = "schema/list"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = SchemaListResult

    limit: PageLimit = 100
    after: ServiceName | None = Field(default=None, description="Begin behind this service.")


class SchemaDelete(Command):
    """Remove the schema of a service. Its configs stay as they are."""

    name: ClassVar[str] = "schema/delete"
    needs: ClassVar[Permission] = Permission.MANAGE
    result: ClassVar[type[Result]] = SchemaDeleteResult
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND,)
    actions: ClassVar[tuple[Action, ...]] = (Action.DELETE_SCHEMA,)
    publishes: ClassVar[tuple[str, ...]] = (PUBLISHED,)

    service: ServiceName
