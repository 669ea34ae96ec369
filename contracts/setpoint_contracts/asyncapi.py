"""The wire for machines: JSON Schemas (2020-12) of every payload, and one AsyncAPI 3.0 document.

Pure functions from the models to plain data. Who writes the files, and checks that they are up to date, is
``tests/contracts/generate.py``.
"""

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from setpoint_contracts.audit import Action, AuditEvent
from setpoint_contracts.commands import COMMANDS, Command
from setpoint_contracts.config import ConfigDocument, Difference
from setpoint_contracts.envelope import Claims, Reply
from setpoint_contracts.signing import JWS_USER_PROPERTY
from setpoint_contracts.system import PROTOCOL, EpochClaim, Health
from setpoint_contracts.tokens import Token
from setpoint_contracts.topics import Topics

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NOUNS: dict[str, tuple[type[BaseModel], JsonSchemaMode]] = {
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
        {"properties": {"ok": {"const": True}}, "required": ["result"]},
        {"properties": {"ok": {"const": False}}, "required": ["error"]},
    ],
}
_SECRET_OR_PAIR = {
    "oneOf": [
        {"properties": {"kty": {"const": "oct"}, "alg": {"const": "HS256"}}, "required": ["k"]},
        {"properties": {"kty": {"const": "OKP"}, "alg": {"const": "Ed25519"}}, "required": ["crv", "x"]},
    ],
}
_BEYOND_FIELDS: dict[type[BaseModel], dict[str, Any]] = {Reply: _RESULT_OR_ERROR, Token: _SECRET_OR_PAIR}
_COMPACT_JWS = r"^\s*[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\s*$"
_DETACHED_JWS = r"^[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]+$"
_BINDING = {"bindingVersion": "0.2.0"}
_JSON = {
    "contentType": "application/json",
    "bindings": {"mqtt": {"payloadFormatIndicator": 1, "contentType": "application/json", **_BINDING}},
    "headers": {
        "type": "object",
        "description": "MQTT 5 user properties.",
        "properties": {
            JWS_USER_PROPERTY: {
                "type": "string",
                "pattern": _DETACHED_JWS,
                "description": "A detached compact JWS over exactly the payload bytes; its header names the topic.",
            },
        },
    },
}
_ABOUT = """Configuration for the services of one machine, over MQTT.

A command is one compact JWS (RFC 7515), signed with the caller's token: HS256 with a shared secret, or Ed25519. The
header is `alg` and `kid`, perhaps `typ`, and nothing else; the algorithm is the token's own. The claims are one of the
schemas below, with `aud` the exact topic. Signing is what authorises a command: the broker's users and access rules
are a second fence, not the first. A message whose signature does not hold is dropped and never answered.

Replies go to `config/reply/{principal}/…` and carry a detached JWS in the user property `jws`: made with the caller's
own secret for an HS256 token, else with the daemon's Ed25519 key, as on every other signed publish. A `topic_prefix`,
where the daemon has one, stands before every address."""


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


def schemas() -> dict[str, dict[str, Any]]:
    """Build the JSON Schema of every noun and of every command's parameters and result, by file name without suffix."""
    models = dict(_NOUNS)
    for name, command in _commands():
        models[f"{_slug(name)}.params"] = (command, "validation")
        models[f"{_slug(name)}.result"] = (command.result, "serialization")
    return {name: _schema(*models[name]) for name in sorted(models)}


def document() -> dict[str, Any]:
    """Build the AsyncAPI 3.0 document, as the daemon sees it: it receives commands and sends the rest."""
    topics = Topics()
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Setpoint", "version": f"{PROTOCOL}.0.0", "description": _ABOUT, "license": {"name": "MIT"}},
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "localhost:1883",
                "protocol": "mqtt",
                "protocolVersion": "5.0",
                "description": "Any MQTT broker. Callers may use 3.1.1 too. Who may connect is the broker's matter.",
            },
        },
        "channels": {
            **{_slug(name): _command_channel(name, topics) for name, _ in _commands()},
            "reply": _reply_channel(topics),
            "updated": _channel(topics.updated("{service}"), "updated", "cleared", service="The configured service."),
            "epoch": _channel(topics.epoch, "epoch"),
            "audit": _channel(topics.audit("{action}"), "audit", action="What the event tells of."),
            "health": _channel(topics.health, "health"),
            "keys": _channel(topics.keys, "keys"),
        },
        "operations": {
            **{f"receive-{_slug(name)}": _receive(name, command) for name, command in _commands()},
            "send-updated": _send("updated", retain=True, summary="The newest config of a service, on every change."),
            "send-epoch": _send("epoch", retain=True, summary="Which store and run of the daemon writes."),
            "send-audit": _send("audit", retain=False, summary="What was done or refused, at least once."),
            "send-health": _send("health", retain=True, summary="How the daemon does; also its Last Will."),
            "send-keys": _send("keys", retain=True, summary="The daemon's public signing keys."),
        },
        "components": {"messages": _messages(), "schemas": _component_schemas()},
    }


