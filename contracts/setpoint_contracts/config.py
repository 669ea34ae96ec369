"""The config of a service: its documents, and the commands that read and write it (wire sections 5 and 6)."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, StrictBool, StrictInt, model_validator

from setpoint_contracts.audit import Action
from setpoint_contracts.commands import Change, ChangeResult, Command, Result
from setpoint_contracts.errors import Code
from setpoint_contracts.misfits import misfit_at
from setpoint_contracts.model import Model
from setpoint_contracts.names import ConfigKey, PrincipalName, ServiceName
from setpoint_contracts.numbers import INTEGRAL, MAX_INTEGER, Count, Integer, PageLimit
from setpoint_contracts.sealing import COMPACT_JWE
from setpoint_contracts.timestamps import TimeParam, Timestamp
from setpoint_contracts.tokens import Permission
from setpoint_contracts.topics import Topics

MAX_CONFIG_KEYS = 1000
MAX_CHANGES = 128
UPDATED = Topics().updated("{service}")

Config = dict[ConfigKey, Any]
Version = Annotated[StrictInt, Field(ge=1, le=MAX_INTEGER), INTEGRAL]
ExpectedVersion = Annotated[
    Count | None,
    Field(description="Write only at this version; 0: only if the service does not exist. Absent: always."),
]


class Head(Model):
    """Which state of a service this is."""

    model_config = ConfigDict(extra="forbid")

    service: ServiceName
    version: Count = Field(description="1, 2, 3, … and never reused; 0 stands for a service that never was.")
    revision: Count = Field(description="The store's revision at which this version was made.")
    epoch: Integer = Field(description="The epoch in which this version was made.")
    updated_at: Timestamp | None
    updated_by: PrincipalName | None


class ConfigDocument(Head):
    """One version of a service's config. A tombstone has ``deleted`` and no ``config``.

    The update document on ``config/updated/{service}`` is this document of the newest version.
    """

    config: Config | None = None
    deleted: Literal[True] | None = None


class Difference(Model):
    """One difference between two configs; ``path`` is a JSON Pointer (RFC 6901). Arrays are replaced whole."""

    model_config = ConfigDict(extra="forbid")

    op: Literal["add", "remove", "replace"]
    path: str
    old: Any = None
    new: Any = None


class GetResult(Result, ConfigDocument):
    """A config document; with ``key`` also that key's ``value``, with ``reveal`` the values of its secrets."""

    value: Any = None
    secrets_jwe: str | None = Field(
        default=None,
        pattern=COMPACT_JWE,
        description="An object of JSON Pointer into the config to value, as compact JWE (dir, A256GCM). The key is"
        " HKDF-SHA256 of the caller's own HS256 secret, no salt, info setpoint/secrets.",
    )


class WriteResult(ChangeResult, ConfigDocument):
    """The document after the write, and what it changed."""

    changed: bool = Field(description="False: the config was the same already, and no version was made.")
    diff: list[Difference]


class ChangedDocument(ConfigDocument):
    """What one of several changes made of its service."""

    changed: bool = Field(description="False: the config was the same already, and no version was made.")
    diff: list[Difference]


class ApplyResult(ChangeResult):
    """One result for each change, in their order; all of them have one revision."""

    results: list[ChangedDocument]


class ChangedService(Head):
    """A service that got a new version, without its config; ``deleted`` is true when that is a tombstone."""

    deleted: Literal[True] | None = None
    diff: list[Difference]


class ChangedServices(ChangeResult):
    """What a command made of many services, in one revision."""

    results: list[ChangedService] = Field(description="The services that got a new version, by their names.")
    unchanged: Integer = Field(description="How many services were as they should be, and kept their version.")


class DeleteResult(ChangeResult, ConfigDocument):
    """The tombstone."""


class ListedService(Head):
    """A service without its config."""

    keys: Integer = Field(description="How many top-level keys its config has.")


class ListResult(Result):
    """Services in the order of their names."""

    services: list[ListedService]
    next: ServiceName | None = Field(description="Pass it as ``after`` to read on; null at the end.")


class Get(Command):
    """Read the config of a service: now, or at a version, a revision or a time."""

    name: ClassVar[str] = "get"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = GetResult
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND,)
    may_need: ClassVar[tuple[Permission, ...]] = (Permission.WRITE,)

    service: ServiceName
    version: Version | None = None
    revision: Count | None = Field(default=None, description="The newest version made at or before this revision.")
    time: TimeParam | None = Field(default=None, description="The newest version made at or before this time.")
    key: ConfigKey | None = Field(default=None, description="Answer with this top-level key's value as well.")
    reveal: StrictBool = Field(default=False, description="Answer with the values of secrets, for the caller only.")

    def asks(self) -> tuple[tuple[Permission, str | None], ...]:
        """Who may see a secret is who may write it."""
        return (*super().asks(), *([(Permission.WRITE, self.service)] if self.reveal else []))

    @model_validator(mode="after")
    def _one_point_in_time(self) -> Self:
        given = [name for name in ("version", "revision", "time") if getattr(self, name) is not None]
        if len(given) > 1:
            raise misfit_at((given[1],), "give at most one of version, revision and time", "one_too_many")
        return self


