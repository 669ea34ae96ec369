"""Integers of the wire, as types that pydantic checks (wire section 2)."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt

MAX_INTEGER = 2**53 - 1
"""Every JSON reader takes integers up to here for what they are (RFC 8259 section 6)."""


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


INTEGRAL = BeforeValidator(_whole)
"""Takes 1.0 for 1. It stands behind the bounds of a ``StrictInt``, so that these are in the JSON Schema."""

Integer = Annotated[StrictInt, INTEGRAL]
"""An integral number, 1.0 too; never a boolean and never text."""

Count = Annotated[StrictInt, Field(ge=0, le=MAX_INTEGER), INTEGRAL]
"""One that is not negative: a number of things, a revision, an epoch."""

PageLimit = Annotated[StrictInt, Field(ge=1, le=1000), INTEGRAL]
"""How many entries of a list one reply holds at most."""
