"""Removing what is old from the history (wire section 6)."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, StrictInt, model_validator

from setpoint_contracts.audit import Action
from setpoint_contracts.commands import Command, Result
from setpoint_contracts.misfits import misfit_at
from setpoint_contracts.numbers import INTEGRAL, Integer
from setpoint_contracts.tokens import Permission

MAX_KEEP_DAYS = 36_500
MAX_KEEP_VERSIONS = 1_000_000


class HistoryPruneResult(Result):
    """How much was removed."""

    versions: Integer = Field(description="How many versions.")
    history: Integer = Field(description="How many entries of the history, which went with them.")
    complete: bool = Field(description="False: there is more than one command removes; the rest goes by itself.")


class HistoryPrune(Command):
    """Remove old versions and their history. The newest version of a service stays, and what a profile needs."""

    name: ClassVar[str] = "history/prune"
    needs: ClassVar[Permission] = Permission.MANAGE
    result: ClassVar[type[Result]] = HistoryPruneResult
    actions: ClassVar[tuple[Action, ...]] = (Action.PRUNE_HISTORY,)

    keep_days: Annotated[StrictInt, Field(ge=0, le=MAX_KEEP_DAYS), INTEGRAL] | None = Field(
        default=None,
        description="Keep what was in force within so many days. With keep_versions, what either keeps stays.",
    )
    keep_versions: Annotated[StrictInt, Field(ge=1, le=MAX_KEEP_VERSIONS), INTEGRAL] | None = Field(
        default=None,
        description="Keep so many of the newest versions of each service.",
    )

    @model_validator(mode="after")
    def _says_what_stays(self) -> Self:
        if self.keep_days is None and self.keep_versions is None:
            raise misfit_at((), "give keep_days, keep_versions, or both", "missing")
        return self
