"""Echoes and commands in turns, in the same run and on the same broker, so that what else the machine does hits all.

Each kind is measured alone, one after the other, and with many in flight. The daemon's CPU is counted until its outbox
is empty, so a write pays for its update and its audit event too.
"""

import time
from collections.abc import Sequence

from bed import Bed, say
from echo import KINDS as ECHOES
from figures import Results, cpu_s
from load import Connection
from processes import Daemon, running_daemon, running_echoes
from stores import with_services
from workload import CONFIG_BYTES, Commands

COMMANDS = ("get", "set", "patch", "mixed")


def measure(bed: Bed, daemon: Daemon, commands: Commands) -> list[Results]:
    """Go round so many times, on a daemon that runs."""
    turns = []
    with running_echoes(bed.port) as echoes, Connection(bed.port, commands.filters) as connection:
        for number in range(bed.sizes.turns):
            say(f"turn {number + 1} of {bed.sizes.turns}")
            turns.append(turn(bed, daemon, commands, connection, echoes, (*ECHOES, *COMMANDS)))
    return turns


def measure_other_services(bed: Bed) -> list[Results]:
    """Go round once with each of the other numbers of services."""
    turns = []
    with running_echoes(bed.port) as echoes:
        for services in bed.sizes.other_services:
            say(f"a turn with {services:,} services")
            prefix, data_dir = f"services-{services}/", bed.directory / f"services-{services}"
            commands = Commands(with_services(data_dir, services, CONFIG_BYTES), prefix, services)
            with (
                running_daemon(data_dir, bed.port, bed.log, prefix=prefix) as (daemon, _),
                Connection(bed.port, commands.filters) as connection,
            ):
                daemon.wait_drained()
                found = turn(bed, daemon, commands, connection, echoes, ("echo", *COMMANDS))
                turns.append({**found, "services": services})
    return turns


def turn(
    bed: Bed,
    daemon: Daemon,
    commands: Commands,
    connection: Connection,
    echoes: dict[str, int],
    kinds: Sequence[str],
) -> Results:
    """Measure each kind once."""
    found: Results = {"services": bed.sizes.services}
    for kind in kinds:
        answers = echoes.get(kind, daemon.pid)
        found[kind] = {
            **_alone(bed, daemon, commands, connection, kind),
            **_in_flight(bed, daemon, commands, connection, kind, answers),
        }
    return found


def _alone(bed: Bed, daemon: Daemon, commands: Commands, connection: Connection, kind: str) -> Results:
    sizes = bed.sizes
    connection.drive(commands.make(kind, sizes.warm_up), 1)
    run = connection.drive(commands.make(kind, sizes.alone), 1, sizes.alone_s)
    daemon.wait_drained()
    return {"p50_ms": run.percentile_ms(50), "p99_ms": run.percentile_ms(99), "alone": len(run.latencies_s)}


def _in_flight(
    bed: Bed, daemon: Daemon, commands: Commands, connection: Connection, kind: str, answers: int
) -> Results:
    sizes, packets = bed.sizes, commands.make(kind, bed.sizes.commands)
    before, broker_before = cpu_s(answers), cpu_s(bed.broker_pid)
    run = connection.drive(packets, sizes.in_flight, sizes.seconds)
    answered = time.perf_counter()
    daemon.wait_drained()
    count = len(run.latencies_s)
    return {
        "rate": run.rate,
        "commands": count,
        "loaded_p50_ms": run.percentile_ms(50),
        "loaded_p99_ms": run.percentile_ms(99),
        "drain_s": time.perf_counter() - answered,
        "cpu_ms": (cpu_s(answers) - before) / count * 1000,
        "broker_cpu_ms": (cpu_s(bed.broker_pid) - broker_before) / count * 1000,
        "client_cpu_ms": run.client_cpu_s / count * 1000,
        "client_cpu": run.client_cpu_s / run.elapsed_s,
    }
