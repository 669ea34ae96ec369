"""Who is the writer (wire section 7): what a daemon makes of the claims that it finds on the broker. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from setpoint_contracts import Topics, strictjson
from setpoint_contracts.system import Mode
from setpointd.records import Claim
from setpointd.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Seen:
    """What is retained on the broker. Anything that is not what it should be counts as absent."""

    health: dict[str, Any] | None
    claim: dict[str, Any] | None
    documents: dict[str, Any]

    @classmethod
    def read(cls, retained: Mapping[str, bytes], topics: Topics) -> Self:
        """Make sense of retained messages, by topic."""
        documents = {
            service: _json(payload)
            for topic, payload in retained.items()
            if (service := topics.updated_service(topic)) is not None
        }
        return cls(_object(retained.get(topics.health)), parse_claim(retained.get(topics.epoch)), documents)

    @property
    def revision(self) -> int:
        """The highest revision in sight."""
        claims = [self.claim, *self.documents.values()]
        return max((_number(claim, "revision") for claim in claims if isinstance(claim, dict)), default=0)

    @property
    def epoch(self) -> int:
        """The highest epoch in sight."""
        claims = [self.claim, *self.documents.values()]
        return max((_number(claim, "epoch") for claim in claims if isinstance(claim, dict)), default=0)

    def alive(self, own: Claim) -> str | None:
        """Name the instance that is alive, by its health; None when nobody is.

        A health document is no proof of life when it is of an earlier epoch of our own store: each life begins a new
        one. Such a document comes back when a broker lost its newest retained messages in a power cut.
        """
        if self.health is None or self.health.get("ok") is not True:
            return None
        same_store = self.claim is not None and self.claim.get("store_id") == own.store_id
        if same_store and _number(self.health, "epoch") < own.epoch:
            return None
        return str(self.health.get("instance"))

    def ahead(self, own: Claim) -> bool:
        """Whether the broker has seen more than our store."""
        return self.epoch > own.epoch or self.revision > own.revision


def decide(seen: Seen, own: Claim) -> tuple[Mode, str | None]:
    """Say what a starting daemon may be, and why it may not be more."""
    alive = seen.alive(own)
    # The instance that our store remembers is our own previous life, unless it went on after this copy was taken.
    if alive is not None and (alive != own.instance or seen.ahead(own)):
        return "standby", f"instance {alive} is alive"
    if seen.claim is not None and seen.claim.get("store_id") != own.store_id:
        return "read_only", "foreign_store"
    if seen.ahead(own):
        return "read_only", "stale_store"
    return "active", None


def superseded(claim: Mapping[str, Any] | None, own: Claim) -> bool:
    """Whether a claim that came in while running is another daemon's, and no older than our own."""
    return claim is not None and claim.get("instance") != own.instance and _number(claim, "epoch") >= own.epoch


def parse_claim(payload: bytes | None) -> dict[str, Any] | None:
    """Read a claim from ``config/epoch``; None when it is none."""
    found = _object(payload)
    return found if found is not None and isinstance(found.get("store_id"), str) else None


def to_repair(seen: Seen, current: Mapping[str, dict[str, Any]]) -> list[str]:
    """Name the services whose retained document is missing, is not the current one, or should not be there.

    ``current`` has the config document of every living service.
    """
    found, wanted = _texts(seen.documents), _texts(current)
    return sorted(service for service in found.keys() | wanted.keys() if found.get(service) != wanted.get(service))


def claim_document(own: Claim, since: str) -> bytes:
    """Write the claim for ``config/epoch``."""
    claim = {"store_id": own.store_id, "epoch": own.epoch, "revision": own.revision}
    return strictjson.dumps({**claim, "instance": own.instance, "since": since}).encode()


def health_document(runtime: Runtime, epoch: int, at: str, *, ok: bool, event: str) -> bytes:
    """Write what is retained on the health topic."""
    return strictjson.dumps(
        {
            "ok": ok,
            "event": event,
            "timestamp": at,
            "instance": runtime.instance,
            "epoch": epoch,
            "version": runtime.version,
            "mode": runtime.mode,
        },
    ).encode()


def _texts(documents: Mapping[str, Any]) -> dict[str, str]:
    # Not compared as Python values: 1 is no true, and a payload that is no JSON is still there.
    return {service: strictjson.canonical(document) for service, document in documents.items()}


def _object(payload: bytes | None) -> dict[str, Any] | None:
    found = _json(payload) if payload else None
    return found if isinstance(found, dict) else None


def _json(payload: bytes) -> Any:
    try:
        return strictjson.loads(payload)
    except strictjson.InvalidJsonError:
        return None


def _number(claim: Mapping[str, Any], field: str) -> int:
    number = claim.get(field)
    return number if isinstance(number, int) else 0
