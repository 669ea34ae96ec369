"""The daemon itself: what it is, how it does, and what it says of itself on the broker (wire sections 6 and 7)."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from setpoint_contracts.audit import Action
from setpoint_contracts.commands import Command, Result, Scope
from setpoint_contracts.config import UPDATED
from setpoint_contracts.model import Model
from setpoint_contracts.names import PrincipalName, ServiceGlob
from setpoint_contracts.numbers import Count, Integer
from setpoint_contracts.timestamps import Timestamp
from setpoint_contracts.tokens import Permission, Role
from setpoint_contracts.topics import Topics

PRODUCT = "setpoint"
PROTOCOL = 1

Mode = Literal["starting", "active", "read_only", "standby"]


class Limits(Model):
    """What the daemon takes at most; bytes and seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_command_bytes: Integer
    max_command_lifetime_s: Integer
    max_clock_skew_s: Integer
    max_config_bytes: Integer
    max_config_keys: Integer
    max_json_levels: Integer
    max_schema_bytes: Integer
    max_secrets: Integer
    max_packet_bytes: Integer | None = Field(
        description="The largest MQTT packet that the broker takes (CONNACK's Maximum Packet Size); null: any.",
    )
    tombstone_keep_days: Integer = Field(description="How long the tombstone of a deleted service stays retained.")
    require_expected_version: bool
    rate_limit_per_s: Integer = Field(description="How many commands a second one principal may send; 0: any number.")
    rate_limit_burst: Integer = Field(description="How many of them at once, after a while without.")


class InfoResult(Result):
    """What this daemon is, and who you are to it."""

    product: str
    version: str
    protocol: Integer
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
    epoch: Integer
    revision: Integer
    instance: UUID
    uptime_s: float
    services: Integer
    outbox_pending: Integer
    oldest_job_s: float = Field(description="For how long the oldest job has waited for the writer; 0: none waits.")
    oversized_documents: Integer = Field(description="How many retained documents are larger than the broker takes.")
    store_bytes: Integer
    last_backup: Timestamp | None


class EpochAdvanceResult(Result):
    """What this store is now."""

    epoch: Integer
    revision: Integer = Field(description="The one in which all services got their new versions.")
    services: Integer = Field(description="How many services got a new version.")
    tombstones: Integer = Field(description="How many services that only the broker knew got a tombstone.")


class Info(Command):
    """Say what the daemon is, its limits, and who the caller is to it."""

    name: ClassVar[str] = "info"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = InfoResult
    scope: ClassVar[Scope] = Scope.ANY


class Status(Command):
    """Say how the daemon does."""

    name: ClassVar[str] = "status"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = StatusResult
    scope: ClassVar[Scope] = Scope.ANY


class EpochAdvance(Command):
    """Make this daemon's store the truth: an epoch, a revision and versions above all that the broker has seen."""

    name: ClassVar[str] = "epoch/advance"
    needs: ClassVar[Permission] = Permission.MANAGE
    result: ClassVar[type[Result]] = EpochAdvanceResult
    actions: ClassVar[tuple[Action, ...]] = (Action.ADVANCE_EPOCH,)
    publishes: ClassVar[tuple[str, ...]] = (UPDATED, Topics().epoch, Topics().health)

    expected_epoch: Count | None = Field(
        default=None,
        description="Do it only while the store is at this epoch, as status tells it. Absent: always.",
    )


class Health(Model):
    """Retained on ``system/health/config-manager``; ``ok`` is false in the Last Will and on a clean stop."""

    model_config = ConfigDict(extra="forbid")

    ok: bool
    event: Literal["online", "offline", "mode"]
    timestamp: Timestamp
    instance: UUID
    epoch: Integer
    version: str
    mode: Mode


class EpochClaim(Model):
    """The writer's claim, retained on ``config/epoch``."""

    model_config = ConfigDict(extra="forbid")

    store_id: UUID
    epoch: Integer
    revision: Integer
    instance: UUID
    since: Timestamp
