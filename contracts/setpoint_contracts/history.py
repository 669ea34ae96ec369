"""How configs came to be what they are, and the way back: history, versions, differences, restore (wire section 6)."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from setpoint_contracts.audit import Action
from setpoint_contracts.commands import Change, Command, Result
from setpoint_contracts.config import UPDATED, ChangedServices, Difference, Version, repeated
from setpoint_contracts.errors import Code
from setpoint_contracts.misfits import misfit_at
from setpoint_contracts.model import Model
from setpoint_contracts.names import ConfigKey, PrincipalName, ProfileName, ServiceName
from setpoint_contracts.numbers import Count, PageLimit
from setpoint_contracts.timestamps import TimeParam, Timestamp
from setpoint_contracts.tokens import Permission

MAX_RESTORED = 1000
POINTS = ("version", "revision", "time")


class HistoryEntry(Model):
    """One change of a top-level key. No ``old`` on add, no ``new`` on remove."""

    model_config = ConfigDict(extra="forbid")

    id: Count = Field(description="Later entries have greater ids.")
    revision: Count
    service: ServiceName
    version: Version = Field(description="The version that this change was part of.")
    key: ConfigKey
    op: Literal["add", "remove", "replace"]
    old: Any = None
    new: Any = None
    changed_at: Timestamp
    changed_by: PrincipalName
    reason: str | None
    request_id: str


class HistoryQueryResult(Result):
    """Entries, newest first."""

    entries: list[HistoryEntry]
    next: Count | None = Field(
        description="Pass it as ``before`` to read on; null at the end. A page with it may be short, even empty."
    )


class HistoryQuery(Command):
    """List changes of keys, newest first; of those that match all that is given."""

    name: ClassVar[str] = "history/query"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = HistoryQueryResult

    service: ServiceName | None = None
    key: ConfigKey | None = None
    user: PrincipalName | None = Field(default=None, description="Who made the change.")
    since: TimeParam | None = Field(default=None, description="Made at or after this time.")
    until: TimeParam | None = Field(default=None, description="Made before this time.")
    limit: PageLimit = 100
    before: Count | None = Field(default=None, description="Only entries with a smaller id.")


class VersionInfo(Model):
    """One version of a service, without its config; ``deleted`` is true of a tombstone."""

    model_config = ConfigDict(extra="forbid")

    version: Version
    revision: Count
    updated_at: Timestamp
    updated_by: PrincipalName
    reason: str | None
    request_id: str
    deleted: Literal[True] | None = None


class HistoryVersionsResult(Result):
    """Versions, newest first."""

    versions: list[VersionInfo]
    next: Count | None = Field(description="Pass it as ``before`` to read on; null at the end.")


class HistoryVersions(Command):
    """List the versions of a service, newest first."""

    name: ClassVar[str] = "history/versions"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = HistoryVersionsResult
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND,)

    service: ServiceName
    limit: PageLimit = 100
    before: Count | None = Field(default=None, description="Only smaller versions.")


class HistoryRestore(Change):
    """Make configs what they were: new versions with the old content, all of them or none, in one revision."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "properties": {"version": {}, "services": {"type": "array", "maxItems": 1}},
                    "required": ["version", "services"],
                },
                {"properties": {"revision": {}}, "required": ["revision"]},
                {"properties": {"time": {}}, "required": ["time"]},
            ],
        },
    )

    name: ClassVar[str] = "history/restore"
    needs: ClassVar[Permission] = Permission.WRITE
    result: ClassVar[type[Result]] = ChangedServices
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND, Code.SCHEMA_INVALID, Code.TOO_LARGE)
    actions: ClassVar[tuple[Action, ...]] = (Action.RESTORE_CONFIG,)
    publishes: ClassVar[tuple[str, ...]] = (UPDATED,)
    may_need: ClassVar[tuple[Permission, ...]] = (Permission.DELETE,)

    services: Annotated[list[ServiceName], Field(min_length=1, max_length=MAX_RESTORED)] | None = Field(
        default=None, description="Which ones; absent: all that the store knows."
    )
    version: Version | None = Field(default=None, description="This version, of the one service that is named.")
    revision: Count | None = Field(default=None, description="As it was once this revision was made.")
    time: TimeParam | None = Field(default=None, description="As it was at this time.")

    @model_validator(mode="after")
    def _one_point(self) -> Self:
        _check_one(self, *POINTS)
        if self.version is not None and (self.services is None or len(self.services) != 1):
            slug = "missing" if self.services is None else "too_long"
            raise misfit_at(("services",), "with version, name exactly one service", slug)
        return self

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if self.services is not None and (index := repeated(self.services)) is not None:
            raise misfit_at(("services", index), "is named twice", "named_twice")
        return self

    def asks(self) -> tuple[tuple[Permission, str | None], ...]:
        """List what the services that are named ask for; what must be deleted shows when it runs."""
        return tuple((self.needs, service) for service in self.services or (None,))


class Point(Model):
    """What to compare: a service at a version, as it was at a revision or a time, or as a profile holds it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"minProperties": 1, "maxProperties": 1},
    )

    version: Version | None = None
    revision: Count | None = Field(default=None, description="The newest version made at or before this revision.")
    time: TimeParam | None = Field(default=None, description="The newest version made at or before this time.")
    profile: ProfileName | None = Field(default=None, description="The name of a profile.")

    @model_validator(mode="after")
    def _one_point(self) -> Self:
        _check_one(self, *POINTS, "profile")
        return self


class Compared(Model):
    """Which version was compared; 0 and ``deleted`` when the service was not there, or not in the profile."""

    model_config = ConfigDict(extra="forbid")

    version: Count
    revision: Count
    deleted: Literal[True] | None = None


class DiffResult(Result):
    """The two versions, and what makes the second out of the first; what is deleted counts as an empty config."""

    model_config = ConfigDict(serialize_by_alias=True)

    service: ServiceName
    from_: Compared = Field(alias="from")
    to: Compared
    diff: list[Difference]


class Diff(Command):
    """Compare what a service was at two points."""

    name: ClassVar[str] = "diff"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = DiffResult
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND,)

    service: ServiceName
    from_: Point = Field(alias="from")
    to: Point


def _check_one(points: BaseModel, *names: str) -> None:
    given = [name for name in names if getattr(points, name) is not None]
    if len(given) != 1:
        text = f"give exactly one of {', '.join(names[:-1])} and {names[-1]}"
        raise misfit_at((given[1],), text, "one_too_many") if given else misfit_at((), text, "missing")
