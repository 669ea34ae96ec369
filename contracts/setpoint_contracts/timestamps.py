"""Times on the wire: RFC 3339 in UTC with milliseconds and ``Z``, which sort as text."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

_DATE_AND_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"

_POSIX = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC; without a zone it costs half


def rfc3339(seconds: float) -> str:
    """Write a POSIX time in seconds as the wire's timestamp, cut (not rounded) to milliseconds."""
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_second(whole)}.{microseconds // 1000:03d}Z"


@lru_cache(8)  # most times that are written are of now
def _second(seconds: int) -> str:
    # Not fromtimestamp(): where time_t has 32 bits it ends in 2038.
    return (_POSIX + timedelta(seconds=seconds)).isoformat()


def seconds(timestamp: str) -> float:
    """Read a timestamp of the wire as POSIX seconds; ValueError when it is none."""
    return datetime.fromisoformat(timestamp).timestamp()


def _write(moment: datetime) -> str:
    # isoformat, not strftime: %Y does not pad, and years before 1000 would not sort as text.
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _normalised(text: str) -> str:
    try:
        return _write(datetime.fromisoformat(text))
    except (ValueError, OverflowError):  # no such day or hour; or outside the years 1 to 9999 once it is in UTC
        msg = "no such time"
        raise ValueError(msg) from None


Timestamp = Annotated[
    str,
    StringConstraints(strict=True, pattern=_DATE_AND_TIME + r"\.[0-9]{3}Z$"),
    AfterValidator(_normalised),
]
"""A time as Setpoint writes it, e.g. ``2026-11-23T10:00:00.123Z``."""

TimeParam = Annotated[
    str,
    StringConstraints(strict=True, pattern=_DATE_AND_TIME + r"(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"),
    AfterValidator(_normalised),
]
"""A time as a caller may write it: any RFC 3339 time. After validation it is a ``Timestamp`` text."""
