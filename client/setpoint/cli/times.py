"""Points in time as people write them: RFC 3339, a local date or time, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

import click

_AGO = re.compile(r"([0-9]{1,9})(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[str]):
    """A time as an option takes it; what the command gets is a text as the wire has it."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read a time; a click error when it is none."""
        try:
            return read(value, datetime.now(UTC))
        except ValueError:
            self.fail(
                f"{value!r} is no time: write 2026-11-23T10:00:00Z, 2026-11-23, '2026-11-23 10:00' or 2h", param, ctx
            )


def read(text: str, now: datetime) -> str:
    """Write a time as the wire has it, e.g. ``2026-11-23T10:00:00.000Z``; ``ValueError`` when it is none.

    ``90s``, ``10m``, ``2h``, ``3d`` and ``1w`` are so long before ``now``. Without a zone it is this machine's.
    """
    try:
        if found := _AGO.fullmatch(text.strip()):
            moment = now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        else:
            moment = datetime.fromisoformat(text.strip())
        return _written(moment.astimezone(UTC))
    except OverflowError:
        raise ValueError(text) from None


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def local(timestamp: str | None) -> str:
    """Write a time of the wire as this machine's, to the second; ``-`` for none."""
    if not timestamp:
        return "-"
    try:
        moment = datetime.fromisoformat(timestamp).astimezone()
    except (ValueError, OverflowError):
        return timestamp
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """Write how long something takes, in its two largest units: ``3 d 4 h``, ``12.5 s``, ``0.8 ms``."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    whole = int(seconds)
    parts = [(whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])
