"""What instances of services say that they run, and the command that tells of it (wire section 6)."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from setpoint_contracts.commands import Command, Result
from setpoint_contracts.model import Model
from setpoint_contracts.names import InstanceName, ServiceName
from setpoint_contracts.numbers import Count
from setpoint_contracts.timestamps import TimeParam, Timestamp
from setpoint_contracts.tokens import Permission

MAX_REPORT_BYTES = 4096


class AppliedReport(Model):
    """Retained on ``config/applied/{service}/{instance}`` by a service; cleared by an empty payload."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    service: ServiceName
    instance: InstanceName
    version: Count = Field(description="Of the document that it took, or rejected.")
    revision: Count
    status: Literal["applied", "rejected"]
    error: Annotated[str, StringConstraints(strict=True, max_length=500)] | None = Field(
        default=None, description="What went wrong, in words."
    )
    at: TimeParam


class ReportedInstance(AppliedReport):
    """A report, and how far behind it is."""

    at: Timestamp
    lag: Count = Field(description="By how many versions it is behind the newest one, a tombstone included.")


class AppliedResult(Result):
    """What instances said last, in the order of their services and names."""

    instances: list[ReportedInstance]


class Applied(Command):
    """Say which instance runs what, as far as they report it."""

    name: ClassVar[str] = "applied"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = AppliedResult

    service: ServiceName | None = Field(default=None, description="Only the instances of this service.")
