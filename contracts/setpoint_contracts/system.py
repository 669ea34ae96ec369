"""The daemon itself: what it is, how it does, and what it says of itself on the broker (wire sections 6 and 7)."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from setpoint_contracts.commands import Command, Result
from setpoint_contracts.names import PrincipalName, ServiceGlob
from setpoint_contracts.timestamps import Timestamp
from setpoint_contracts.tokens import Permission, Role

PRODUCT = "setpoint"
PROTOCOL = 1

Mode = Literal["starting", "active", "read_only", "standby"]


class Limits(BaseModel):
    """What the daemon takes at most; bytes and seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_command_bytes: int
    max_command_lifetime_s: int
    max_clock_skew_s: int
    max_config_bytes: int
    max_config_keys: int
    max_json_levels: int
    require_expected_version: bool


class InfoResult(Result):
    """What this daemon is, and who you are to it."""

    product: str
    version: str
    protocol: int
    server_time: Timestamp
    commands: list[str]
    limits: Limits
    principal: PrincipalName
    role: Role
    services: list[ServiceGlob] | None


class StatusResult(Result):
    """How the daemon does."""

    mode: Mode
    reason: str | None
    store_id: UUID
    epoch: int
    revision: int
    instance: UUID
    uptime_s: float
    services: int
    outbox_pending: int
    store_bytes: int
    last_backup: Timestamp | None


class Info(Command):
    """Say what the daemon is, its limits, and who the caller is to it."""

    name: ClassVar[str] = "info"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = InfoResult


class Status(Command):
    """Say how the daemon does."""

    name: ClassVar[str] = "status"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = StatusResult


class Health(BaseModel):
    """Retained on ``system/health/config-manager``; ``ok`` is false in the Last Will and on a clean stop."""

    model_config = ConfigDict(extra="forbid")

    ok: bool
    event: Literal["online", "offline", "mode"]
    timestamp: Timestamp
    instance: UUID
    epoch: int
    version: str
    mode: Mode


class EpochClaim(BaseModel):
    """The writer's claim, retained on ``config/epoch``."""

    model_config = ConfigDict(extra="forbid")

    store_id: UUID
    epoch: int
    revision: int
    instance: UUID
    since: Timestamp