class List(Command):
    """List services."""

    name: ClassVar[str] = "list"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = ListResult

    prefix: Annotated[str, Field(strict=True, max_length=63)] = ""
    limit: PageLimit = 100
    after: ServiceName | None = Field(default=None, description="Begin behind this service.")


class Set(Change):
    """Replace the whole config of a service. Keys that are not given are gone."""

    name: ClassVar[str] = "set"
    needs: ClassVar[Permission] = Permission.WRITE
    result: ClassVar[type[Result]] = WriteResult
    errors: ClassVar[tuple[Code, ...]] = (Code.VERSION_CONFLICT, Code.SCHEMA_INVALID, Code.TOO_LARGE)
    actions: ClassVar[tuple[Action, ...]] = (Action.UPDATE_CONFIG,)
    publishes: ClassVar[tuple[str, ...]] = (UPDATED,)

    service: ServiceName
    config: Config
    expected_version: ExpectedVersion = None


class Patch(Change):
    """Change parts of a config with a JSON Merge Patch (RFC 7396): null removes a key, other keys stay."""

    name: ClassVar[str] = "patch"
    needs: ClassVar[Permission] = Permission.WRITE
    result: ClassVar[type[Result]] = WriteResult
    errors: ClassVar[tuple[Code, ...]] = (
        Code.NOT_FOUND,
        Code.VERSION_CONFLICT,
        Code.SCHEMA_INVALID,
        Code.TOO_LARGE,
    )
    actions: ClassVar[tuple[Action, ...]] = (Action.UPDATE_CONFIG,)
    publishes: ClassVar[tuple[str, ...]] = (UPDATED,)

    service: ServiceName
    patch: Config
    expected_version: ExpectedVersion = None


class Delete(Change):
    """Delete a service. Its history stays; set again, it goes on at the next version."""

    name: ClassVar[str] = "delete"
    needs: ClassVar[Permission] = Permission.DELETE
    result: ClassVar[type[Result]] = DeleteResult
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND, Code.VERSION_CONFLICT)
    actions: ClassVar[tuple[Action, ...]] = (Action.DELETE_CONFIG,)
    publishes: ClassVar[tuple[str, ...]] = (UPDATED,)

    service: ServiceName
    expected_version: ExpectedVersion = None


class OneChange(Model):
    """One of the changes of ``apply``: what ``set``, ``patch`` or ``delete`` would take."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "oneOf": [
                {"properties": {"op": {"const": "set"}, "config": {}, "patch": False}, "required": ["config"]},
                {"properties": {"op": {"const": "patch"}, "patch": {}, "config": False}, "required": ["patch"]},
                {"properties": {"op": {"const": "delete"}, "config": False, "patch": False}},
            ],
        },
    )

    op: Literal["set", "patch", "delete"]
    service: ServiceName
    config: Config | None = Field(default=None, description="With set, and only there.")
    patch: Config | None = Field(default=None, description="With patch, and only there.")
    expected_version: ExpectedVersion = None

    @model_validator(mode="after")
    def _what_its_op_takes(self) -> Self:
        for name, op in (("config", "set"), ("patch", "patch")):
            given = getattr(self, name) is not None
            if given and self.op != op:
                raise misfit_at((name,), f"{self.op} takes no {name}", "extra_forbidden")
            if self.op == op and not given:
                raise misfit_at((name,), f"is needed: {op} takes a {name}", "missing")
        return self

    def change(self) -> Set | Patch | Delete:
        """Return it as a command of its own."""
        command = _CHANGES[self.op]
        given = {name: getattr(self, name) for name in command.model_fields.keys() & self.model_fields_set}
        return command.model_construct(**given)


_CHANGES: dict[str, type[Set | Patch | Delete]] = {"set": Set, "patch": Patch, "delete": Delete}


class Apply(Change):
    """Change several services at once: all of it or nothing, in one revision."""

    name: ClassVar[str] = "apply"
    needs: ClassVar[Permission] = Permission.WRITE
    result: ClassVar[type[Result]] = ApplyResult
    errors: ClassVar[tuple[Code, ...]] = (
        Code.NOT_FOUND,
        Code.VERSION_CONFLICT,
        Code.SCHEMA_INVALID,
        Code.TOO_LARGE,
    )
    actions: ClassVar[tuple[Action, ...]] = (Action.UPDATE_CONFIG, Action.DELETE_CONFIG)
    publishes: ClassVar[tuple[str, ...]] = (UPDATED,)
    may_need: ClassVar[tuple[Permission, ...]] = (Permission.DELETE,)

    changes: Annotated[list[OneChange], Field(min_length=1, max_length=MAX_CHANGES)]

    @model_validator(mode="after")
    def _one_per_service(self) -> Self:
        services = [change.service for change in self.changes]
        if (index := repeated(services)) is not None:
            text = "has a change of its own already; put both into one"
            raise misfit_at(("changes", index, "service"), text, "named_twice")
        return self

    def asks(self) -> tuple[tuple[Permission, str | None], ...]:
        """List what each change asks for."""
        return tuple((change.change().needs, change.service) for change in self.changes)


def repeated(names: Sequence[str]) -> int | None:
    """Return the place of the first name that stood before already; None when each stands once."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            return index
        seen.add(name)
    return None
