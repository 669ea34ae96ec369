"""What every command has in common, and the table of all of them (wire section 6).

A command is one model here, one handler in the daemon, and its vectors. A model that is defined is registered: the
noun modules are imported by the package.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from setpoint_contracts.names import Reason
from setpoint_contracts.tokens import Permission

COMMANDS: dict[str, type["Command"]] = {}
"""All commands by name. Filled by the definitions of the models."""


class Result(BaseModel):
    """What a command answers with."""

    model_config = ConfigDict(extra="forbid")


class Command(BaseModel):
    """The parameters of one command; an unknown parameter is refused.

    A concrete command says its ``name``, what it ``needs``, and its ``result``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: ClassVar[str]
    needs: ClassVar[Permission]
    result: ClassVar[type[Result]]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            COMMANDS[cls.name] = cls

    def touches(self) -> tuple[str, ...]:
        """Name the services that this command names; a token's scope must match each of them.

        The one in ``service``, if there is such a parameter; a command that names others says so itself.
        """
        service = getattr(self, "service", None)
        return () if service is None else (service,)


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
