"""Which parts of a schema apply where, and how much checking a value costs."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpointd.subschemas import AmbiguousError, DanglingError, EndlessError, Shape, applying

NODES = 5


def shape(schema: dict[str, Any]) -> Shape:
    """Read a schema whose patterns are the beginnings of names."""
    return Shape(schema, lambda pattern: lambda name: name.startswith(pattern))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"anyOf": [{"$ref": "#"}]}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"if": {"$ref": "#/$defs/b"}}, "b": {"not": {"$ref": "#/$defs/a"}}}},
        {"properties": {"x": {"$anchor": "here", "$ref": "#here"}}},
        {"$dynamicAnchor": "me", "dependentSchemas": {"x": {"$dynamicRef": "#me"}}},
    ],
)
def test_what_refers_to_itself_on_the_spot_is_endless(schema: dict[str, Any]) -> None:
    """Whatever way it takes, as long as it goes no further down."""
    with pytest.raises(EndlessError):
        shape(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"child": {"$ref": "#"}}},
        {"items": {"$ref": "#"}, "additionalProperties": {"$ref": "#"}},
        {"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": {"prefixItems": [{"$ref": "#"}]}}},
        {"$ref": "#/elsewhere/1", "elsewhere": [True, {"patternProperties": {"x": {"$ref": "#"}}}]},
        {"contains": {"$anchor": "here", "items": {"$ref": "#here"}}},
        {"dependencies": {"a": ["b"], "c": {"properties": {"d": {"$ref": "#"}}}}},
    ],
)
def test_what_refers_to_itself_further_down_is_a_tree(schema: dict[str, Any]) -> None:
    """However deep a value is, checking it comes to an end."""
    value: Any = 1
    for _ in range(20):
        value = {"child": [value], "x": [value]} if _ < 3 else {"child": value}
    assert shape(schema).cost(value, 10_000) < 10_000


@pytest.mark.parametrize(
    "reference", ["#/$defs/none", "#none", "#/$defs/a/type", "#/list/7", "#/list/x", "#/list/-1", "#//"]
)
def test_a_reference_that_leads_nowhere_is_named(reference: str) -> None:
    """To nothing, or to what is no schema."""
    with pytest.raises(DanglingError) as caught:
        shape({"$ref": reference, "$defs": {"a": {"type": "object"}}, "list": [{}]})
    assert caught.value.args == (reference,)


def test_each_way_to_a_part_counts() -> None:
    """What applies twice costs twice, and what doubles at every step costs as much as that comes to."""
    chain = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)}
    laughs = shape({"$ref": "#/$defs/a0", "$defs": {**chain, "a30": {}}})
    assert laughs.cost({}, 10**12) > 2**30
    assert laughs.weight < 500
    tree = shape({"properties": {"x": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}})
    value: Any = {}
    for _ in range(25):
        value = {"x": value}
    assert tree.cost(value, 10**12) > 2**25


def test_counting_stops_at_its_limit() -> None:
    """A schema that costs a lot is not counted to its end."""
    wide = shape({"items": {"allOf": [{} for _ in range(1000)]}})
    assert 5000 < wide.cost([1] * 100_000, 5000) < 10_000


def test_what_applies_to_a_member() -> None:
    """The property of its name and the patterns that fit; what is for others, only when none of these is for it."""
    root = shape(
        {
            "properties": {"ab": {"title": "1"}},
            "patternProperties": {"a": {"title": "2"}, "ab": {"title": "3"}},
            "additionalProperties": {"title": "4", "enum": [1]},
            "unevaluatedProperties": {"title": "5"},
        }
    ).root
    found = {name: [part.weight for part in root.below(name)] for name in ("ab", "ax", "x")}
    assert {name: len(parts) for name, parts in found.items()} == {"ab": 3, "ax": 1, "x": 2}
    assert found["x"] == [2, 1]


def test_what_applies_to_an_item() -> None:
    """What is for its place, else what is for the rest; and what may be for any of them."""
    root = shape({"prefixItems": [{"enum": [1]}], "items": {"enum": [1, 2]}, "contains": {"enum": [1, 2, 3]}}).root
    assert [[part.weight for part in root.below(place)] for place in (0, 1)] == [[2, 4], [3, 4]]


@given(st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=12))
def test_how_often_a_part_applies_is_the_number_of_ways_to_it(edges: list[tuple[int, int]]) -> None:
    """In any schema without a circle, whatever the order of its parts."""
    forward = [(low, high) for low, high in edges if low < high]
    definitions = {
        f"n{node}": {
            "title": str(node),
            "enum": list(range(node)),
            "allOf": [{"$ref": f"#/$defs/n{to}"} for source, to in forward if source == node],
        }
        for node in range(NODES)
    }
    root = shape({"$ref": "#/$defs/n0", "$defs": definitions}).root
    ways = Counter({0: 1})
    for node in range(NODES):
        for source, to in forward:
            if source == node:
                ways[to] += ways[node]
    counts = [count for part, count in applying(Counter({root: 1})).items() if part.beside]
    assert sum(counts) >= sum(count for node, count in ways.items() if any(s == node for s, _ in forward))


SECRET = {"writeOnly": True}


@pytest.mark.parametrize(
    ("schema", "value", "places"),
    [
        ({"properties": {"a": SECRET}}, {"a": 1, "b": 1}, [("a",)]),
        ({"properties": {"a": SECRET}}, {"b": {"a": 1}}, []),
        ({"properties": {"a": {"writeOnly": False}, "writeOnly": {"const": True}}}, {"a": 1, "writeOnly": True}, []),
        ({"properties": {"a": {**SECRET, "properties": {"b": SECRET}}}}, {"a": {"b": 1}}, [("a",)]),
        ({"properties": {"a": {"items": {"properties": {"b": SECRET}}}}}, {"a": [{"b": 1}, {"c": 1}]}, [("a", 0, "b")]),
        ({"properties": {"a": {"prefixItems": [True, SECRET]}}}, {"a": [1, 2, 3]}, [("a", 1)]),
        ({"properties": {"a": {"contains": SECRET}}}, {"a": [1, 2]}, [("a", 0), ("a", 1)]),
        ({"patternProperties": {"pin": SECRET}}, {"pin-1": 1, "other": 1}, [("pin-1",)]),
        ({"additionalProperties": SECRET, "properties": {"a": {}}}, {"a": 1, "b": 2}, [("b",)]),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"a": SECRET}}}}, {"a": 1}, [("a",)]),
        ({"if": {"required": ["b"]}, "then": {"properties": {"a": SECRET}}}, {"a": 1}, [("a",)]),
        ({"anyOf": [{"properties": {"a": SECRET}}, {"properties": {"a": {}}}]}, {"a": 1}, [("a",)]),
        ({"properties": {"next": {"$ref": "#"}, "a": SECRET}}, {"next": {"next": {"a": 1}}}, [("next", "next", "a")]),
    ],
)
def test_places_that_are_marked(schema: dict[str, Any], value: Any, places: list[tuple[str | int, ...]]) -> None:
    """Whatever leads there, by all that may apply; of places inside each other the outermost."""
    assert shape(schema).marked(value, 1000) == set(places)


def test_looking_for_marks_has_an_end() -> None:
    """A value that would take too many steps is not looked through."""
    tree = shape({"items": {"$ref": "#"}, "properties": {"a": SECRET}})
    value = [[{"a": 1}] * 100] * 100
    assert tree.marked(value, 1000) is None
    assert len(tree.marked(value, 100_000) or ()) == 10_000


def test_a_schema_without_marks_is_not_looked_through() -> None:
    """However large the value is, it takes no step."""
    plain = shape({"properties": {"a": {"items": {"type": "integer"}}}})
    assert not plain.marks
    assert plain.marked({"a": [1] * 1000}, 0) == set()


@pytest.mark.parametrize("where", ["examples", "default", "const", "enum"])
def test_an_anchor_that_stands_twice_is_refused(where: str) -> None:
    """One of them may be data: whose it is must not be guessed, or a mark could be missed."""
    marked = {"$anchor": "s", "properties": {"p": SECRET}}
    schema = {"$ref": "#s", "$defs": {"s": marked}, where: [{"$anchor": "s"}]}
    with pytest.raises(AmbiguousError):
        shape(schema)
