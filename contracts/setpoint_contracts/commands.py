"""What every command has in common, and the table of all of them (wire section 6).

A command is one model here, one handler in the daemon, and its vectors. A model that is defined is registered: the
noun modules are imported by the package.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from setpoint_contracts.audit import Action
from setpoint_contracts.errors import Code
from setpoint_contracts.names import Reason
from setpoint_contracts.tokens import Permission

COMMANDS: dict[str, type["Command"]] = {}
"""All commands by name. Filled by the definitions of the models."""


class Result(BaseModel):
    """What a command answers with."""

    model_config = ConfigDict(extra="forbid")


class Command(BaseModel):
    """The parameters of one command; an unknown parameter is refused.

    A concrete command says its ``name``, what it ``needs``, and its ``result``; further which ``errors`` it can give
    beside those that any command can, which audit ``actions`` it leaves, and on which topics it ``publishes``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: ClassVar[str]
    needs: ClassVar[Permission]
    result: ClassVar[type[Result]]
    errors: ClassVar[tuple[Code, ...]] = ()
    actions: ClassVar[tuple[Action, ...]] = ()
    publishes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            COMMANDS[cls.name] = cls

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
