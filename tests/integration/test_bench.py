"""The benchmark, in its tiny form: its figures say nothing here, but it works."""

import json
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 50


def test_quick_run_measures_everything_and_leaves_nothing(tmp_path: Path) -> None:
    """`--quick` prints every row, writes the raw results, and its processes and files are gone afterwards."""
    raw, work = tmp_path / "raw.json", tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "bench/run.py", "--quick", "--json", str(raw), "--dir", str(work)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
        try:
            printed, errors = bench.communicate(timeout=TIMEOUT_S)
        finally:
            bench.send_signal(signal.SIGTERM)  # so that it stops its own children, when it is late
    assert bench.returncode == 0, errors
    for row in ("| floor: bare echo |", "| `get` |", "| `set` |", "| `set` until its update arrives |", "| daemon |"):
        assert row in printed, printed

    results = json.loads(raw.read_text())
    [measured] = results["rounds"]
    assert all(measured[name]["rate"] > 0 for name in ("floor", "get", "set"))
    assert all(measured[name]["p99_ms"] >= measured[name]["p50_ms"] > 0 for name in ("floor", "get", "set", "update"))
    assert not list(work.iterdir())
    assert not _processes_naming(work)


def _processes_naming(directory: Path) -> list[str]:
    """Command lines that name a directory, as the daemon's names that of its store."""
    lines = [_read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    return [line for line in lines if str(directory) in line]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\0", " ")
    except OSError:  # it has ended since
        return ""
