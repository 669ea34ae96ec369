"""The rows of the store as plain values.

Most are named tuples. A frozen dataclass takes a start half a millisecond, and
making one takes three to four times as long as of a class that is not; so hardly anything is that every message needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

DocumentKind = Literal["updated", "schema"]
"""What is retained of a service: its state, or its schema."""
OutboxKind = DocumentKind | Literal["audit"]
"""What waits to be published: a document, or an audit event."""
OutboxQueue = Literal["documents", "events"]
"""In what it waits; neither can hold up the other."""

HEAD = ("service", "version", "revision", "epoch", "updated_at", "updated_by")
"""What a document says of itself beside its config, as columns and as members on the wire."""


class Stamp(NamedTuple):
    """Who did something, when, and in which request: goes with all that one job writes."""

    at: str
    by: str | None
    request_id: str | None = None


@dataclass(slots=True)
class Identity:
    """Whose store this is, and how far it is; ``instance`` is the daemon that last ran on it."""

    store_id: str
    epoch: int
    revision: int
    instance: str | None


class Document(NamedTuple):
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

    def head(self) -> dict[str, Any]:
        """Return the document without its config."""
        return dict(zip(HEAD, self, strict=False))  # they are the first of its fields


class SchemaRecord(NamedTuple):
    """The JSON Schema of a service as JSON text, since when it is set, and by whom."""

    service: str
    updated_at: str
    updated_by: str | None
    text: str

    def head(self) -> dict[str, Any]:
        """Return the record without the schema."""
        return {"service": self.service, "updated_at": self.updated_at, "updated_by": self.updated_by}


@dataclass(frozen=True, slots=True)
class SealedValue:
    """A secret value as the store keeps it: the digest by which it is known, and what only the store's key opens."""

    digest: bytes
    sealed: bytes


class KeyChange(NamedTuple):
    """A top-level key that changed; ``old`` or ``new`` is None when it was or is absent, else its JSON text."""

    key: str
    op: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Which changes of keys: those that match all that is said; ``until`` and ``before`` (an id) are exclusive."""

    service: str | None = None
    key: str | None = None
    user: str | None = None
    since: str | None = None
    until: str | None = None
    before: int | None = None


class StoredReply(NamedTuple):
    """The reply to a command that ran: its payload, and the digest of the command's bytes."""

    digest: bytes
    payload: bytes


class Keep(NamedTuple):
    """What of the history stays: what was in force at ``since`` or later, and the newest ``versions`` of each service.

    None: that says nothing. Where both are given, what either of them keeps stays.
    """

    since: str | None = None
    versions: int | None = None


@dataclass(frozen=True, slots=True)
class Pruning:
    """How far a pruning is: what it has removed, behind which service it goes on, and whether it is ``over``."""

    versions: int = 0
    history: int = 0
    slices: int = 0
    after: str = ""
    walked: bool = False
    over: bool = False


class UnfinishedPrune(NamedTuple):
    """A pruning that a command has begun, and left to the background."""

    id: int
    keep: Keep
    asked_by: str | None
    request_id: str | None


class Pruned(NamedTuple):
    """What is gone of the history of a service: versions up to ``version``, the oldest of them made at ``first_…``."""

    version: int
    revision: int
    first_revision: int
    first_at: str
    pruned_at: str


class OutboxRow(NamedTuple):
    """Something to publish. ``ref`` is a service or an audit event's id, ``writes`` how often it was put in."""

    id: int
    kind: OutboxKind
    ref: str
    writes: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """The highest of a store that a broker showed, by what the store's own key has signed; ``versions`` by service."""

    epoch: int = 0
    revision: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)

    def joined(self, other: "Sighting") -> "Sighting":
        """Return the highest of both."""
        versions = dict(self.versions)
        for service, version in other.versions.items():
            versions[service] = max(version, versions.get(service, 0))
        return Sighting(max(self.epoch, other.epoch), max(self.revision, other.revision), versions)
