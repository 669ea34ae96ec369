"""``set`` with more and more rows of history, in turns: a daemon for each store, all of them on the same broker."""

import contextlib

from bed import Bed, say
from figures import Results, cpu_s
from load import Connection
from processes import Daemon, running_daemon
from stores import with_history
from workload import Commands

from setpoint_contracts import Token


def measure(bed: Bed) -> list[Results]:
    """Give for each number of rows, in each turn, how fast ``set`` was; those of a turn stand beside one another."""
    sizes = bed.sizes
    stores = {rows: with_history(bed, rows) for rows in sizes.history_rows}
    found: list[Results] = []
    with contextlib.ExitStack() as running:
        parties: dict[int, tuple[Daemon, Commands, Connection]] = {}
        for rows, data_dir in stores.items():
            prefix = f"history-{rows}/"
            commands = Commands(Token.load(data_dir / "admin.jwk"), prefix, sizes.services)
            daemon, _ = running.enter_context(running_daemon(data_dir, bed.port, bed.log, prefix=prefix))
            connection = running.enter_context(Connection(bed.port, commands.filters, f"bench-{rows}"))
            connection.drive(commands.set(sizes.services), 10)
            daemon.wait_drained()
            parties[rows] = daemon, commands, connection
        for number in range(sizes.history_turns):
            say(f"history, turn {number + 1} of {sizes.history_turns}")
            for rows, (daemon, commands, connection) in parties.items():
                before = cpu_s(daemon.pid)
                run = connection.drive(commands.set(sizes.commands), sizes.in_flight, sizes.seconds)
                daemon.wait_drained()
                cpu_ms = (cpu_s(daemon.pid) - before) / len(run.latencies_s) * 1000
                found.append({"turn": number, "rows": rows, "rate": run.rate, "cpu_ms": cpu_ms})
    return found
