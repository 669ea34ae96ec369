"""The wire as one AsyncAPI 3.1 document, as the daemon sees it: it receives commands and sends the rest.

Pure functions from the models to plain data, like ``schemas``.
"""

from typing import Any, Literal

from setpoint_contracts.applied import MAX_REPORT_BYTES
from setpoint_contracts.audit import Action
from setpoint_contracts.commands import Command
from setpoint_contracts.errors import Code
from setpoint_contracts.schemas import COMPACT_JWS, DETACHED_JWS, commands, components, slug
from setpoint_contracts.signing import JWS_USER_PROPERTY
from setpoint_contracts.system import PROTOCOL
from setpoint_contracts.topics import MAX_REPLY_TOPIC_BYTES, Topics

_VERSION = {"bindingVersion": "0.2.0"}
_TOPICS = Topics()
_UNKNOWN = "unknown-command"
_PLAIN = {"contentType": "application/json"}
_ABOUT = """Configuration for the services of one machine, over MQTT.

A command is one compact JWS (RFC 7515), signed with the caller's token: HS256 with a shared secret, or Ed25519. Its
header and the claims that it signs are under `x-header` and `x-claims`; the algorithm is the token's own, and `aud` is
the exact topic. Signing is what authorises a command: the broker's users and access rules are a second fence, not the
first. A message whose signature does not hold is dropped and never answered.

What the daemon says carries a detached JWS in the user property `jws`: on a reply to an HS256 token made with that
token's own secret, else with the daemon's Ed25519 key. Audit events carry none, and an empty payload, which clears a
topic, neither: it says nothing. A `topic_prefix`, where the daemon has one, stands before every address."""
_BROKER = """Any MQTT broker. Callers may use 3.1.1 too, but see no user properties then. Who may connect is the
broker's matter. The bindings are those of the daemon's own connection."""


def document() -> dict[str, Any]:
    """Build the document."""
    return {
        "asyncapi": "3.1.0",
        "info": {"title": "Setpoint", "version": f"{PROTOCOL}.0.0", "description": _ABOUT, "license": {"name": "MIT"}},
        "defaultContentType": "application/json",
        "servers": {"broker": _broker()},
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": components()},
    }


def _broker() -> dict[str, Any]:
    will = {"topic": _TOPICS.health, "qos": 1, "retain": True, "message": "Health with ok false, and its jws."}
    return {
        "host": "localhost:1883",
        "protocol": "mqtt",
        "protocolVersion": "5.0",
        "description": _BROKER.replace("\n", " "),
        "bindings": {"mqtt": {"cleanSession": False, "lastWill": will, **_VERSION}},
    }


def _channels() -> dict[str, Any]:
    named = {slug(name): _channel(_TOPICS.command(name), slug(name)) for name, _ in commands()}
    replies = [f"{slug(name)}-reply" for name, _ in commands()] + [f"{_UNKNOWN}-reply"]
    whose = "The `name` of the token that signed the command."
    default = _channel(
        _TOPICS.reply("{principal}", "{id}"),
        *replies,
        principal=whose,
        id="The command's jti; `invalid` when it has none that can be used.",
    )
    chosen = (
        f"Where the command asks for its reply, with `reply_to` or the MQTT 5 Response Topic: any topic inside "
        f"{_TOPICS.reply('{principal}', '')}, of as many levels as the caller likes, without a wildcard and of at most "
        f"{MAX_REPLY_TOPIC_BYTES} bytes."
    )
    return {
        **named,
        _UNKNOWN: _channel(_TOPICS.command("{command}"), _UNKNOWN, command="Any name that is no command."),
        "reply": {**default, "description": "Where a reply goes when the command does not say."},
        "chosen-reply": {"address": None, "description": chosen, "messages": _refs(replies)},
        "updated": _channel(
            _TOPICS.updated("{service}"),
            "updated",
            "tombstone",
            "cleared",
            service="The configured service.",
        ),
        "schema": _channel(
            _TOPICS.schema("{service}"),
            "schema",
            "cleared",
            service="The service whose configs have to fit it.",
        ),
        "epoch": _channel(_TOPICS.epoch, "epoch"),
        "audit": _channel(_TOPICS.audit("{action}"), "audit", action=f"What the event tells of: {', '.join(Action)}."),
        "health": _channel(_TOPICS.health, "health"),
        "keys": _channel(_TOPICS.keys, "keys"),
        "ask": _channel(_TOPICS.look_ask, "ask"),
        "applied-report": _channel(
            _TOPICS.applied("{service}", "{instance}"),
            "applied-report",
            "applied-cleared",
            service="The configured service.",
            instance="One of its running copies: 1 to 64 of `A-Z a-z 0-9 . _ -`.",
        ),
    }


def _operations() -> dict[str, Any]:
    return {
        **{f"receive-{slug(name)}": _receive(name, command) for name, command in commands()},
        f"receive-{_UNKNOWN}": {
            **_request(_UNKNOWN, "Refuse a command that there is not."),
            "description": f"Answered with {Code.UNKNOWN_COMMAND}, if it is signed and its claims fit.",
        },
        "send-chosen-reply": _send("chosen-reply", retain=False, summary="A reply, where the command asks for it."),
        "send-updated": _send(
            "updated",
            retain=True,
            summary="The newest config of a service, on every change; of a deleted one its tombstone.",
        ),
        "send-schema": _send("schema", retain=True, summary="The JSON Schema of a service, until it is removed."),
        "send-epoch": _send("epoch", retain=True, summary="Which store and run of the daemon writes."),
        "send-audit": _send("audit", retain=False, summary="What was done or refused, at least once."),
        "send-health": _send("health", retain=True, summary="How the daemon does; also its Last Will."),
        "send-keys": _send("keys", retain=True, summary="The daemon's public signing keys."),
        "receive-ask": {
            "action": "receive",
            "channel": {"$ref": "#/channels/ask"},
            "summary": "Who is there? A connected daemon publishes its health anew, at most once a second.",
            "bindings": {"mqtt": {"qos": 1, "retain": False, **_VERSION}},
        },
        "receive-applied-report": {
            "action": "receive",
            "channel": {"$ref": "#/channels/applied-report"},
            "summary": "What an instance of a service runs. Informational: anybody may say so.",
            "bindings": {"mqtt": {"qos": 1, "retain": True, **_VERSION}},
        },
    }