def _commands() -> list[tuple[str, type[Command]]]:
    return sorted(COMMANDS.items())


def _slug(command: str) -> str:
    return command.replace("/", "-")


def _schema(model: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
    found = model.model_json_schema(mode=mode, schema_generator=_WireSchema)
    return {"$schema": DIALECT, **found, **_BEYOND_FIELDS.get(model, {})}


def _component_schemas() -> dict[str, Any]:
    models = [noun for noun in _NOUNS.values() if noun[0] is not Token]  # a token file never crosses the broker
    for _, command in _commands():
        models += [(command, "validation"), (command.result, "serialization")]
    template = "#/components/schemas/{model}"
    _, found = models_json_schema(models, ref_template=template, schema_generator=_WireSchema)
    found["$defs"]["Reply"].update(_RESULT_OR_ERROR)
    return dict(sorted(found["$defs"].items()))


def _ref(kind: Literal["messages", "schemas"], name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _command_channel(name: str, topics: Topics) -> dict[str, Any]:
    return {"address": topics.command(name), "messages": {_slug(name): _ref("messages", _slug(name))}}


def _reply_channel(topics: Topics) -> dict[str, Any]:
    return {
        **_channel(
            topics.reply("{principal}", "{id}"),
            *(f"{_slug(name)}-reply" for name, _ in _commands()),
            principal="The `name` of the token that signed the command.",
            id="The jti, `invalid` without a usable one, or what the caller chose.",
        ),
        "description": "The reply topic that the command asks for, else the one with its jti.",
    }


def _channel(address: str, *messages: str, **parameters: str) -> dict[str, Any]:
    return {
        "address": address,
        **({"parameters": {name: {"description": text} for name, text in parameters.items()}} if parameters else {}),
        "messages": {message: _ref("messages", message) for message in messages},
    }


def _receive(name: str, command: type[Command]) -> dict[str, Any]:
    slug = _slug(name)
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{slug}"},
        "summary": _summary(command),
        "description": f"Needs {command.needs}.",
        "bindings": {"mqtt": {"qos": 1, "retain": False, **_BINDING}},
        "messages": [{"$ref": f"#/channels/{slug}/messages/{slug}"}],
        "reply": {
            "channel": {"$ref": "#/channels/reply"},
            "messages": [{"$ref": f"#/channels/reply/messages/{slug}-reply"}],
        },
    }


def _send(channel: str, *, retain: bool, summary: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "bindings": {"mqtt": {"qos": 1, "retain": retain, **_BINDING}},
    }


def _summary(command: type[Command]) -> str:
    return (command.__doc__ or "").partition("\n")[0]


def _messages() -> dict[str, Any]:
    plain = {"contentType": "application/json"}
    messages: dict[str, Any] = {}
    for name, command in _commands():
        messages[_slug(name)] = _command_message(name, command)
        messages[f"{_slug(name)}-reply"] = _reply_message(name, command)
    return messages | {
        "updated": {"summary": "The config document of the newest version.", **_JSON, **_payload("ConfigDocument")},
        "cleared": {
            "summary": "An empty retained payload: the service is deleted. Its tombstone comes before, unretained.",
            "payload": {"type": "string", "maxLength": 0},
        },
        "epoch": {**_JSON, **_payload("EpochClaim")},
        "audit": {"summary": ", ".join(Action), **plain, **_payload("AuditEvent")},
        "health": {**plain, **_payload("Health")},
        "keys": {
            "summary": "A JWK Set (RFC 7517 section 5).",
            **plain,
            "payload": {
                "type": "object",
                "required": ["keys"],
                "properties": {"keys": {"type": "array", "items": {"type": "object"}}},
            },
        },
    }


def _payload(schema: str) -> dict[str, Any]:
    return {"payload": _ref("schemas", schema)}


def _command_message(name: str, command: type[Command]) -> dict[str, Any]:
    said = {"properties": {"aud": {"const": Topics().command(name)}, "params": _ref("schemas", command.__name__)}}
    return {
        "summary": _summary(command),
        "contentType": "application/jose",
        "payload": {
            "type": "string",
            "pattern": _COMPACT_JWS,
            "description": "A compact JWS; the claims it signs are under x-claims.",
            "x-claims": {"allOf": [_ref("schemas", "Claims"), said]},
        },
    }


def _reply_message(name: str, command: type[Command]) -> dict[str, Any]:
    answer = {"properties": {"command": {"const": name}, "result": _ref("schemas", command.result.__name__)}}
    return {
        "summary": f"What became of {name}.",
        **_JSON,
        "correlationId": {"location": "$message.payload#/id", "description": "The command's jti."},
        "payload": {"allOf": [_ref("schemas", "Reply"), answer]},
    }
