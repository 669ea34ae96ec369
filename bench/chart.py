"""A run as a picture: rates and latencies as multiples of the echo, in SVG, with what must be reached as lines."""

import html
import statistics
from collections.abc import Iterable, Iterator

from figures import Results
from reach import MUST_BE
from tables import TITLES

_WIDTH, _LEFT, _RIGHT = 800, 230, 80
_BAR, _STEP, _TITLE = 16, 22, 40
_HEADINGS = {
    "rate": "Commands a second, many in flight, as multiples of the echo's (more is better)",
    "p50_ms": "Median latency alone, as multiples of the echo's (less is better)",
}
_COLOURS = {True: "#9aa5b1", False: "#2f6f9f"}


def svg(results: Results) -> str:
    """Draw the turns; two charts, one below the other."""
    turns = results["turns"]
    parts: list[str] = []
    y = 10
    for field, heading in _HEADINGS.items():
        values = {
            kind: statistics.median(turn[kind][field] / turn["echo"][field] for turn in turns)
            for kind in TITLES
            if kind in turns[0]
        }
        parts += _chart(heading, values, MUST_BE[field], y)
        y += _TITLE + _STEP * len(values) + 20
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" font-family="sans-serif"'
        f' font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _chart(heading: str, values: dict[str, float], limits: dict[str, float], top: int) -> Iterator[str]:
    scale = (_WIDTH - _LEFT - _RIGHT) / max([*values.values(), *limits.values()])
    yield _text(10, top + 20, heading, weight="bold")
    for number, (kind, value) in enumerate(values.items()):
        y = top + _TITLE + number * _STEP
        yield _text(10, y + 12, TITLES[kind].replace("`", ""))
        colour = _COLOURS[kind.startswith("echo")]
        yield f'<rect x="{_LEFT}" y="{y}" width="{value * scale:.1f}" height="{_BAR}" fill="{colour}"/>'
        yield _text(_LEFT + value * scale + 6, y + 12, f"{value:.2f}")
        yield from _mark(_LEFT + limits.get(kind, 0) * scale, y, kind in limits)


def _mark(x: float, y: float, wanted: bool) -> Iterable[str]:  # noqa: FBT001 - one caller
    if wanted:
        yield f'<line x1="{x:.1f}" y1="{y - 2}" x2="{x:.1f}" y2="{y + _BAR + 2}" stroke="#c0392b" stroke-width="2"/>'


def _text(x: float, y: float, words: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" font-weight="{weight}">{html.escape(words)}</text>'
