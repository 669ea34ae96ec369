"""Two changes of one config put together."""

from typing import Any

import pytest

from setpoint.cli.merging import merge

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged", "both"),
    [
        ({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}, []),
        ({"a": 1}, {"a": 1}, {"a": 2}, {"a": 2}, []),
        ({"a": 1}, {"a": 2}, {"a": 2}, {"a": 2}, []),
        ({"a": 1}, {"a": 2}, {"a": 3}, {"a": 2}, ["/a"]),
        ({"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "c": 1}, []),
        ({"a": 1}, {}, {"a": 2}, {}, ["/a"]),
        ({"a": 1}, {"a": 2}, {}, {"a": 2}, ["/a"]),
        ({}, {"a": 1}, {"b": 2}, {"b": 2, "a": 1}, []),
        ({"o": {"x": 1, "y": 1}}, {"o": {"x": 2, "y": 1}}, {"o": {"x": 1, "y": 2}}, {"o": {"x": 2, "y": 2}}, []),
        ({"o": {"x/~": 1}}, {"o": {"x/~": 2}}, {"o": {"x/~": 3}}, {"o": {"x/~": 2}}, ["/o/x~1~0"]),
        ({"a": 1}, {"a": True}, {"a": 1}, {"a": True}, []),
        ({"a": 1}, {"a": 1.0}, {"a": 2}, {"a": 2}, []),
        ({"l": [1]}, {"l": [1, 2]}, {"l": [0]}, {"l": [1, 2]}, ["/l"]),
    ],
)
def test_what_touches_different_places_is_merged(
    base: Json, mine: Json, theirs: Json, merged: Json, both: list[str]
) -> None:
    """Each side's changes are in the result; where both changed one place, mine stands and the place is named."""
    assert merge(base, mine, theirs) == (merged, both)
