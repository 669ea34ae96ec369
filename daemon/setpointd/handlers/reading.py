"""What a service was at some point: what every read of the past goes through."""

from typing import Protocol

from setpoint_contracts import Code
from setpointd.errors import Rejected
from setpointd.records import Document
from setpointd.store import Snapshot


class Point(Protocol):
    """At most one of a version, a revision and a time; none of them is now."""

    @property
    def version(self) -> int | None: ...  # noqa: D102 - see above

    @property
    def revision(self) -> int | None: ...  # noqa: D102

    @property
    def time(self) -> str | None: ...  # noqa: D102


def then(snapshot: Snapshot, service: str, point: Point) -> Document | None:
    """Return the version of a service at a point, perhaps a tombstone; None when there was no such service.

    ``NOT_FOUND``: it has no such version, or what it was then has been pruned.
    """
    if point.version is not None:
        if document := snapshot.config.at_version(service, point.version):
            return document
        raise Rejected(Code.NOT_FOUND, f"{service} has no version {point.version}")
    if point.revision is not None:
        return snapshot.config.at_revision(service, point.revision)
    if point.time is not None:
        return snapshot.config.at_time(service, point.time)
    return snapshot.config.current(service)
