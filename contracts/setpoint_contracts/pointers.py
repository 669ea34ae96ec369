"""JSON Pointers (RFC 6901)."""

from collections.abc import Iterable

Step = str | int
"""A member by its name, or an item by its place."""


def pointer(steps: Iterable[Step]) -> str:
    """Write the pointer to where some steps lead."""
    return "".join(f"/{escaped(str(step))}" for step in steps)


def escaped(name: str) -> str:
    """Write a member's name as it stands in a pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def unescaped(token: str) -> str:
    """Read a member's name as it stands in a pointer."""
    return token.replace("~1", "/").replace("~0", "~")
