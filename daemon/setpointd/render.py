"""The one step between what the daemon knows and what leaves it: replies, updates, events.

Rules:

- A ``Document`` becomes JSON here and nowhere else, wherever it stands: in a result, in the details of an error, by
  itself. What must not be seen by everybody is taken out here.
- What is larger than the broker takes (CONNACK's Maximum Packet Size) does not leave: a reply becomes ``too_large``, a
  retained document is refused, an event loses its details.
"""

from dataclasses import dataclass, replace
from typing import Any

from setpoint_contracts import Code, Topics, sign_detached, strictjson
from setpointd.address import ReturnAddress
from setpointd.errors import Rejected
from setpointd.keys import Keys
from setpointd.messages import Outbound
from setpointd.packets import ENVELOPE_BYTES, publish_bytes
from setpointd.records import Document, Identity, StoredReply
from setpointd.runtime import Runtime

OK = "ok"
REPEATED = "repeated"


class Result:
    """What a command answers with: perhaps a config document, and further members, among them other results."""

    __slots__ = ("document", "members")

    def __init__(self, document: Document | None = None, **members: Any) -> None:
        self.document = document
        self.members = members


@dataclass(slots=True)
class Reply:
    """What is said to a caller. ``code``: ``ok``, ``repeated`` or the error's; ``message`` None: it wants no reply."""

    code: str
    payload: bytes
    message: Outbound | None


class Renderer:
    """Renders for the broker that the daemon is connected to, whose limit stands in ``runtime``."""

    def __init__(self, keys: Keys, topics: Topics, runtime: Runtime) -> None:
        self._keys = keys
        self._topics = topics
        self._runtime = runtime

    def reply(
        self,
        to: ReturnAddress,
        outcome: Result | Rejected,
        identity: Identity,
        at: str,
        *,
        applied: bool | None = None,
    ) -> Reply:
        """Render a reply (wire section 4). ``applied`` says of a mutation whether it took effect; None of a read."""
        code = outcome.code.value if isinstance(outcome, Rejected) else OK
        payload = _reply(to, outcome, identity, at)
        message = self._sealed(to, payload)
        if message is not None and (excess := self._excess(message)):
            return self._too_large(to, excess, identity, at, applied)
        return Reply(code, payload, message)

    def repeated(self, to: ReturnAddress, stored: StoredReply, identity: Identity, at: str) -> Reply:
        """Render a stored reply again, byte for byte; on another reply topic it may turn out too large."""
        message = self._sealed(to, stored.payload)
        if message is not None and (excess := self._excess(message)):
            applied = bool(strictjson.loads_stored(stored.payload.decode())["ok"])
            return self._too_large(to, excess, identity, at, applied)
        return Reply(REPEATED, stored.payload, message)

    def update(self, service: str, document: Document | None) -> Outbound:
        """Render what is retained of a service, None: nothing is. ``TOO_LARGE``: more than the broker takes."""
        topic = self._topics.updated(service)
        if document is None:
            return Outbound(topic, b"", retain=True)
        message = self._keys.signed(topic, retained_payload(document), retain=True)
        if excess := self._excess(message):
            text = f"the update of {service} would have {excess['bytes']} bytes; the broker takes {excess['max_bytes']}"
            raise Rejected(Code.TOO_LARGE, text, **excess)
        return message

    def check_update(self, document: Document, config_bytes: int) -> None:
        """Refuse a document whose update the broker would not take: ``TOO_LARGE``."""
        limit = self._runtime.max_packet_bytes
        if limit is not None and config_bytes + ENVELOPE_BYTES > limit:
            self.update(document.service, document)

    def schema(self, service: str, text: str | None) -> Outbound:
        """Render what is retained of a schema, None: nothing is. ``TOO_LARGE``: more than the broker takes."""
        topic = self._topics.schema(service)
        message = self._keys.signed(topic, b"" if text is None else text.encode(), retain=True)
        if excess := self._excess(message):
            text = f"the schema of {service} would have {excess['bytes']} bytes; the broker takes {excess['max_bytes']}"
            raise Rejected(Code.TOO_LARGE, text, **excess)
        return message

    def check_schema(self, service: str, text: str) -> None:
        """Refuse a schema that the broker would not take: ``TOO_LARGE``."""
        self.schema(service, text)

    def event(self, event: dict[str, Any]) -> Outbound:
        """Render an audit event (wire section 6), without its details if they are too large; the store has them."""
        topic = self._topics.audit(event["action"])
        message = Outbound(topic, strictjson.dumps(event).encode())
        if excess := self._excess(message):
            message = Outbound(topic, strictjson.dumps({**event, "details": {"omitted": excess}}).encode())
        return message

    def _too_large(
        self,
        to: ReturnAddress,
        excess: dict[str, int],
        identity: Identity,
        at: str,
        applied: bool | None,  # noqa: FBT001 - a member of the wire
    ) -> Reply:
        text = f"the reply would have {excess['bytes']} bytes; the broker takes {excess['max_bytes']}"
        if applied:
            text += ". The command took effect: read what you need of it"
        told = {} if applied is None else {"applied": applied}
        payload = _reply(to, Rejected(Code.TOO_LARGE, text, **excess, **told), identity, at)
        message = self._sealed(to, payload)
        if message is not None and self._excess(message):  # its Correlation Data is what is too large
            message = replace(message, correlation_data=None)
        return Reply(Code.TOO_LARGE.value, payload, message)

    def _sealed(self, to: ReturnAddress, payload: bytes) -> Outbound | None:
        """Sign a reply with what its caller can check: its own secret, or the daemon's key (wire section 4)."""
        if to.topic is None:
            return None
        kid, key = (to.who.kid, to.key) if to.key.alg == "HS256" else (self._keys.kid, self._keys.signing)
        return Outbound(to.topic, payload, sign_detached(payload, to.topic, kid, key), correlation_data=to.correlation)

    def _excess(self, message: Outbound) -> dict[str, int] | None:
        limit = self._runtime.max_packet_bytes
        if limit is None or (size := publish_bytes(message)) <= limit:
            return None
        return {"bytes": size, "max_bytes": limit}


def wire(value: Any) -> Any:
    """Give a document, a result or a list of them the form of the wire (section 5); leave other values alone."""
    if isinstance(value, Document):
        content = {"deleted": True} if value.config is None else {"config": value.config}
        return {**value.head(), **content}
    if isinstance(value, Result):
        document = {} if value.document is None else wire(value.document)
        return {**document, **{name: wire(member) for name, member in value.members.items()}}
    if isinstance(value, list):
        return [wire(item) for item in value]
    return value


def retained_payload(document: Document) -> bytes:
    """Write the update document of a version (wire section 5)."""
    return strictjson.dumps(wire(document)).encode()


def _reply(to: ReturnAddress, outcome: Result | Rejected, identity: Identity, at: str) -> bytes:
    head = {"id": to.jti, "command": to.command}
    tail = {"revision": identity.revision, "epoch": identity.epoch, "ts": at}
    if isinstance(outcome, Result):
        return strictjson.dumps({**head, "ok": True, "result": wire(outcome), **tail}).encode()
    error: dict[str, Any] = {
        "code": outcome.code,
        "message": outcome.message,
        "retryable": outcome.code.retryable,
    }
    if outcome.details:
        error["details"] = {name: wire(detail) for name, detail in outcome.details.items()}
    return strictjson.dumps({**head, "ok": False, "error": error, **tail}).encode()
