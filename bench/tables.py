"""A run as tables in Markdown. What was not measured is left out."""

import statistics
from collections.abc import Iterable, Sequence

from figures import Results

TITLES = {
    "echo": "echo: aiomqtt, callbacks",
    "echo_paho": "echo: paho by itself",
    "echo_properties": "echo: aiomqtt, a reply's properties",
    "echo_mqtt5": "echo: `mqtt5`, a reply's properties",
    "get": "`get`",
    "set": "`set`",
    "patch": "`patch`",
    "mixed": "9 `get`, 1 `set`",
}


def head(*titles: str) -> list[str]:
    """The two lines that a table begins with."""
    return [row(*titles), row("---", *["---:"] * (len(titles) - 1))]


def row(*cells: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def facts(results: Results) -> str:
    """What the figures depend on."""
    machine = results["machine"]
    return (
        f"`{results['command']}`, setpoint {machine['setpoint']}: {machine['cores']} cores of {machine['cpu']},"
        f" Linux {machine['kernel']}, load average {machine['load_average']:.2f} before; Python {machine['python']},"
        f" SQLite {machine['sqlite']}, Mosquitto {machine['mosquitto']};"
        f" {machine['filesystem']}, fsync {machine['fsync_ms']:.2f} ms."
    )


def tables(results: Results) -> str:
    """Every part of a run that was measured."""
    parts = {
        "turns": _turns,
        "other_services": _other_services,
        "history": _history,
        "wear": _wear,
        "footprint": _starts,
        "etcd": _etcd,
    }
    lines = [facts(results), ""]
    for part, make in parts.items():
        if part in results:
            lines += [*make(results), ""]
    return "\n".join([*lines, *(f"- {note}" for note in _notes(results))])


def _turns(results: Results) -> list[str]:
    return _table_of_turns(results, results["turns"])


def _other_services(results: Results) -> list[str]:
    return _table_of_turns(results, results["other_services"])


def _table_of_turns(results: Results, found: Sequence[Results]) -> list[str]:
    loaded = f"{results['sizes']['in_flight']} in flight"
    lines = head(
        "services, kind",
        "p50 ms, alone",
        "p99 ms, alone",
        "p50 ÷ echo",
        f"per s, {loaded}",
        f"p99 ms, {loaded}",
        "rate ÷ echo",
        "CPU ms each: it",
        "broker",
        "client",
    )
    for services in dict.fromkeys(turn["services"] for turn in found):
        turns = [turn for turn in found if turn["services"] == services]
        lines += [_kind(services, kind, turns) for kind in TITLES if kind in turns[0]]
    return lines


def _kind(services: int, kind: str, turns: Sequence[Results]) -> str:
    of = [turn[kind] for turn in turns]
    ratios = {field: [turn[kind][field] / turn["echo"][field] for turn in turns] for field in ("p50_ms", "rate")}
    return row(
        f"{services:,}, {TITLES[kind]}",
        *(_cell([one[field] for one in of], 2) for field in ("p50_ms", "p99_ms")),
        _cell(ratios["p50_ms"], 2),
        _cell([one["rate"] for one in of], 0),
        _cell([one["loaded_p99_ms"] for one in of], 0),
        _cell(ratios["rate"], 2),
        *(_cell([one[field] for one in of], 3) for field in ("cpu_ms", "broker_cpu_ms", "client_cpu_ms")),
    )


def _cell(values: Sequence[float], digits: int) -> str:
    """The median, with least and most."""
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _history(results: Results) -> list[str]:
    lines = head("rows of history", "`set` per s", "÷ none", "CPU ms each")
    none = {one["turn"]: one["rate"] for one in results["history"] if one["rows"] == 0}
    for rows in dict.fromkeys(one["rows"] for one in results["history"]):
        of = [one for one in results["history"] if one["rows"] == rows]
        ratios = [one["rate"] / none[one["turn"]] for one in of]
        cpu = [one["cpu_ms"] for one in of]
        lines.append(row(f"{rows:,}", _cell([one["rate"] for one in of], 0), _cell(ratios, 2), _cell(cpu, 3)))
    return lines


def _wear(results: Results) -> list[str]:
    wear = results["wear"]
    lines = head(f"flash wear, `set` of {wear['config_bytes']} B", "kB written each", "fsyncs each")
    for name, title in (("alone", "alone"), ("in_flight", f"{results['sizes']['in_flight']} in flight")):
        fsyncs = wear[name]["fsyncs"]
        counted = "no C compiler: not counted" if fsyncs is None else f"{fsyncs:.2f}"
        lines.append(row(title, f"{wear[name]['bytes'] / 1000:.2f}", counted))
    return lines


def _starts(results: Results) -> list[str]:
    footprint = results["footprint"]
    lines = head("services", "exec to `/readyz` 200, s", "RSS, MB")
    for name, services in (("empty", 0), ("large", footprint["services"])):
        lines.append(
            row(f"{services:,}", _cell(footprint[f"{name}_starts_s"], 2), f"{footprint[f'{name}_rss_mb']:.1f}")
        )
    return lines


def _etcd(results: Results) -> list[str]:
    etcd = results["etcd"]
    loaded = f"{results['sizes']['in_flight']} in flight"
    lines = head(etcd["version"], "p50 ms, alone", "p99 ms, alone", f"per s, {loaded}", "CPU ms each: etcd", "client")
    for name, kinds in ((name, etcd[name]) for name in ("aetcd", "packets") if name in etcd):
        lines += [
            row(
                f"{name}, {kind}",
                *(f"{one[field]:,.{digits}f}" for field, digits in _ETCD_FIELDS.items()),
            )
            for kind, one in kinds.items()
        ]
    return lines


_ETCD_FIELDS = {"p50_ms": 2, "p99_ms": 2, "rate": 0, "cpu_ms": 3, "client_cpu_ms": 3}


def _notes(results: Results) -> Iterable[str]:
    sizes = results["sizes"]
    if "turns" in results:
        client = max(one["client_cpu"] for turn in results["turns"] for one in turn.values() if isinstance(one, dict))
        yield (
            f"Turns: {sizes['turns']}; cells are medians, with least and most. Each kind {sizes['alone']:,} alone after"
            f" {sizes['warm_up']} that do not count, then up to {sizes['seconds']:g} s at {sizes['in_flight']} in"
            f" flight; configs of {results['config_bytes']} bytes, signed beforehand. CPU counts until the outbox is"
            f" empty. The client took up to {client:.0%} of a core."
        )
    if "pressure" in results:
        found = results["pressure"]
        yield (
            f"{found['load_s']:.1f} s of `set` at {sizes['in_flight']} in flight ({found['rate']:,.0f}/s): the outbox"
            f" was empty {found['drain_s']:.2f} s after the last reply. At {sizes['steady_per_s']}/s steady: p50"
            f" {found['steady_p50_ms']:.2f} ms, p99 {_cell(found['steady_p99s_ms'], 2)} ms."
        )
    if "queued" in results:
        found = results["queued"]
        probes = "; ".join(
            f"{path} {one['count']:,} times, p99 {one['p99_ms']:.0f} ms, longest {one['longest_ms']:.0f} ms"
            for path, one in found["probes"].items()
        )
        yield (
            f"{found['commands']:,} `set` queued while the daemon was down: from exec to the first reply"
            f" {found['first_s']:.2f} s, to the last {found['last_s']:.2f} s, to an empty outbox"
            f" {found['drained_s']:.2f} s. Meanwhile probes were answered: {probes}."
        )
    if "rss_mb" in results:
        rss = results["rss_mb"]
        yield f"RSS of the daemon: {rss['idle']:.1f} MB idle, {rss['loaded']:.1f} MB after the turns and the load."
    if "footprint" in results:
        first = results["footprint"]["large_first_start_s"]
        yield f"The first start with {sizes['large_services']:,} services, none retained yet: {first:.2f} s."
    if results["left_out"]:
        yield f"Left out: {'; '.join(f'{part}, {why}' for part, why in results['left_out'].items())}."
    took = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in results["took_s"].items())
    yield f"Took {sum(results['took_s'].values()):.0f} s: {took}."
