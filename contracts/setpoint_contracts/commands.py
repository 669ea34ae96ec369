"""What every command has in common, and the table of all of them (wire section 6).

A command is one model here, one handler in the daemon, and its vectors. A model that is defined is registered: the
noun modules are imported by the package.
"""

from enum import StrEnum
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, StrictBool

from setpoint_contracts.audit import Action
from setpoint_contracts.errors import Code
from setpoint_contracts.model import Model
from setpoint_contracts.names import Reason
from setpoint_contracts.tokens import Permission

COMMANDS: dict[str, type["Command"]] = {}
"""All commands by name. Filled by the definitions of the models."""


class Scope(StrEnum):
    """What becomes of a command where its token is for some services only."""

    NAMED = "its `service`"
    """Refused for another service than the token's."""
    EACH = "each, or none"
    """Refused whole when it would change one that is not the token's."""
    SHOWN = "shown ones"
    """Answered with the token's services, as if there were no others."""
    ANY = "any"
    """Not narrowed."""


class Result(Model):
    """What a command answers with."""

    model_config = ConfigDict(extra="forbid")


class Command(Model):
    """The parameters of one command; an unknown parameter is refused.

    A concrete command says its ``name``, what it ``needs``, and its ``result``; further which ``errors`` it can give
    beside those that any command can, which audit ``actions`` it leaves, and on which topics it ``publishes``; and what
    it ``may_need`` besides, as its parameters or the store have it. ``scope`` follows from all that unless it is said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: ClassVar[str]
    needs: ClassVar[Permission]
    result: ClassVar[type[Result]]
    errors: ClassVar[tuple[Code, ...]] = ()
    actions: ClassVar[tuple[Action, ...]] = ()
    publishes: ClassVar[tuple[str, ...]] = ()
    may_need: ClassVar[tuple[Permission, ...]] = ()
    scope: ClassVar[Scope]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            COMMANDS[cls.name] = cls
            if "scope" not in cls.__dict__:
                cls.scope = cls._usual_scope()

    @classmethod
    def _usual_scope(cls) -> Scope:
        if cls.needs is Permission.MANAGE:
            return Scope.ANY
        service = cls.model_fields.get("service")
        if service is not None and service.is_required():
            return Scope.NAMED
        return Scope.EACH if cls.actions else Scope.SHOWN

    def asks(self) -> tuple[tuple[Permission, str | None], ...]:
        """List the permissions that this command asks for, and for which services; None: for no one service.

        What it ``needs`` for the one in ``service``, if it has such a parameter; a command that needs more says so
        itself, as far as its parameters tell.
        """
        return ((self.needs, getattr(self, "service", None)),)


class Change(Command):
    """A command that says why it changes something, and can be tried without an effect (✎ in wire section 6)."""

    reason: Reason | None = Field(default=None, description="Why; stands in history and audit.")
    dry_run: StrictBool = Field(default=False, description="Answer with the result that would be, and write nothing.")


class ChangeResult(Result):
    """What a change answers with."""

    dry_run: bool | None = Field(
        default=None,
        description="True when nothing was written, because the caller asked so.",
    )