def _ref(kind: Literal["messages", "schemas"], name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _refs(messages: list[str]) -> dict[str, Any]:
    return {message: _ref("messages", message) for message in messages}


def _channel(address: str, *messages: str, **parameters: str) -> dict[str, Any]:
    return {
        "address": address,
        **({"parameters": {name: {"description": text} for name, text in parameters.items()}} if parameters else {}),
        "messages": _refs(list(messages)),
    }


def _receive(name: str, command: type[Command]) -> dict[str, Any]:
    return {**_request(slug(name), _summary(command)), "description": f"Needs {command.needs}."}


def _request(channel: str, summary: str) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "bindings": {"mqtt": {"qos": 1, "retain": False, **_VERSION}},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{channel}"}],
        "reply": {
            "channel": {"$ref": "#/channels/reply"},
            "messages": [{"$ref": f"#/channels/reply/messages/{channel}-reply"}],
        },
    }


def _send(channel: str, *, retain: bool, summary: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "bindings": {"mqtt": {"qos": 1, "retain": retain, **_VERSION}},
    }


def _summary(command: type[Command]) -> str:
    return (command.__doc__ or "").partition("\n")[0]


def _messages() -> dict[str, Any]:
    messages: dict[str, Any] = {}
    for name, command in commands():
        messages[slug(name)] = _command(name, _summary(command), _ref("schemas", command.__name__))
        answer = {"command": {"const": name}, "result": _ref("schemas", command.result.__name__)}
        messages[f"{slug(name)}-reply"] = _reply(f"What became of {name}.", answer)
    refusal = {"ok": {"const": False}, "error": {"properties": {"details": _known()}}}
    return messages | {
        _UNKNOWN: _command("{command}", "A command that there is not.", {"type": "object"}),
        f"{_UNKNOWN}-reply": _reply("Why it is refused; which commands there are, where it is for that.", refusal),
        "updated": _signed("ConfigDocument", "The config document of the newest version."),
        "tombstone": _signed("ConfigDocument", "`deleted` is true: the service is gone. It stays for some weeks."),
        "cleared": {
            "summary": "Clears the topic: a tombstone was retained for long enough, or a schema was removed.",
            "payload": {"type": "string", "maxLength": 0},
        },
        "schema": {**_with_jws("The text of a JSON Schema, 2020-12."), "payload": {"type": "object"}},
        "epoch": _signed("EpochClaim", "The writer's claim."),
        "audit": {"summary": "An event. It carries no signature.", **_PLAIN, "payload": _ref("schemas", "AuditEvent")},
        "health": _signed("Health", "How the daemon does. The Will was signed when the daemon connected."),
        "keys": _signed("JwkSet", "A JWK Set. It is signed with a key that it holds."),
        "applied-report": {
            "summary": f"At most {MAX_REPORT_BYTES} bytes. It carries no signature.",
            **_PLAIN,
            "payload": _ref("schemas", "AppliedReport"),
        },
        "applied-cleared": {
            "summary": "The instance is gone.",
            "payload": {"type": "string", "maxLength": 0},
        },
        "ask": {"summary": "Any payload, and from anybody.", "payload": {"type": "string"}},
    }


def _known() -> dict[str, Any]:
    return {"properties": {"known": {"type": "array", "items": {"type": "string"}}}}


def _signed(schema: str, summary: str) -> dict[str, Any]:
    return {**_with_jws(summary), "payload": _ref("schemas", schema)}


def _with_jws(summary: str) -> dict[str, Any]:
    signature = {
        "type": "string",
        "pattern": DETACHED_JWS,
        "description": "A detached compact JWS over exactly the payload bytes; its header is under x-header.",
        "x-header": _ref("schemas", "DetachedHeader"),
    }
    return {
        "summary": summary,
        **_PLAIN,
        "headers": {
            "type": "object",
            "description": "MQTT 5 user properties.",
            "properties": {JWS_USER_PROPERTY: signature},
            "required": [JWS_USER_PROPERTY],
        },
        "bindings": {"mqtt": {"payloadFormatIndicator": 1, "contentType": "application/json", **_VERSION}},
    }


def _command(name: str, summary: str, params: dict[str, Any]) -> dict[str, Any]:
    topic = {"type": "string"} if "{" in name else {"const": _TOPICS.command(name)}
    return {
        "summary": summary,
        "contentType": "application/jose",
        "payload": {
            "type": "string",
            "pattern": COMPACT_JWS,
            "description": "A compact JWS; its header is under x-header, the claims that it signs under x-claims.",
            "x-header": _ref("schemas", "CommandHeader"),
            "x-claims": {"allOf": [_ref("schemas", "Claims"), {"properties": {"aud": topic, "params": params}}]},
        },
    }


def _reply(summary: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        **_with_jws(summary),
        "correlationId": {"location": "$message.payload#/id", "description": "The command's jti."},
        "payload": {"allOf": [_ref("schemas", "Reply"), {"properties": answer}]},
    }
