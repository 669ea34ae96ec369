"""The schema of a config: what is one, what does not fit it, and in which words."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import strictjson
from setpoint_contracts.config_schema import DIALECT, MAX_FAILURES, Failure
from setpointd import schema as schemas
from setpointd.errors import BadRequest, UnreadableError
from setpointd.schema import Failing, Schema, Schemas

OBJECT = {"type": "object"}


def failing(schema: dict[str, Any], config: dict[str, Any]) -> list[Failing]:
    """Hold a config against a schema."""
    return Schema(schema).failing(config, strictjson.dumps(config))


def refusal(schema: dict[str, Any]) -> tuple[str, str]:
    """Say which field of a schema is refused, and for what."""
    with pytest.raises(BadRequest) as caught:
        Schema(schema)
    (misfit,) = caught.value.details["errors"]
    return misfit["field"], misfit["type"]


@pytest.mark.parametrize(
    ("schema", "field", "kind"),
    [
        ({"type": "objekt"}, "schema.type", "bad_schema"),
        ({"properties": {"a": {"minimum": "x"}}}, "schema.properties.a.minimum", "bad_schema"),
        ({"properties": {"a": {"writeOnly": "yes"}}}, "schema.properties.a.writeOnly", "bad_schema"),
        ({"properties": []}, "schema.properties", "bad_schema"),
        ({"$ref": 1}, "schema.$ref", "bad_schema"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "schema.$schema", "wrong_dialect"),
        ({"$schema": {"a": 1}}, "schema.$schema", "wrong_dialect"),
        ({"properties": {"a": {"$schema": DIALECT}}}, "schema.properties.a.$schema", "nested_resource"),
        ({"$defs": {"a": {"$id": "http://localhost/a"}}}, "schema.$defs.a.$id", "nested_resource"),
        ({"$ref": "http://127.0.0.1:1/x.json"}, "schema.$ref", "remote_ref"),
        ({"allOf": [{"$ref": "file:///etc/passwd"}]}, "schema.allOf.0.$ref", "remote_ref"),
        ({"$ref": DIALECT}, "schema.$ref", "remote_ref"),
        ({"$dynamicRef": "x#y"}, "schema.$dynamicRef", "remote_ref"),
        ({"$ref": "#/$defs/a"}, "schema", "bad_schema"),
        ({"$ref": "#/x", "x": 3}, "schema.x", "bad_schema"),
        ({"$ref": "#"}, "schema", "endless_ref"),
        ({"pattern": "("}, "schema.pattern", "bad_pattern"),
        ({"pattern": "(?=a)"}, "schema.pattern", "bad_pattern"),
        ({"pattern": r"(a)\1"}, "schema.pattern", "bad_pattern"),
        ({"pattern": "(a{1000}){1000}b"}, "schema.pattern", "bad_pattern"),
        ({"patternProperties": {"(?!a)": {}}}, "schema.patternProperties.(?!a)", "bad_pattern"),
        ({"allOf": [{"pattern": str(n)} for n in range(257)]}, "schema", "too_many_patterns"),
    ],
)
def test_what_is_no_schema_is_refused(schema: dict[str, Any], field: str, kind: str) -> None:
    """Broken, of another dialect, leading elsewhere or nowhere, endless, or with patterns that take too long."""
    assert refusal(schema) == (field, kind)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$schema": DIALECT, "$id": "https://example.com/stt", "$ref": "#/$defs/a", "$defs": {"a": OBJECT}},
        {"properties": {"$id": OBJECT, "$ref": OBJECT, "pattern": OBJECT, "$schema": OBJECT}},
        {"properties": {"child": {"$ref": "#"}}},
        {"properties": {"x": {"pattern": r"^[\p{L}\d_-]+$"}, "y": {"format": "made-up"}}},
        {"vendor": {"anything": [1, None]}},
    ],
)
def test_what_is_one_is_taken(schema: dict[str, Any]) -> None:
    """With its own name, with what is called like a keyword, a tree, with formats and words that nobody knows."""
    assert Schema(schema).failing({}, "{}") == []


SCHEMA = {
    "type": "object",
    "required": ["model"],
    "additionalProperties": False,
    "properties": {
        "model": {"enum": ["small", "large"]},
        "threads": {"type": "integer", "maximum": 8},
        "a/b": {"items": {"properties": {"~": {"const": 1}}}},
        "when": {"format": "date-time"},
    },
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model": "small", "threads": 8.0, "when": "never"}, []),
        ({}, [("", "required", '"model" is a required property')]),
        ({"model": "hunter2"}, [("/model", "enum", 'the value is not one of "small" or "large"')]),
        ({"model": "small", "threads": True}, [("/threads", "type", 'the value is not of type "integer"')]),
        ({"model": "small", "a/b": [{}, {"~": "hunter2"}]}, [("/a~1b/1/~0", "const", "1 was expected")]),
        (
            {"model": "small", "colour": "hunter2"},
            [("", "additionalProperties", "Additional properties are not allowed ('colour' was unexpected)")],
        ),
    ],
)
def test_what_does_not_fit_is_named(config: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    """Where, by which keyword, and in words that hold no value of the config; formats are not checked."""
    found = failing(SCHEMA, config)
    assert [(one["pointer"], one["keyword"], one["message"]) for one in found] == expected
    for one in found:
        Failure.model_validate(one)
    assert "hunter2" not in json.dumps(found)


def test_of_much_that_does_not_fit_some_is_told() -> None:
    """At most a hundred, and fewer when it takes long pointers to tell them."""
    schema = {"additionalProperties": {"additionalProperties": {"type": "null"}}}
    assert len(failing(schema, {"a": {str(n): n for n in range(200)}})) == MAX_FAILURES
    assert len(failing(schema, {"a" * 10_000: {str(n): n for n in range(200)}})) == 1


def seconds(schema: dict[str, Any], config: dict[str, Any]) -> tuple[float, list[Failing]]:
    """Measure how much CPU time a config takes of whoever checks it."""
    compiled, text = Schema(schema), strictjson.dumps(config)
    begun = time.thread_time()
    found = compiled.failing(config, text)
    return time.thread_time() - begun, found


def nested(value: Any, levels: int) -> Any:
    """Put a value deep into objects."""
    for _ in range(levels):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("schema", "config", "fits"),
    [
        (
            {"properties": {"x": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "y": {"type": "null"}}},
            nested({"y": 1}, 28),
            0,
        ),
        (
            {"properties": {"x": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, "y": {"type": "null"}}},
            nested({"y": 1}, 28),
            0,
        ),
        (
            {"properties": {"x": {"oneOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}, {"type": "null"}]}]}}},
            nested(1, 28),
            1,
        ),
        ({"properties": {"x": {"items": {"enum": [[n] for n in range(7000)]}}}}, {"x": [[6999]] * 14_000}, 0),
        ({"properties": {"x": {"items": {"allOf": [{} for _ in range(14_000)]}}}}, {"x": [1] * 60_000}, 0),
        ({"properties": {"x": {"pattern": "([ab]*a[ab]{200})+c"}}}, {"x": "a" * 130_000}, 0),
    ],
    ids=["any of itself", "all of itself", "one of itself", "long lists", "many parts", "pattern"],
)
def test_no_schema_holds_up_the_writer(schema: dict[str, Any], config: dict[str, Any], fits: int) -> None:
    """What would take minutes is answered within two seconds of CPU: that it is too large, or does not fit."""
    took, found = seconds(schema, config)
    assert took < 2
    assert len(found) == 1 - fits


def test_schemas_are_kept_compiled() -> None:
    """A text is compiled once; those used longest ago go when there are too many, or too much of them."""
    cache = Schemas()
    texts = [strictjson.dumps({"title": str(n)}) for n in range(schemas.CACHED + 1)]
    first = cache.of(texts[0])
    second = cache.of(texts[1])
    for text in texts[2:-1]:
        cache.of(text)
    assert cache.of(texts[0]) is first
    cache.of(texts[-1])
    assert cache.of(texts[0]) is first
    assert cache.of(texts[1]) is not second
    for n in range(100):
        cache.of(strictjson.dumps({"title": f"{n}" * 30_000}))
    assert cache.of(texts[0]) is not first


@pytest.mark.parametrize("text", ["{", '{"type":"objekt"}', '{"$ref":"#"}'])
def test_a_damaged_schema_of_the_store_cannot_be_read(text: str) -> None:
    """It is told of as any other row that was damaged."""
    with pytest.raises(UnreadableError):
        Schemas().of(text)


WORDS = """$ref $defs $anchor $dynamicRef $id a properties patternProperties additionalProperties items prefixItems
allOf anyOf if then not dependentSchemas dependencies contains enum const type writeOnly pattern required minimum"""
KEYWORDS = st.sampled_from(WORDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("abc$#/", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=12,
)
REFERENCES = st.sampled_from(["#", "#/a", "#/$defs/a", "#a", "#/properties/a", "#/allOf/0"])


@given(st.dictionaries(KEYWORDS, JSON | REFERENCES | st.just({"$ref": "#/a"}), max_size=5), JSON)
def test_anything_is_a_schema_or_refused(schema: dict[str, Any], value: Any) -> None:
    """Whatever is sent, the daemon has an answer, and so it has to a config under what it took."""
    try:
        compiled = Schema(schema)
    except BadRequest:
        return
    compiled.failing({"a": value}, strictjson.dumps({"a": value}))
