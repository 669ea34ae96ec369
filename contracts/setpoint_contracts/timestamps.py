"""Times on the wire: RFC 3339 in UTC with milliseconds and ``Z``, which sort as text."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, StringConstraints

Timestamp = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
"""A time as Setpoint writes it, e.g. ``2026-11-23T10:00:00.123Z``."""


def rfc3339(seconds: float) -> str:
    """Write a POSIX time in seconds as the wire's timestamp, cut (not rounded) to milliseconds."""
    return _write(datetime.fromtimestamp(seconds, UTC))


def seconds(timestamp: str) -> float:
    """Read a timestamp of the wire as POSIX seconds; ValueError when it is none."""
    return datetime.fromisoformat(timestamp).timestamp()


def _write(moment: datetime) -> str:
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


TimeParam = Annotated[AwareDatetime, AfterValidator(_write)]
"""A time as a caller may write it: any RFC 3339 time with an offset. After validation it is a ``Timestamp`` text."""
