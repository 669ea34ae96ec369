"""The wire as JSON Schemas (2020-12), one for every payload, token and header.

Pure functions from the models to plain data, in words that a validator knows in strict mode. Who writes the files, and
checks that they are up to date, is ``tests/contracts/generate.py``.
"""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from setpoint_contracts.applied import AppliedReport
from setpoint_contracts.audit import AuditEvent
from setpoint_contracts.commands import COMMANDS, Command
from setpoint_contracts.config import ConfigDocument, Difference
from setpoint_contracts.config_schema import DIALECT
from setpoint_contracts.envelope import Claims, Reply
from setpoint_contracts.names import KID_PATTERN
from setpoint_contracts.signing import ALGORITHMS
from setpoint_contracts.system import EpochClaim, Health
from setpoint_contracts.tokens import KEY_PATTERN, Token

COMPACT_JWS = r"^\s*[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\s*$"
DETACHED_JWS = r"^[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]+$"

_NOUNS: dict[str, tuple[type[BaseModel], JsonSchemaMode]] = {
    "applied-report": (AppliedReport, "validation"),
    "audit-event": (AuditEvent, "serialization"),
    "claims": (Claims, "validation"),
    "config-document": (ConfigDocument, "serialization"),
    "difference": (Difference, "serialization"),
    "epoch-claim": (EpochClaim, "serialization"),
    "health": (Health, "serialization"),
    "reply": (Reply, "serialization"),
    "token": (Token, "validation"),
}
# What a model's validator checks and its fields cannot say.
_RESULT_OR_ERROR = {
    "oneOf": [
        {"properties": {"ok": {"const": True}, "result": {}}, "required": ["result"]},
        {"properties": {"ok": {"const": False}, "error": {}}, "required": ["error"]},
    ],
}
_SECRET_OR_PAIR = {
    "oneOf": [
        {"properties": {"kty": {"const": "oct"}, "alg": {"const": "HS256"}, "k": {}}, "required": ["k"]},
        {
            "properties": {"kty": {"const": "OKP"}, "alg": {"const": "Ed25519"}, "crv": {}, "x": {}},
            "required": ["crv", "x"],
        },
    ],
}
_BEYOND_FIELDS: dict[type[BaseModel], dict[str, Any]] = {Reply: _RESULT_OR_ERROR, Token: _SECRET_OR_PAIR}


def _object(about: str, required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": about,
        "additionalProperties": False,
        "properties": {**required, **optional},
        "required": list(required),
    }


_TEXT = {"type": "string"}
_ALG_AND_KID = {"alg": {"enum": list(ALGORITHMS)}, "kid": {"type": "string", "pattern": KID_PATTERN}}
_PUBLIC_KEY = _object(
    "An Ed25519 public key of the daemon (RFC 8037).",
    {
        "kty": {"const": "OKP"},
        "crv": {"const": "Ed25519"},
        "x": {"type": "string", "pattern": KEY_PATTERN},
        "kid": {"type": "string", "pattern": KID_PATTERN, "description": "What the header of a signature names."},
        "alg": {"const": "Ed25519"},
        "use": {"const": "sig"},
    },
)
# What is no model, but JOSE's own: the headers of signatures, and a set of keys.
JOSE: dict[str, dict[str, Any]] = {
    "command-header": _object(
        "The header of a command (RFC 7515 section 4). ``alg`` is the token's own; no other member is taken.",
        _ALG_AND_KID,
        typ=_TEXT,
    ),
    "detached-header": _object(
        "The header of a ``jws`` user property (RFC 7515 appendix F). ``topic`` is the one that the message came on.",
        {**_ALG_AND_KID, "topic": _TEXT},
    ),
    "jwk-set": _object(
        "The daemon's public signing keys (RFC 7517 section 5).",
        {"keys": {"type": "array", "minItems": 1, "items": _PUBLIC_KEY}},
    ),
}
_UUID = {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"}


class _WireSchema(GenerateJsonSchema):
    """Schemas of what is on the wire: a member without a value is left out, so null stands only where it speaks."""

    schema_dialect = DIALECT

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is not None:
            return super().default_schema(schema)
        inner = schema["schema"]
        if self.mode == "serialization" and inner["type"] == "nullable":
            inner = inner["schema"]
        return self.generate_inner(inner)

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        return {**found, "additionalProperties": False} if "patternProperties" in found else found

    def uuid_schema(self, schema: core_schema.UuidSchema) -> JsonSchemaValue:  # noqa: ARG002 - pydantic's signature
        return dict(_UUID)  # a format is only a remark, and an unknown one to a validator in strict mode


def slug(command: str) -> str:
    """Write the name of a command so that it can name a file, a channel or a message."""
    return command.replace("/", "-")


def commands() -> list[tuple[str, type[Command]]]:
    """List all commands in the order of their names."""
    return sorted(COMMANDS.items())


def schemas() -> dict[str, dict[str, Any]]:
    """Build the JSON Schema of every noun and of every command's parameters and result, by file name without suffix."""
    models = dict(_NOUNS)
    for name, command in commands():
        models[f"{slug(name)}.params"] = (command, "validation")
        models[f"{slug(name)}.result"] = (command.result, "serialization")
    found = {name: _schema(*model) for name, model in models.items()}
    found |= {name: {"$schema": DIALECT, **schema} for name, schema in JOSE.items()}
    return dict(sorted(found.items()))


def components() -> dict[str, Any]:
    """Build the same schemas by the names of their models, referring to each other, as one document holds them."""
    models = [noun for noun in _NOUNS.values() if noun[0] is not Token]  # a token file never crosses the broker
    for _, command in commands():
        models += [(command, "validation"), (command.result, "serialization")]
    template = "#/components/schemas/{model}"
    _, found = models_json_schema(models, ref_template=template, schema_generator=_WireSchema)
    found["$defs"]["Reply"].update(_RESULT_OR_ERROR)
    named = {name.title().replace("-", ""): schema for name, schema in JOSE.items()}
    return dict(sorted({**found["$defs"], **named}.items()))


def _schema(model: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
    found = model.model_json_schema(mode=mode, schema_generator=_WireSchema)
    return {"$schema": DIALECT, **found, **_BEYOND_FIELDS.get(model, {})}
