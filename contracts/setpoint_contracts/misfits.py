"""What does not fit a model: pydantic's findings in the words of the wire (section 3, row 12), without any value."""

from typing import TypedDict

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


class Misfit(TypedDict):
    """One thing that does not fit: where (members joined by dots, empty: as a whole), why, and a slug for programs."""

    field: str
    message: str
    type: str


def misfit_at(place: tuple[str | int, ...], message: str, slug: str) -> ValidationError:
    """Make what a validator of a whole model raises when one place in it is to blame."""
    problem = InitErrorDetails(type=PydanticCustomError(slug, "{message}", {"message": message}), loc=place, input=None)
    return ValidationError.from_exception_data("misfit", [problem], hide_input=True)


def misfits(error: ValidationError, limit: int | None = None) -> list[Misfit]:
    """List what does not fit, at most so many. A field may be named by whoever wrote the input; values stay out."""
    return [
        {
            "field": ".".join(map(str, problem["loc"])),
            "message": problem["msg"].removeprefix("Value error, "),
            "type": problem["type"],
        }
        for problem in error.errors(include_url=False, include_input=False, include_context=False)[:limit]
    ]


def line(misfit: Misfit) -> str:
    """Tell of one in a line: ``field: message``, or the message alone."""
    return f"{misfit['field']}: {misfit['message']}" if misfit["field"] else misfit["message"]
