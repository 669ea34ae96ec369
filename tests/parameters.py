"""Parameters of any command, made from its JSON Schema: such as fit, and such as do not in one place."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind

from setpoint_contracts.schemas import slug
from tests.contracts.generate import CONTRACTS

Schema = dict[str, Any]
Place = tuple[str | int, ...]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
NESTED: Any = json.loads("[" * 25 + "]" * 25)
JUNK = [
    *(None, True, False, 0, 1, -1, 1.5, 2**53, -(2**63), 2**63 - 1, 1e300, 5e-324),
    *("", "x", "A", "-", "+", "#", "a/b", "../x", "a\n", "\x00", "é", "1", "null", "x" * 64, "x" * 600),
    *([], [None], [{}], [[]], ["x"] * 1001, {}, {"": None}, {"x": 1}, NESTED, {"x": NESTED}),
]
UNKNOWN = ["unknown", "", "é", "__proto__", "service ", "a.b", "x" * 200]
KNOWN_SERVICES = st.sampled_from(["stt", "tts"])
"""Some that are there, so that commands have something to do."""


def schema_of(command: str) -> Schema:
    """Read the committed schema of a command's parameters."""
    schema: Schema = json.loads((CONTRACTS / "schemas" / f"{slug(command)}.params.json").read_text("utf-8"))
    return schema


def fitting(schema: Schema) -> st.SearchStrategy[Any]:
    """Make parameters that fit a schema. What several members must be to each other is left to chance."""
    return _fitting(schema, schema)


@st.composite
def broken(draw: st.DrawFn, schema: Schema) -> Any:
    """Make parameters that would fit, but for one thing: another type or value, a member too many or too few."""
    validator = Draft202012Validator(schema)
    params = draw(fitting(schema))
    assume(validator.is_valid(params))
    place = draw(st.sampled_from(list(_places(params, schema, schema))))
    variants = [variant for variant in _variants(params, place) if not validator.is_valid(variant)]
    assume(variants)
    return draw(st.sampled_from(variants))


def wrong_places(schema: Schema, params: Any) -> list[Place]:
    """List where parameters do not fit their schema."""
    return [place for error in Draft202012Validator(schema).iter_errors(params) for place in _wrong(error)]


def names(field: str, place: Place) -> bool:
    """Say whether a field of ``details.errors`` lies in a place; on its way there may be more, such as of a union."""
    for step in map(str, place):
        if step not in field:
            return False
        field = field[field.index(step) + len(step) :]
    return True


def _variants(params: Any, place: Place) -> Iterator[Any]:
    """Change one thing in a place of parameters, one thing each time."""
    if not place:
        yield from ({**params, name: None} for name in UNKNOWN)
        yield from ({other: params[other] for other in params if other != name} for name in params)
        return
    step, *rest = place
    value = params[step]
    if rest:
        changes: Iterable[Any] = _variants(value, tuple(rest))
    else:
        more = _variants(value, ()) if isinstance(value, dict) else ()
        changes = [*JUNK, *more, value * 1001 if isinstance(value, list) else f"{value}\n"]
    for change in changes:
        items = params.items() if isinstance(params, dict) else enumerate(params)
        changed = {name: change if name == step else part for name, part in items}
        yield changed if isinstance(params, dict) else list(changed.values())


def _wrong(error: ValidationError) -> list[Place]:
    place, kind = tuple(error.instance_path), error.kind
    if isinstance(kind, ValidationErrorKind.AdditionalProperties):
        return [(*place, name) for name in kind.unexpected]
    return [(*place, kind.property)] if isinstance(kind, ValidationErrorKind.Required) else [place]


def _places(value: Any, schema: Schema, root: Schema) -> Iterator[Place]:
    """List the places of which a schema says something, in a value that fits it; its own is ``()``."""
    yield ()
    for choice in _choices(schema, root):
        inner: list[tuple[str | int, Any, Schema]] = []
        if isinstance(value, dict):
            members = choice.get("properties", {})
            inner = [(name, part, members[name]) for name, part in value.items() if members.get(name)]
        elif isinstance(value, list) and choice.get("items"):
            inner = [(index, part, choice["items"]) for index, part in enumerate(value)]
        for step, part, said in inner:
            yield from ((step, *place) for place in _places(part, said, root))


def _choices(schema: Schema, root: Schema) -> list[Schema]:
    if "$ref" in schema:
        return _choices(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return [found for choice in schema["anyOf"] for found in _choices(choice, root)]
    return [schema]


def _fitting(schema: Schema, root: Schema) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _fitting(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema or "enum" in schema:
        return st.sampled_from([schema["const"]] if "const" in schema else schema["enum"])
    if "anyOf" in schema:
        return st.one_of([_fitting(choice, root) for choice in schema["anyOf"]])
    if "oneOf" in schema:
        return st.one_of([_fitting(_chosen(schema, choice), root) for choice in schema["oneOf"]])
    kind = schema.get("type")
    return _TYPES[kind](schema, root) if kind in _TYPES else VALUES


def _chosen(schema: Schema, choice: Schema) -> Schema:
    """Put what one of several choices says into the schema that it stands in."""
    members = {**schema.get("properties", {})}
    for name, member in choice.get("properties", {}).items():
        if member is False:
            members.pop(name, None)
        else:
            members[name] = {**members.get(name, {}), **member}
    required = [*schema.get("required", []), *choice.get("required", [])]
    rest = {name: said for name, said in {**schema, **choice}.items() if name != "oneOf"}
    return {**rest, "properties": members, "required": required}


def _object(schema: Schema, root: Schema) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        if "patternProperties" not in schema and schema.get("additionalProperties") is False:
            return st.builds(dict)
        keys = [st.from_regex(pattern, fullmatch=True) for pattern in schema.get("patternProperties", ())]
        return st.dictionaries(st.one_of(keys) if keys else st.text(), VALUES, max_size=4)
    members = {name: _member(name, member, root) for name, member in schema["properties"].items()}
    if schema.get("minProperties") == schema.get("maxProperties") == 1:
        return st.one_of([st.fixed_dictionaries({name: member}) for name, member in members.items()])
    required = {name: members.pop(name) for name in dict.fromkeys(schema.get("required", ()))}
    return st.fixed_dictionaries(required, optional=members)


def _member(name: str, schema: Schema, root: Schema) -> st.SearchStrategy[Any]:
    return KNOWN_SERVICES | _fitting(schema, root) if name == "service" else _fitting(schema, root)


def _array(schema: Schema, root: Schema) -> st.SearchStrategy[Any]:
    least = schema.get("minItems", 0)
    most = min(schema.get("maxItems", least + 3), least + 3)
    return st.lists(_fitting(schema.get("items", {}), root), min_size=least, max_size=most)


def _string(schema: Schema, _root: Schema) -> st.SearchStrategy[Any]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    return st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 30), 30))


_TYPES: dict[Any, Callable[[Schema, Schema], st.SearchStrategy[Any]]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": lambda schema, _: st.integers(schema.get("minimum", -9), schema.get("maximum", 9)),
    "number": lambda schema, _: st.floats(schema.get("minimum", -9), schema.get("maximum", 9)),
    "boolean": lambda _schema, _root: st.booleans(),
    "null": lambda _schema, _root: st.none(),
}
