"""Searching in configs (wire section 6)."""

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from setpoint_contracts.commands import Command, Result
from setpoint_contracts.model import Model
from setpoint_contracts.names import ConfigKey, ServiceName
from setpoint_contracts.numbers import PageLimit
from setpoint_contracts.tokens import Permission


class Match(Model):
    """A top-level key that matches, by its name or in its value."""

    model_config = ConfigDict(extra="forbid")

    service: ServiceName
    key: ConfigKey
    value: Any


class SearchResult(Result):
    """The first matches, by service and key."""

    matches: list[Match]


class Search(Command):
    """Find keys by a text in their name or value, in any case."""

    name: ClassVar[str] = "search"
    needs: ClassVar[Permission] = Permission.READ
    result: ClassVar[type[Result]] = SearchResult

    query: Annotated[str, Field(strict=True, min_length=1, max_length=200)]
    service: ServiceName | None = Field(default=None, description="Only in the config of this service.")
    limit: PageLimit = 100
