"""``setpoint export --history``: every change of every key, newest first, as JSON Lines or CSV.

A line is an entry as the wire has it. In CSV ``old`` and ``new`` are JSON, empty where there is none. It is for reading
and for keeping: no daemon takes it back.
"""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import click

from setpoint.cli.connection import Session, run
from setpoint.cli.options import Options
from setpoint.cli.parts import Part, going_on, tell_scope

Json = dict[str, Any]
COLUMNS = (
    *("id", "changed_at", "changed_by", "service", "version", "revision"),
    *("key", "op", "old", "new", "reason", "request_id"),
)
_PAGE = 1000


def export_history(options: Options, file: str, asked: Json) -> None:
    """Write the history to a file, or go on with it."""
    with Part(file) as part:
        count = run(options, lambda session: _gather(session, part, asked, as_csv=file.lower().endswith(".csv")))
    click.echo(f"{count} entries: {'standard output' if file == '-' else file}", err=True)


async def _gather(session: Session, part: Part, asked: Json, *, as_csv: bool) -> int:
    from setpoint.cli.terminal import bar

    status, info = await session.call("status"), await session.call("info")
    tell_scope(info["services"])
    same = {
        "store_id": status["store_id"],
        "epoch": status["epoch"],
        "sees": info["services"],
        "history": True,
        **asked,
    }
    places: list[int] = []
    before = None
    if part.left(same, lambda _begun: True) is None:
        part.begin(same)
    for place, one in part.lines(_is_entry):
        places.append(place)
        before = one["id"]
    going_on(part, len(places), "entries")
    with bar("entries", None) as show:
        while True:
            page = await session.call("history/query", {**asked, "limit": _PAGE, "before": before})
            places += [part.add(json.dumps(one, ensure_ascii=False, separators=(",", ":"))) for one in page["entries"]]
            show(len(places))
            if (before := page["next"]) is None:
                break
    lines = (part.at(place) for place in places)
    part.finish(_as_csv(lines) if as_csv else lines)
    return len(places)


def _is_entry(one: Json) -> bool:
    return set(COLUMNS) - {"old", "new"} <= one.keys() and isinstance(one["id"], int)


def _as_csv(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Write CSV (RFC 4180) with a head."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for line in lines:
        entry = json.loads(line)
        shown = {side: json.dumps(entry[side], ensure_ascii=False) for side in ("old", "new") if side in entry}
        writer.writerow({**entry, **shown})
        yield out.getvalue().encode()
        out.seek(0)
        out.truncate()
    yield out.getvalue().encode()
