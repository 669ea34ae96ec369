"""The benchmark, in its tiny form: its figures say nothing here, but it works. CI runs all its parts, and its guard."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 50
KINDS = ("echo", "echo_paho", "echo_properties", "echo_mqtt5", "get", "set", "patch", "mixed")


def test_quick_run_measures_commands_and_leaves_nothing(tmp_path: Path) -> None:
    """`--quick` prints every kind, writes results and a picture, and its processes and files are gone afterwards."""
    out, work = tmp_path / "out", tmp_path / "work"
    work.mkdir()
    options = ["--quick", "--only", "commands", "--out", str(out), "--dir", str(work)]
    command = [sys.executable, "bench/run.py", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
        try:
            printed, errors = bench.communicate(timeout=TIMEOUT_S)
        finally:
            bench.send_signal(signal.SIGTERM)  # so that it stops its own children, when it is late
    assert bench.returncode == 0, errors
    for row in ("| 10, echo: aiomqtt, callbacks |", "| 10, `get` |", "| 10, `set` |", "| `get` alone, p50 |"):
        assert row in printed, printed

    results = json.loads((out / "results.json").read_text())
    [turn] = results["turns"]
    assert all(turn[kind]["rate"] > 0 for kind in KINDS)
    assert all(turn[kind]["p99_ms"] >= turn[kind]["p50_ms"] > 0 for kind in KINDS)
    assert all(turn[kind]["cpu_ms"] > 0 for kind in KINDS)
    assert (out / "results.svg").read_text().startswith("<svg ")
    assert not list(work.iterdir())
    assert not _processes_naming(work)


def test_guard_names_what_is_out_of_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run as it should be keeps to all bounds; a daemon of a tenth of the speed does not, and is told at what."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import reach  # noqa: PLC0415 - a script beside others, which find one another by the path

    echo = {"p50_ms": 0.3, "rate": 6000.0, "cpu_ms": 0.15}
    turn = {
        "echo": echo,
        "get": {"p50_ms": 0.5, "rate": 4000.0, "cpu_ms": 0.2},
        "set": {"p50_ms": 2.0, "rate": 1400.0, "cpu_ms": 0.7},
    }
    slow = {**turn, "get": {"p50_ms": 5.0, "rate": 400.0, "cpu_ms": 2.0}}

    assert reach.guards({"turns": [turn]})[1] == []
    assert reach.guards({"turns": [slow]})[1] == [
        "`get` alone, p50",
        "`get`, 100 in flight",
        "CPU of the daemon, `get`",
    ]


def _processes_naming(directory: Path) -> list[str]:
    """Command lines that name a directory, as the daemon's names that of its store."""
    lines = [_read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    return [line for line in lines if str(directory) in line]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\0", " ")
    except OSError:  # it has ended since
        return ""
