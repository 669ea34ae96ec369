"""What a flood of messages that nobody known has signed costs the others: ``.venv/bin/python bench/flood.py``.

A program of its own publishes them at QoS 0, while one caller sends ``get`` after ``get``. Printed as Markdown: how
many of them the daemon drops in a second, and how long a ``get`` takes meanwhile; faster and faster, until one is lost.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from load import Connection, LoadError, packet_of_qos_0
from run import SETPOINTD, Daemon, free_port, running_daemon
from workload import SERVICES, Commands

from setpoint_contracts import Role, Token, sign_command
from setpointd.operator import mosquitto

GETS, WARM_UP = 400, 50
RATES = (0, 1000, 2000, 4000, 8000, 16_000)
"""Messages a second."""
_DROPPED = b"setpoint_messages_dropped_total{"


def forgeries(token: Token, pair: Token) -> dict[str, str]:
    """Make a message of each kind: the further it gets, the more it costs."""
    stranger = Token.new("HS256", "tok_stranger", "x", Role.ADMIN)
    forger = Token.new("HS256", token.kid, "x", Role.ADMIN)
    other = Token.new("Ed25519", pair.kid, "x", Role.ADMIN)
    params = {"service": "bench-000"}
    return {
        "no JWS": "garbage",
        "unknown `kid`": sign_command(stranger, "get", params),
        "bad HS256 signature": sign_command(forger, "get", params),
        "bad Ed25519 signature": sign_command(other, "get", params),
    }


def send(port: int, rate: int, payload: str) -> None:
    """Be the sender, until the process is ended."""
    packet = packet_of_qos_0("config/cmd/get", payload)
    with Connection(port, ["nothing"], "setpoint-flood") as connection:
        started, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - started) * rate)
            connection.send(packet * (due - sent))
            sent = due
            time.sleep(0.002)


@contextlib.contextmanager
def flood(port: int, rate: int, payload: str) -> Iterator[None]:
    """Have another process send."""
    if rate == 0:
        yield
        return
    with subprocess.Popen([sys.executable, __file__, str(port), str(rate), payload]) as process:
        try:
            time.sleep(1)  # until it is under way
            yield
        finally:
            process.terminate()


def measure(port: int, daemon: Daemon, commands: Commands, rate: int, payload: str) -> str:
    """Give one row of figures. Raises ``LoadError`` when a ``get`` is lost."""
    gets = commands.get(WARM_UP + GETS)
    with flood(port, rate, payload), Connection(port, commands.filters) as connection:
        before, began = daemon.counted(_DROPPED), time.monotonic()
        run = connection.drive(gets, 1)
        dropped = (daemon.counted(_DROPPED) - before) / (time.monotonic() - began)
    return f"{rate} | {dropped:.0f} | {run.percentile_ms(50, WARM_UP):.2f} | {run.percentile_ms(99, WARM_UP):.2f}"


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="setpoint-flood-", dir="/var/tmp") as name:
        directory, port = Path(name), free_port()
        data_dir, file = directory / "store", directory / "pair.jwk"
        pair = Token.new("Ed25519", "tok_pair", "pair", Role.ADMIN)
        file.touch(mode=0o600)
        file.write_bytes(pair.dump())
        for command in (["init"], ["token", "import", str(file)]):
            subprocess.run([SETPOINTD, *command, "--data-dir", data_dir], stdout=subprocess.DEVNULL, check=True)
        token = Token.load(data_dir / "admin.jwk")
        commands = Commands(token)
        print("| messages | sent a second | dropped a second | `get` p50, ms | p99, ms |")
        print("| --- | ---: | ---: | ---: | ---: |")
        with mosquitto.running(mosquitto.find(), directory / "broker", port):
            for kind, payload in forgeries(token, pair).items():
                for rate in RATES:
                    with running_daemon(data_dir, port, directory / "log") as (daemon, _):
                        with Connection(port, commands.filters) as connection:
                            connection.drive(commands.set(SERVICES), 10)
                        try:
                            print(f"| {kind} | {measure(port, daemon, commands, rate, payload)} |", flush=True)
                        except LoadError as error:
                            print(f"| {kind} | {rate} | {error} | | |", flush=True)
                            break


if __name__ == "__main__":
    if sys.argv[1:]:
        send(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    else:
        main()
