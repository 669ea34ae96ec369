"""Tokens as the daemon shows them, and the commands on them (wire section 6)."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from setpoint_contracts.commands import Command, Result
from setpoint_contracts.names import Kid, PrincipalName, ServiceGlob
from setpoint_contracts.timestamps import Timestamp
from setpoint_contracts.tokens import Algorithm, Permission, Role


class TokenInfo(BaseModel):
    """A token without its key."""

    model_config = ConfigDict(extra="forbid")

    kid: Kid
    name: PrincipalName
    role: Role
    services: list[ServiceGlob] | None
    alg: Algorithm
    created_at: Timestamp
    created_by: str
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    last_used_at: Timestamp | None


class TokenListResult(Result):
    """All tokens, in the order of their making; never a secret."""

    tokens: list[TokenInfo]


class TokenList(Command):
    """List all tokens."""

    name: ClassVar[str] = "token/list"
    needs: ClassVar[Permission] = Permission.MANAGE
    result: ClassVar[type[Result]] = TokenListResult
