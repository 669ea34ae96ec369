"""The JSON Schema of a service's configs (2020-12), ready for use: what does not fit it, and in which words.

Rules:

- Nothing is ever fetched. A schema stands by itself: a reference leads into it, and it is one resource.
- No value of a config stands in what is said of it.
- A schema, whatever it is, must not hold up writes for long, and the event loop not at all: regular expressions are
  those that take linear time, and what could take long is counted before it is begun.
- ``format`` and ``content…`` are remarks, as JSON Schema has it by default; they are not checked.
- The validator is imported with the first schema: it takes 4 MiB, and many stores have none.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, TypedDict

from setpoint_contracts import Code, strictjson
from setpoint_contracts.config_schema import DIALECT, MAX_FAILURES
from setpoint_contracts.pointers import Step, pointer
from setpointd.errors import BadRequest, Rejected, UnreadableError
from setpointd.subschemas import AmbiguousError, DanglingError, EndlessError, Matches, Shape, children

if TYPE_CHECKING:
    import jsonschema_rs

_VALUE = "the value"
MAX_PATTERNS = 256
"""A compiled pattern may take 1 MiB; ``^[a-z]{1,64}$`` takes less than 8 KiB."""
CHEAP_STEPS = 4_000_000
MAX_STEPS = 1_000_000
MAX_TOLD_STEPS = 20_000
QUICK_STEPS = 10_000
"""How many steps checking may take by the roughest estimate, or else by counting them; and how many to say what is
wrong, which takes some microseconds each, and goes each way that leads to a part. With few of the first, all takes some
milliseconds at most."""
_MAX_WORDS = 300
_MAX_TOLD = 16_384
CACHED, CACHED_BYTES = 512, 4 * 1024 * 1024


class Failing(TypedDict):
    """One thing that does not fit: where, as a JSON Pointer, in words, and by which keyword."""

    pointer: str
    message: str
    keyword: str


_TOO_LARGE: Failing = {"pointer": "", "message": "it is too large to be checked against this schema", "keyword": ""}


class Schema:
    """A compiled schema. Raises ``BadRequest`` for ``schema`` when it cannot be one.

    ``marks_secrets``: a part of it has ``"writeOnly": true``.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        _check_resource(schema)
        try:
            self._validator = _compile(schema)
            self._shape = Shape(schema, _matcher)
        except DanglingError as error:
            raise _bad("", f"the reference {error.args[0]} leads to no schema in it", "dangling_ref") from None
        except AmbiguousError as error:
            raise _bad("", f"the anchor {error.args[0]} stands in it twice", "ambiguous_anchor") from None
        except EndlessError:
            raise _bad("", "it refers to itself without going further down", "endless_ref") from None
        self.marks_secrets = self._shape.marks
        if self.marks_secrets and self._shape.marked({}, 1):
            raise _bad("writeOnly", "a config as a whole is no secret; mark its properties", "secret_root")

    def secret_places(self, service: str, config: dict[str, Any]) -> set[tuple[Step, ...]]:
        """Give the places of a config that are marked as secret, the outermost of those inside each other.

        ``SCHEMA_INVALID``: config and schema are so large that it would take too long.
        """
        if not self.marks_secrets:
            return set()
        places = self._shape.marked(config, MAX_STEPS)
        if places is None:
            raise schema_invalid(service, [_TOO_LARGE])
        return places

    def is_quick(self, text: str) -> bool:
        """Whether a config, as JSON, is checked within some milliseconds, whatever it is."""
        return self._roughly(text) <= QUICK_STEPS

    def _roughly(self, text: str) -> int:
        places = text.count(",") + text.count("{") + text.count("[")  # no fewer than it has values
        return self._shape.weight * places

    def failing(self, config: dict[str, Any], text: str, secrets: Collection[tuple[Step, ...]] = ()) -> list[Failing]:
        """List what of a config does not fit, at most so many. ``text`` is the config as JSON.

        What stands at the places of ``secrets`` is secret as a whole: of that, no part is named.
        """
        if self._roughly(text) > CHEAP_STEPS and self._shape.cost(config, MAX_STEPS) > MAX_STEPS:
            return [_TOO_LARGE]
        if self._validator.is_valid(config):
            return []
        if self._shape.cost(config, MAX_TOLD_STEPS) > MAX_TOLD_STEPS:
            return [{"pointer": "", "message": "it does not fit; it is too large to say where", "keyword": ""}]
        return list(_first(_failing(error, secrets) for error in self._validator.iter_errors(config)))


