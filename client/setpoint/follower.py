"""What becomes of a message: rules 3 to 6 of contracts/following.md, bytes in and an outcome out.

No network, no file, no clock. The vectors of contracts/vectors/followers.json run through it.
"""

from collections.abc import Mapping
from typing import Any, Literal

from setpoint.trust import KeySetOutcome, Trust
from setpoint_contracts import Topics, strictjson
from setpoint_contracts.numbers import MAX_INTEGER

Json = dict[str, Any]
Order = tuple[int, int]
"""(``epoch``, ``revision``) of a document: of two of one service, the greater one counts."""
DocumentOutcome = Literal["bad_document", "older", "same", "taken"]
Outcome = Literal["empty", "unsigned", "no_key", "bad_signature"] | KeySetOutcome | DocumentOutcome

WHY: Mapping[str, str] = {
    "unsigned": "it is not signed",
    "bad_signature": "no key that is pinned here signed it",
    "bad_document": "it is no document of that service",
    "older": "it is older than what was taken before",
    "other_key": "another key signed it than is pinned here; if the daemon has a new store, its new key is to be "
    "pinned, and `setpoint doctor` says how",
}
"""Why what came was ignored, by its outcome, in words for people."""

_NEVER: Order = (-1, -1)


class Follower:
    """Knows of every service the newest document that a pinned key signed, tombstones too.

    ``holds`` maps a service to its document. ``seen`` maps a service to the order of a document that was taken earlier,
    where that is all that was kept of it: an older one is a replay, and the same one is taken.
    """

    def __init__(
        self,
        trust: Trust,
        topics: Topics,
        holds: Mapping[str, Json] | None = None,
        seen: Mapping[str, Order] | None = None,
    ) -> None:
        self.holds = dict(holds or {})
        self.seen = dict(seen or {})
        self._trust = trust
        self._topics = topics
        self._believed: dict[str, tuple[bytes, str]] = {}

    def take(self, topic: str, payload: bytes, jws: str | None) -> Outcome:
        """Take a message, retained or not; ``jws`` is its one user property of that name. Its outcome."""
        if not payload:
            return "empty"
        if jws is None:
            return "unsigned"
        if topic == self._topics.keys:
            return self._trust.take_key_set(topic, payload, jws)
        return self._take_message(topic, payload, jws) if self._trust.pinned else "no_key"

    def verified(self, topic: str, payload: bytes, jws: str) -> Json | None:
        """Read a document that a pinned key signed, whatever its order; None when rule 3 or 4 does not hold."""
        service = self._topics.updated_service(topic)
        if service is None or not self._trust.signed_by_pinned(topic, payload, jws):
            return None
        document = read(payload)
        return document if is_document(document, service) else None

    def take_reply_document(self, document: Any) -> DocumentOutcome:
        """Take a document or tombstone out of a reply whose own signature holds (rules 4 and 5)."""
        service = document.get("service") if isinstance(document, dict) else None
        if not isinstance(service, str) or not is_document(document, service):
            return "bad_document"
        outcome = self._take(service, document)
        if outcome == "taken":
            self._believed.pop(service, None)
        return outcome

    def order(self, service: str) -> Order:
        """The order of the newest document that is known of a service; (-1, -1) when there is none."""
        held = self.holds.get(service)
        return max(order_of(held) if held else _NEVER, self.seen.get(service, _NEVER))

    def _take_message(self, topic: str, payload: bytes, jws: str) -> Outcome:
        service = self._topics.updated_service(topic)
        if service is not None and self._believed.get(service) == (payload, jws):
            return "same"  # byte for byte what is held: it was verified when it was taken
        document = self.verified(topic, payload, jws)
        if document is None:
            return "bad_document" if self._trust.signed_by_pinned(topic, payload, jws) else "bad_signature"
        outcome = self._take(document["service"], document)
        if outcome == "taken":
            self._believed[document["service"]] = payload, jws
        return outcome

    def _take(self, service: str, document: Json) -> DocumentOutcome:
        order, known = order_of(document), self.order(service)
        if order < known:
            return "older"
        if order == known and service in self.holds and order_of(self.holds[service]) == order:
            return "same"
        self.holds[service] = document
        return "taken"


def order_of(document: Mapping[str, Any]) -> Order:
    """The order of a document."""
    return document["epoch"], document["revision"]


def read(payload: bytes) -> Any:
    """Read a document as strictly as a command; None when it is not such JSON."""
    try:
        return strictjson.loads(payload)
    except strictjson.InvalidJsonError:
        return None


def is_document(document: Any, service: str) -> bool:
    """Whether it says which version of this service it is, and either its config or that it is deleted (rule 4)."""
    if not isinstance(document, dict) or document.get("service") != service:
        return False
    if not all(_is_count(document.get(name)) for name in ("version", "revision", "epoch")):
        return False
    if "deleted" in document:
        return document["deleted"] is True and "config" not in document
    return isinstance(document.get("config"), dict)


def _is_count(value: Any) -> bool:
    # Read strictly, 5.0 is the integer 5 (wire section 2); and true is none.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER
