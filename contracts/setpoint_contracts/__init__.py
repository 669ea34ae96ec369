"""Setpoint's wire, for Python: models, names, topics, error codes, signatures. Needs pydantic and cryptography only."""

from setpoint_contracts import (
    access,
    applied,
    audit,
    audit_log,
    config,
    config_schema,
    history,
    profiles,
    retention,
    search,
    system,
)
from setpoint_contracts.commands import COMMANDS, Change, Command
from setpoint_contracts.envelope import Claims, ErrorBody, Reply
from setpoint_contracts.errors import Code
from setpoint_contracts.sealing import open_sealed, seal_for
from setpoint_contracts.signing import sign_command, sign_detached, verify_command, verify_detached
from setpoint_contracts.tokens import Permission, Role, Token
from setpoint_contracts.topics import Topics

__all__ = [
    "COMMANDS",
    "Change",
    "Claims",
    "Code",
    "Command",
    "ErrorBody",
    "Permission",
    "Reply",
    "Role",
    "Token",
    "Topics",
    "access",
    "applied",
    "audit",
    "audit_log",
    "config",
    "config_schema",
    "history",
    "open_sealed",
    "profiles",
    "retention",
    "seal_for",
    "search",
    "sign_command",
    "sign_detached",
    "system",
    "verify_command",
    "verify_detached",
]
