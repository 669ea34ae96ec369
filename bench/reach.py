"""What is to be reached: each figure with its goal and with what it must be, held against a run.

Where ``echo`` stands, it is the bare aiomqtt echo without properties in the same turn, and the figure is the median of
the turns.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from figures import Results
from tables import head, row

_TIMES = "\N{MULTIPLICATION SIGN}"
_ECHO = f"{_TIMES} echo"

MUST_BE = {"rate": {"get": 1.0, "set": 0.4}, "p50_ms": {"get": 1.3, "set": 3.0}}
"""What must be reached as multiples of the echo: in the table, and as lines in the picture."""

Measure = Callable[[Results], float]


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure of a run, and how much it should be and must be: at most, or ``at_least``."""

    title: str
    measured: Measure
    goal: float
    must: float
    unit: str
    at_least: bool = False

    def reached(self, results: Results) -> str:
        """What a run has reached: ``goal``, ``must``, ``no``, or nothing when it was not measured."""
        try:
            value = self.measured(results)
        except KeyError:
            return ""
        return next((name for name, limit in self._limits if self._within(value, limit)), "no")

    def line(self, results: Results) -> str:
        """One row of a table: measured, goal, must, reached."""
        reached = self.reached(results)
        sign = "≥" if self.at_least else "≤"
        measured = f"{self.measured(results):.3g} {self.unit}" if reached else "not measured"
        return row(self.title, measured, *(f"{sign} {limit:g} {self.unit}" for _, limit in self._limits), reached)

    def bound_line(self, results: Results) -> str:
        """One row of a table, of an aim that is a bound: measured, bound, kept."""
        sign = "≥" if self.at_least else "≤"
        kept = "no" if self.reached(results) == "no" else "yes"
        return row(self.title, f"{self.measured(results):.3g} {self.unit}", f"{sign} {self.must:g} {self.unit}", kept)

    @property
    def _limits(self) -> tuple[tuple[str, float], tuple[str, float]]:
        return ("goal", self.goal), ("must", self.must)

    def _within(self, value: float, limit: float) -> bool:
        return value >= limit if self.at_least else value <= limit


def against_echo(kind: str, field: str) -> Measure:
    """A kind's figure as a multiple of the echo's in the same turn; the median of the turns."""
    return lambda results: statistics.median(turn[kind][field] / turn["echo"][field] for turn in results["turns"])


def _median(kind: str, field: str) -> Measure:
    return lambda results: statistics.median(turn[kind][field] for turn in results["turns"])


def _longest_probe(results: Results) -> float:
    return max(float(probe["longest_ms"]) for probe in results["queued"]["probes"].values())


def history_ratio(results: Results, rows: int) -> float:
    """The rate of ``set`` with so many rows of history, as a multiple of that with none in the same turn."""
    rates = {(one["turn"], one["rows"]): float(one["rate"]) for one in results["history"]}
    return statistics.median(rate / rates[turn, 0] for (turn, its_rows), rate in rates.items() if its_rows == rows)


def _against_etcd(kind: str, of: str) -> Measure:
    return lambda results: _median(kind, "rate")(results) / float(results["etcd"]["aetcd"][of]["rate"])


def _guard(title: str, kind: str, field: str, bound: float, *, at_least: bool = False) -> Aim:
    return Aim(title, against_echo(kind, field), bound, bound, _ECHO, at_least=at_least)


AIMS = (
    Aim("`get` alone, p50", against_echo("get", "p50_ms"), 1.0, MUST_BE["p50_ms"]["get"], _ECHO),
    Aim("`set` alone, p50", against_echo("set", "p50_ms"), 2.0, MUST_BE["p50_ms"]["set"], _ECHO),
    Aim("`get`, 100 in flight", against_echo("get", "rate"), 1.3, MUST_BE["rate"]["get"], _ECHO, at_least=True),
    Aim("`set`, 100 in flight", against_echo("set", "rate"), 0.6, MUST_BE["rate"]["set"], _ECHO, at_least=True),
    Aim("CPU of the daemon, `get`", _median("get", "cpu_ms"), 0.10, 0.14, "ms"),
    Aim("CPU of the daemon, `set`", _median("set", "cpu_ms"), 0.30, 0.45, "ms"),
    Aim("`set` beside etcd's put through Python, rate", _against_etcd("set", "put"), 1.0, 0.6, _TIMES, at_least=True),
    Aim("`get` beside etcd's get through Python, rate", _against_etcd("get", "get"), 1.0, 1.0, _TIMES, at_least=True),
    Aim("outbox empty after full `set` load", lambda results: results["pressure"]["drain_s"], 0.2, 1.0, "s"),
    Aim("`set` p99 at 300/s steady", lambda results: results["pressure"]["steady_p99_ms"], 5, 10, "ms"),
    Aim("RSS idle", lambda results: results["rss_mb"]["idle"], 50, 60, "MB"),
    Aim("RSS after load", lambda results: results["rss_mb"]["loaded"], 60, 75, "MB"),
    Aim("RSS, 10,000 services of 1 kB", lambda results: results["footprint"]["large_rss_mb"], 85, 110, "MB"),
    Aim(
        "start to ready, empty",
        lambda results: statistics.median(results["footprint"]["empty_starts_s"]),
        0.4,
        0.6,
        "s",
    ),
    Aim(
        "start to ready, 10,000 services",
        lambda results: statistics.median(results["footprint"]["large_starts_s"]),
        0.9,
        1.5,
        "s",
    ),
    Aim(
        "`set` rate with the longest history",
        lambda results: history_ratio(results, max(one["rows"] for one in results["history"])),
        0.95,
        0.9,
        f"{_TIMES} that with none",
        at_least=True,
    ),
    Aim(
        "written per `set` of 200 B, 100 in flight",
        lambda results: results["wear"]["in_flight"]["bytes"] / 1000,
        3,
        5,
        "kB",
    ),
    Aim("written per `set` of 200 B, alone", lambda results: results["wear"]["alone"]["bytes"] / 1000, 20, 32, "kB"),
    Aim("a probe while 5,000 queued commands are worked off, longest", _longest_probe, 50, 200, "ms"),
)

GUARDS = (
    _guard("`get` alone, p50", "get", "p50_ms", 15),
    _guard("`set` alone, p50", "set", "p50_ms", 60),
    _guard("`get`, 100 in flight", "get", "rate", 0.1, at_least=True),
    _guard("`set`, 100 in flight", "set", "rate", 0.03, at_least=True),
    _guard("CPU of the daemon, `get`", "get", "cpu_ms", 5),
    _guard("CPU of the daemon, `set`", "set", "cpu_ms", 15),
)
"""For CI: ratios within one run, never times, with bounds so wide that only something gone wrong is beyond them. The
ratios of CPU are the steadiest; those of times go up where others use the machine."""


def table(results: Results) -> list[str]:
    """The aims as a table in Markdown."""
    return [*head("", "measured", "goal", "must", "reached"), *(aim.line(results) for aim in AIMS)]


def guards(results: Results) -> tuple[list[str], list[str]]:
    """The guards as a table in Markdown, and the titles of those that the run does not keep to."""
    broken = [aim.title for aim in GUARDS if aim.reached(results) == "no"]
    return [*head("", "measured", "bound", "kept"), *(aim.bound_line(results) for aim in GUARDS)], broken
