"""What does not fit a model, told once for all who say it."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from setpoint_contracts.misfits import Misfit, line, misfit_at, misfits


class Inner(BaseModel):
    """Something with a member that must be there."""

    n: int


class Model(BaseModel):
    """Something to misfit."""

    model_config = ConfigDict(extra="forbid")

    items: list[Inner] = []
    lone: bool = False
    paired: bool = False

    @model_validator(mode="after")
    def _is_not_lone(self) -> "Model":
        if self.lone:
            raise ValueError("is lone")
        if self.paired and len(self.items) != 2:
            raise misfit_at(("items", 0), "is {not} one of two", "unpaired")
        return self


def problems(value: Any, limit: int | None = None) -> list[Misfit]:
    """Tell what is wrong with a value."""
    with pytest.raises(ValidationError) as caught:
        Model.model_validate(value)
    return misfits(caught.value, limit)


def test_each_has_a_place_a_reason_and_a_slug() -> None:
    """The place is the way to it, joined by dots; no value stands in any of them."""
    found = problems({"items": [{"n": 1}, {"n": "hunter2"}, {}], "colour": "hunter2"})
    assert [(each["field"], each["type"]) for each in found] == [
        ("items.1.n", "int_parsing"),
        ("items.2.n", "missing"),
        ("colour", "extra_forbidden"),
    ]
    assert all(each.keys() == {"field", "message", "type"} for each in found)
    assert "hunter2" not in repr(found)


def test_what_does_not_fit_as_a_whole_has_no_place() -> None:
    """Its line is the reason alone."""
    [whole] = problems({"lone": True})
    assert whole == {"field": "", "message": "is lone", "type": "value_error"}
    assert line(whole) == "is lone"


def test_a_model_can_lay_blame_on_a_place() -> None:
    """Though it was looked at as a whole; words for people are taken as they are."""
    expected = {"field": "items.0", "message": "is {not} one of two", "type": "unpaired"}
    assert problems({"items": [{"n": 1}], "paired": True}) == [expected]


def test_one_in_a_line() -> None:
    """Place, colon, reason."""
    misfit = Misfit(field="exp", message="must be later than iat", type="too_early")
    assert line(misfit) == "exp: must be later than iat"


def test_no_more_than_so_many() -> None:
    """The first of them."""
    value = {f"k{n}": n for n in range(9)}
    assert problems(value, 2) == problems(value)[:2]
