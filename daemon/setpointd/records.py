"""The rows of the store as plain values."""

from dataclasses import dataclass
from typing import Any, Self

HEAD = ("service", "version", "revision", "epoch", "updated_at", "updated_by")
"""What a document says of itself beside its config, as columns and as members on the wire."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who did something, when, and in which request: goes with all that one job writes."""

    at: str
    by: str | None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose store this is, and how far it is."""

    store_id: str
    epoch: int
    revision: int
    instance: str | None


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a service's config; a tombstone has ``config`` None."""

    service: str
    version: int
    revision: int
    epoch: int
    updated_at: str | None
    updated_by: str | None
    config: dict[str, Any] | None

    @classmethod
    def absent(cls, service: str) -> Self:
        """Stand for a service that never was: version 0."""
        return cls(service, version=0, revision=0, epoch=0, updated_at=None, updated_by=None, config=None)

    @property
    def deleted(self) -> bool:
        """Whether this version says that the service is gone."""
        return self.config is None

    def as_wire(self) -> dict[str, Any]:
        """The config document of wire section 5."""
        return {**self.head(), "deleted": True} if self.config is None else {**self.head(), "config": self.config}

    def head(self) -> dict[str, Any]:
        """Return the document without its config."""
        return {field: getattr(self, field) for field in HEAD}


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A top-level key that changed; ``old`` or ``new`` is None when it was or is absent, else its JSON text."""

    key: str
    op: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """Something to publish: the current state of a service, or an audit event."""

    id: int
    kind: str
    ref: str
