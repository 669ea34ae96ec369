"""Flash wear: what a ``set`` writes to the disk, and how often it is flushed.

Bytes are ``write_bytes`` less ``cancelled_write_bytes`` of /proc/PID/io (proc(5)): pages that the daemon has made
dirty, its write-ahead log and the checkpoints of it, by the page and not by the byte. What the file system writes for
itself (its journal) is not in it, and neither is the daemon's own log, which goes to /dev/null here. fsync and
fdatasync are counted in the process, by a few lines of C that are compiled on the spot; without a C compiler they are
not counted, and the result says so.
"""

import contextlib
import shutil
import subprocess
from pathlib import Path

from bed import Bed, say
from figures import Results, written_bytes
from load import Connection
from processes import Daemon, running_daemon
from stores import with_services
from workload import CONFIG_BYTES, Commands

_SOURCE = Path(__file__).with_name("fsyncs.c")
_PREFIX = "wear/"


class _Fsyncs:
    """Counts the fsyncs of a process that is started with ``environment``; None when that cannot be done."""

    def __init__(self, directory: Path) -> None:
        self.environment: dict[str, str] = {}
        self._count = directory / "fsyncs"
        compiler, library = shutil.which("cc"), directory / "fsyncs.so"
        if compiler is None:
            return
        self._count.write_bytes(bytes(8))
        with contextlib.suppress(subprocess.CalledProcessError):
            build = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
            subprocess.run(build, check=True, capture_output=True)
            self.environment = {"LD_PRELOAD": str(library), "SETPOINT_BENCH_FSYNCS": str(self._count)}

    def so_far(self) -> int | None:
        return int.from_bytes(self._count.read_bytes(), "little") if self.environment else None


def measure(bed: Bed) -> Results:
    """Measure ``set`` alone and with many in flight, each until the outbox is empty."""
    sizes, data_dir = bed.sizes, bed.directory / "wear"
    say("flash wear")
    commands = Commands(with_services(data_dir, sizes.services, CONFIG_BYTES), _PREFIX, sizes.services)
    fsyncs = _Fsyncs(bed.directory)
    with (
        running_daemon(data_dir, bed.port, Path("/dev/null"), prefix=_PREFIX, environment=fsyncs.environment) as (
            daemon,
            _,
        ),
        Connection(bed.port, commands.filters) as connection,
    ):
        connection.drive(commands.set(sizes.services), 10)
        daemon.wait_drained()
        return {
            "config_bytes": CONFIG_BYTES,
            "alone": _per_set(connection, daemon, commands, fsyncs, sizes.wear_alone, 1),
            "in_flight": _per_set(connection, daemon, commands, fsyncs, sizes.wear_loaded, sizes.in_flight),
        }


def _per_set(
    connection: Connection, daemon: Daemon, commands: Commands, fsyncs: _Fsyncs, count: int, in_flight: int
) -> Results:
    packets = commands.set(count)
    before, synced_before = written_bytes(daemon.pid), fsyncs.so_far()
    connection.drive(packets, in_flight)
    daemon.wait_drained()
    synced = fsyncs.so_far()
    return {
        "commands": count,
        "bytes": (written_bytes(daemon.pid) - before) / count,
        "fsyncs": None if synced is None or synced_before is None else (synced - synced_before) / count,
    }