class Schemas:
    """Compiled schemas by their text, those that were used last. Not for use by several threads at once."""

    def __init__(self) -> None:
        self._compiled: OrderedDict[str, Schema] = OrderedDict()
        self._bytes = 0

    def knows(self, text: str) -> bool:
        """Whether a schema is compiled already."""
        return text in self._compiled

    def of(self, text: str) -> Schema:
        """Return the schema of a text of the store; raises ``UnreadableError``."""
        schema = self._compiled.get(text)
        if schema is not None:
            self._compiled.move_to_end(text)
            return schema
        try:
            return self.add(text, Schema(strictjson.loads_stored(text)))
        except (BadRequest, ValueError):
            raise UnreadableError("a schema of the store cannot be used") from None

    def add(self, text: str, schema: Schema) -> Schema:
        """Keep a compiled schema."""
        if text not in self._compiled:
            self._bytes += len(text)
        self._compiled[text] = schema
        while len(self._compiled) > CACHED or self._bytes > CACHED_BYTES:
            oldest, _ = self._compiled.popitem(last=False)
            self._bytes -= len(oldest)
        return schema


def schema_invalid(service: str, failing: list[Failing], advice: str = "") -> Rejected:
    """Make the refusal of a config that does not fit its schema."""
    first, more = failing[0], len(failing) - 1
    where = first["pointer"] or "the config"
    message = f"{service} does not fit its schema: {where}: {first['message']}{f', and {more} more' if more else ''}"
    return Rejected(Code.SCHEMA_INVALID, message + advice, service=service, errors=failing)


def _compile(schema: dict[str, Any]) -> "jsonschema_rs.Validator":
    import jsonschema_rs  # noqa: PLC0415 - see the rules above

    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            validate_formats=False,
            offline=True,
            mask=_VALUE,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 18),
        )
    except jsonschema_rs.ValidationError as error:
        raise _refused(error) from None


def _matcher(pattern: str) -> Matches:
    # The very engine that checks: what another one makes of a pattern may be something else.
    return _compile({"pattern": pattern}).is_valid


def _check_resource(schema: dict[str, Any]) -> None:
    if schema.get("$schema", DIALECT) not in (DIALECT, f"{DIALECT}#"):
        raise _bad("$schema", f"only {DIALECT} is known", "wrong_dialect")
    patterns = 0
    for path, name, value in _members(schema, ()):
        here = ".".join(map(str, (*path, name)))
        if name in {"$id", "$schema"} and path and isinstance(value, str):
            raise _bad(here, "stands only at the top: a schema is one resource", "nested_resource")
        if name in {"$ref", "$dynamicRef"} and isinstance(value, str) and not value.startswith("#"):
            raise _bad(here, "leads out of this schema; nothing is fetched", "remote_ref")
        patterns += len(value) if name == "patternProperties" and isinstance(value, dict) else name == "pattern"
    if patterns > MAX_PATTERNS:
        raise _bad("", f"it has {patterns} patterns; at most {MAX_PATTERNS} are taken", "too_many_patterns")


def _members(value: Any, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], str, Any]]:
    for step, child in children(value):
        if isinstance(step, str):
            yield path, step, child
        yield from _members(child, (*path, step))


def _refused(error: "jsonschema_rs.ValidationError") -> BadRequest:
    if error.kind.name == "format":  # by the meta-schema only a pattern has one that is checked
        return _bad(
            ".".join(map(str, error.instance_path)),
            "is no regular expression that is taken: without look-around and back references, and not too large",
            "bad_pattern",
        )
    return _bad(".".join(map(str, error.instance_path)), error.message[:_MAX_WORDS], "bad_schema")


def _bad(where: str, message: str, kind: str) -> BadRequest:
    return BadRequest(f"schema.{where}" if where else "schema", message, kind)


def _failing(error: "jsonschema_rs.ValidationError", secrets: Collection[tuple[Step, ...]]) -> Failing:
    path, message = tuple(error.instance_path), error.message[:_MAX_WORDS]
    whole = next((place for place in secrets if path[: len(place)] == place), None)
    if whole is not None:
        path, message = whole, "the secret does not fit"
    return {"pointer": pointer(path), "message": message, "keyword": error.kind.name}


def _first(failures: Iterator[Failing]) -> Iterator[Failing]:
    told = 0
    for number, failure in enumerate(failures):
        told += len(failure["pointer"])
        if number == MAX_FAILURES or (number and told > _MAX_TOLD):
            return
        yield failure
