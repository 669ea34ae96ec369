"""Documents that count, and who is told of them."""

from dataclasses import dataclass
from typing import Any, Protocol

from setpoint.cache import Kept
from setpoint.follower import Json, Order
from setpoint_contracts.config import ConfigDocument

_MEMBERS = ("service", "version", "revision", "epoch", "updated_at", "updated_by", "config", "deleted")


@dataclass(frozen=True, slots=True)
class Taken:
    """A document that counts, tombstones too. ``kept``: as it came on its topic; None when it came in a reply."""

    document: ConfigDocument
    kept: Kept | None

    @property
    def order(self) -> Order:
        """By this the newer of two is known."""
        return self.document.epoch, self.document.revision


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the cache holds of a service, as far as it is believed; ``refused`` says why something is not."""

    newest: Taken | None = None
    good: Taken | None = None
    refused: str | None = None


class Sink(Protocol):
    """Who is told of documents. ``whole``: they are to be kept as they are, for a start without the broker."""

    whole: bool

    def take(self, taken: Taken) -> None:
        """Take a document; one that is not newer than the last one is no news. Must not raise."""

    def close(self) -> None:
        """Nothing comes any more."""


def document_of(held: Json) -> ConfigDocument:
    """Make the model of what the rules of a follower have let through; other members mean nothing to them."""
    members: dict[str, Any] = {name: held.get(name) for name in _MEMBERS}
    return ConfigDocument.model_construct(**members)
