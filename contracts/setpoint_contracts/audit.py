"""Audit events (wire section 6)."""

from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field

from setpoint_contracts.model import Model
from setpoint_contracts.names import ServiceName
from setpoint_contracts.numbers import Integer
from setpoint_contracts.timestamps import Timestamp


class Action(StrEnum):
    """What an audit event tells of."""

    UPDATE_CONFIG = "update_config"
    DELETE_CONFIG = "delete_config"
    RESTORE_CONFIG = "restore_config"
    SAVE_PROFILE = "save_profile"
    DELETE_PROFILE = "delete_profile"
    LOAD_PROFILE = "load_profile"
    SET_SCHEMA = "set_schema"
    DELETE_SCHEMA = "delete_schema"
    CREATE_TOKEN = "create_token"  # noqa: S105 - the name of an action
    REVOKE_TOKEN = "revoke_token"  # noqa: S105 - the name of an action
    ROTATE_TOKEN = "rotate_token"  # noqa: S105 - the name of an action
    PRUNE_HISTORY = "prune_history"
    ADVANCE_EPOCH = "advance_epoch"
    AUTH_FAILURE = "auth_failure"
    PERMISSION_DENIED = "permission_denied"


class AuditEvent(Model):
    """Published at least once on ``audit/config/{action}``; holds no config value and no secret."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    user: str | None = Field(description="The principal; null when nobody could be made out.")
    service: ServiceName | None = None
    timestamp: Timestamp
    request_id: str | None = None
    revision: Integer | None = None
    details: dict[str, Any]
