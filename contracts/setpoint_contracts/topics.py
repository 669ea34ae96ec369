"""Every topic of the wire (section 1). No other module spells one."""

from dataclasses import dataclass
from typing import Literal

MAX_REPLY_TOPIC_BYTES = 256
# Brokers refuse a publish with very many levels and drop the publisher (Mosquitto: 200), so a caller could
# disconnect the daemon with a reply topic made of slashes.
MAX_REPLY_TOPIC_LEVELS = 64


Own = Literal["health", "epoch", "updated", "schema", "keys", "ask"]
"""What the daemon listens to beside commands: its own kind's statements, and the question who is there."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics below one ``topic_prefix`` (default none; e.g. ``site1/``)."""

    prefix: str = ""

    @property
    def commands(self) -> str:
        """Filter for all commands."""
        return f"{self.prefix}config/cmd/#"

    def command(self, name: str) -> str:
        """Where a command is published: ``set`` or ``profile/save``."""
        return f"{self.prefix}config/cmd/{name}"

    def command_name(self, topic: str) -> str:
        """Name the command of a topic below ``config/cmd/``; an empty name when the topic is elsewhere."""
        root = self.command("")
        return topic[len(root) :] if topic.startswith(root) else ""

    def reply(self, principal: str, rest: str) -> str:
        """Where a reply to ``principal`` goes; ``rest`` is the jti unless the caller chose otherwise."""
        return f"{self.prefix}config/reply/{principal}/{rest}"

    def reply_refusal(self, principal: str, topic: str) -> str | None:
        """Say why ``topic`` may not be a reply topic of ``principal``; None when it may (wire section 3, row 9)."""
        root = self.reply(principal, "")
        if not topic.startswith(root) or topic == root:
            return f"a reply topic of {principal} begins with {root}"
        if "+" in topic or "#" in topic:
            return "a reply topic has no wildcard"
        # Brokers close the connection of a publisher whose topic holds control or non-characters (MQTT 5, 1.5.4).
        # This comes first: a lone surrogate is not printable, and has no bytes to count.
        if not topic.isprintable():
            return "a reply topic has printable characters only"
        if len(topic.encode()) > MAX_REPLY_TOPIC_BYTES:
            return f"a reply topic has at most {MAX_REPLY_TOPIC_BYTES} bytes"
        if topic.count("/") >= MAX_REPLY_TOPIC_LEVELS:
            return f"a reply topic has at most {MAX_REPLY_TOPIC_LEVELS} levels"
        return None

    @property
    def all_updated(self) -> str:
        """Filter for the current config of every service."""
        return self.updated("+")

    def updated(self, service: str) -> str:
        """Where the current config of a service is retained."""
        return f"{self.prefix}config/updated/{service}"

    def updated_service(self, topic: str) -> str | None:
        """Name the service of a topic below ``config/updated/``; None when the topic is elsewhere."""
        root = self.updated("")
        return topic[len(root) :] if topic.startswith(root) else None

    @property
    def all_schemas(self) -> str:
        """Filter for the schema of every service."""
        return self.schema("+")

    def schema(self, service: str) -> str:
        """Where the JSON Schema of a service's configs is retained."""
        return f"{self.prefix}config/schema/{service}"

    def schema_service(self, topic: str) -> str | None:
        """Name the service of a topic below ``config/schema/``; None when the topic is elsewhere."""
        root = self.schema("")
        return topic[len(root) :] if topic.startswith(root) else None

    @property
    def epoch(self) -> str:
        """Where the writer's claim is retained (section 7)."""
        return f"{self.prefix}config/epoch"

    def audit(self, action: str) -> str:
        """Where audit events are published."""
        return f"{self.prefix}audit/config/{action}"

    @property
    def health(self) -> str:
        """Where the daemon's health is retained, and its Last Will."""
        return f"{self.prefix}system/health/config-manager"

    @property
    def look(self) -> str:
        """Below this a daemon sends a message to itself, to know when it has seen all that is retained."""
        return f"{self.prefix}system/look/config-manager"

    @property
    def look_ask(self) -> str:
        """Where a connected daemon is asked for a proof of life (section 7)."""
        return f"{self.look}/ask"

    @property
    def all_applied(self) -> str:
        """Filter for what every instance of every service reports."""
        return self.applied("+", "+")

    def applied(self, service: str, instance: str) -> str:
        """Where an instance of a service says what it runs (section 6)."""
        return f"{self.prefix}config/applied/{service}/{instance}"

    def applied_by(self, topic: str) -> tuple[str, str] | None:
        """Name service and instance of a topic below ``config/applied/``; None when the topic is elsewhere."""
        root = f"{self.prefix}config/applied/"
        if not topic.startswith(root):
            return None
        service, _, instance = topic[len(root) :].partition("/")
        return service, instance

    def own(self, topic: str) -> Own | None:
        """Say which of the daemon's own topics this is; None when it is none of them."""
        service = self.updated_service(topic)
        if service and "/" not in service:
            return "updated"
        service = self.schema_service(topic)
        if service and "/" not in service:
            return "schema"
        known: dict[str, Own] = {self.health: "health", self.epoch: "epoch", self.keys: "keys", self.look_ask: "ask"}
        return known.get(topic)

    @property
    def keys(self) -> str:
        """Where the daemon's public signing keys are retained as a JWK Set."""
        return f"{self.prefix}system/keys/config-manager"
