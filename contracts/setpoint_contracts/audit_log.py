"""The audit log: every event that there was, and the command that reads it (wire section 6)."""

from typing import ClassVar

from pydantic import Field

from setpoint_contracts.audit import Action, AuditEvent
from setpoint_contracts.commands import Command, Result, Scope
from setpoint_contracts.names import PrincipalName, ServiceName
from setpoint_contracts.numbers import Count, Integer, PageLimit
from setpoint_contracts.timestamps import TimeParam
from setpoint_contracts.tokens import Permission


class LoggedEvent(AuditEvent):
    """An audit event as the store holds it."""

    id: Integer = Field(description="Its place in the log: what happened later has a higher one.")
    hash: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256, of this event and of all before it. ID:HASH is what `setpointd verify --anchor` takes.",
    )


class AuditQueryResult(Result):
    """Events, newest first. A page may have few events or none, and not be the last: go on until ``next`` is null."""

    events: list[LoggedEvent]
    next: Integer | None = Field(description="Pass it as ``before`` to read on; null at the end.")


class AuditQuery(Command):
    """Read the audit log."""

    name: ClassVar[str] = "audit/query"
    needs: ClassVar[Permission] = Permission.MANAGE
    result: ClassVar[type[Result]] = AuditQueryResult
    scope: ClassVar[Scope] = Scope.SHOWN

    action: Action | None = None
    user: PrincipalName | None = Field(default=None, description="Who did it, or was denied it.")
    service: ServiceName | None = None
    since: TimeParam | None = Field(default=None, description="Events of this time and later.")
    until: TimeParam | None = Field(default=None, description="Events before this time.")
    limit: PageLimit = 100
    before: Count | None = Field(default=None, description="Events with an id below this one.")
