"""Profiles: what services held at a moment, kept under a name, and the commands on them (wire section 6)."""

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, StrictBool, StringConstraints

from setpoint_contracts.audit import Action
from setpoint_contracts.commands import Change, Command, Result
from setpoint_contracts.config import UPDATED, ChangedServices, Config
from setpoint_contracts.errors import Code
from setpoint_contracts.model import Model
from setpoint_contracts.names import PrincipalName, ProfileName, ServiceName
from setpoint_contracts.numbers import Count, Integer
from setpoint_contracts.timestamps import Timestamp
from setpoint_contracts.tokens import Permission

MAX_PROFILES = 1000

Description = Annotated[str, StringConstraints(strict=True, max_length=500)]
# A parameter ``name``, whose attribute may not be called like the command's own ``name``.
Named = Annotated[ProfileName, Field(alias="name")]


class Profile(Model):
    """A profile without what it holds."""

    model_config = ConfigDict(extra="forbid")

    name: ProfileName
    description: Description | None
    services: Integer = Field(description="How many services it holds; of those that the caller sees.")
    revision: Count = Field(description="The store's revision at which it was saved.")
    created_at: Timestamp
    created_by: PrincipalName
    updated_at: Timestamp = Field(description="When it was saved last.")
    updated_by: PrincipalName


class ProfileResult(Result, Profile):
    """The profile, without what it holds."""


class ProfileListResult(Result):
    """Profiles in the order of their names, by code points."""

    profiles: list[Profile]


class ProfileGetResult(Result, Profile):
    """The profile, and what it holds of the services that the caller sees."""

    snapshot: dict[ServiceName, Config]


class ProfileSave(Command):
    """Keep what services hold now under a name."""

    name: ClassVar[str] = "profile/save"
    needs: ClassVar[Permission] = Permission.WRITE
    result: ClassVar[type[Result]] = ProfileResult
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND, Code.ALREADY_EXISTS)
    actions: ClassVar[tuple[Action, ...]] = (Action.SAVE_PROFILE,)

    profile: Named
    description: Description | None = None
    services: Annotated[list[ServiceName], Field(min_length=1)] | None = Field(
        default=None,
        description="The services to keep. Absent: all that live.",
    )
    overwrite: StrictBool = Field(default=False, description="Replace a profile of this name.")

    def asks(self) -> tuple[tuple[Permission, str | None], ...]:
        """List what saving each service asks for."""
        return tuple((self.needs, service) for service in self.services or (None,))


class ProfileList(Command):
    """List profiles."""

    name: ClassVar[str] = "profile/list"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = ProfileListResult


class ProfileGet(Command):
    """Read a profile with what it holds."""

    name: ClassVar[str] = "profile/get"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = ProfileGetResult
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND,)

    profile: Named


class ProfileDelete(Command):
    """Delete a profile. The services stay as they are."""

    name: ClassVar[str] = "profile/delete"
    needs: ClassVar[Permission] = Permission.DELETE
    result: ClassVar[type[Result]] = ProfileResult
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND,)
    actions: ClassVar[tuple[Action, ...]] = (Action.DELETE_PROFILE,)

    profile: Named


class ProfileLoad(Change):
    """Bring services to what a profile holds: all of them or none, in one revision."""

    name: ClassVar[str] = "profile/load"
    needs: ClassVar[Permission] = Permission.WRITE
    result: ClassVar[type[Result]] = ChangedServices
    errors: ClassVar[tuple[Code, ...]] = (Code.NOT_FOUND, Code.SCHEMA_INVALID, Code.TOO_LARGE)
    actions: ClassVar[tuple[Action, ...]] = (Action.LOAD_PROFILE,)
    publishes: ClassVar[tuple[str, ...]] = (UPDATED,)
    may_need: ClassVar[tuple[Permission, ...]] = (Permission.DELETE,)

    profile: Named
    exact: StrictBool = Field(default=False, description="Delete living services that the profile lacks, too.")
