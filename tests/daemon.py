"""The installed `setpointd run` as a process under the test's control."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from setpoint_contracts import Token, Topics
from setpointd.operator import tokens
from tests.brokers import Broker, free_port
from tests.waiting import DEADLINE_S, until

TLS = os.environ.get("SETPOINT_TEST_TLS") == "1"
"""Whether the daemons of the tests talk to their broker over TLS; their callers need not."""

SETPOINTD = Path(sys.executable).parent / "setpointd"


class Daemon:
    """`setpointd run` on a broker and a data directory. Below `prefix`, or on the wire's plain topics when it is empty.

    `stop`, `kill` and `start` may follow each other; broker, topics, HTTP address and data directory stay. Further
    settings are given by name, e.g. `max_clock_skew_s=5`. All runs log to the same file.
    """

    def __init__(self, broker: Broker, data_dir: Path, prefix: str = "", **settings: object) -> None:
        self.host = broker.host
        self.port = broker.port
        self.data_dir = data_dir
        self.prefix = prefix
        self.topics = Topics(prefix)
        self.token_path = data_dir / "admin.jwk"
        self.http = f"127.0.0.1:{free_port()}"
        self.client_id = f"daemon-{prefix.strip('/')}" if prefix else "setpoint-config-manager"
        self.settings = {
            "data_dir": data_dir,
            **broker_settings(broker),
            "http": self.http,
            "topic_prefix": prefix,
            "client_id": self.client_id,
            "log_format": "json",
            **settings,
        }
        self.may_log: set[str] = set()
        """Failures that the test brings about, by their event."""
        self._log = data_dir.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def token(self) -> Token:
        """The admin token of its store."""
        return Token.load(self.token_path)

    @property
    def pid(self) -> int:
        """The process id of the newest run."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> list[str]:
        """The lines logged so far, by all runs."""
        return self._log.read_text("utf-8").splitlines() if self._log.exists() else []

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log events of one name, as far as they are logged."""
        lines = (json.loads(line) for line in self.log if line.startswith("{"))
        return [event for event in lines if event["event"] == name]

    def start(self) -> None:
        """Start it, and do not wait."""
        options = [text for name, value in self.settings.items() for text in _option(name, value)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([SETPOINTD, "run", *options], env=_environment(), stderr=log)

    def wait_ready(self) -> None:
        """Wait until `/readyz` says so."""
        until(lambda: self._lives() and self.ready(), "the daemon is ready")

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Send SIGKILL, as a power cut comes: nothing is finished, nothing is said."""
        assert self._process is not None
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        assert self._process is not None
        return self._process.wait(DEADLINE_S)

    def remove(self) -> None:
        """End it in any case, and look at what it logged: no run may ever log a traceback or an inner failure."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self.wait()
        suspects = (line for line in self.log if "Traceback" in line or '"where"' in line)
        failures = [line for line in suspects if not any(event in line for event in self.may_log)]
        assert not failures, "\n".join(failures)

    def probe(self, path: str) -> tuple[int, str]:
        """Ask its HTTP shim: status and body; status 0 when nobody answers."""
        connection = HTTPConnection(self.http, timeout=DEADLINE_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, HTTPException):
            return 0, ""
        finally:
            connection.close()

    def ready(self) -> bool:
        """Say whether `/readyz` answers 200."""
        return self.probe("/readyz")[0] == 200

    def metric(self, series: str) -> float:
        """Read one series of `/metrics`, e.g. `setpoint_commands_total{code="ok",command="set"}`; 0 if not there."""
        for line in self.probe("/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return 0.0

    def command(self, *arguments: str | Path) -> str:
        """Run `setpointd` with `--data-dir` of this daemon and return what it prints."""
        done = subprocess.run(
            [SETPOINTD, *arguments, "--data-dir", self.data_dir],
            env=_environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        return done.stdout.strip()

    def new_token(self, name: str, role: str, *options: str) -> Token:
        """Make a token as `setpointd token create` does; a running daemon goes by it then."""
        file = self.data_dir.with_name(f"{name}-{secrets.token_hex(4)}.jwk")
        self._token("create", name, "--role", role, *options, "--out", str(file))
        return Token.load(file)

    def revoke(self, token: Token) -> None:
        """Revoke a token as `setpointd token revoke` does; a running daemon goes by it then."""
        self._token("revoke", token.kid)

    def _token(self, *arguments: str) -> None:
        # In this process: another one would be busy for half a second with imports before it began.
        tokens.command.main([*arguments, "--data-dir", str(self.data_dir)], standalone_mode=False)

    def _lives(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        assert code is None, f"the daemon ended with {code}:\n" + "\n".join(self.log[-20:])
        return True


class Daemons:
    """Makes daemons, by default on `broker` and with a copy of `fresh_store` below `directory`; ends them all."""

    def __init__(self, broker: Broker, fresh_store: Path, directory: Path) -> None:
        self._broker = broker
        self._fresh_store = fresh_store
        self._directory = directory
        self._made: list[Daemon] = []

    def new(
        self,
        *,
        broker: Broker | None = None,
        prefix: str | None = None,
        data_dir: Path | None = None,
        start: bool = True,
        **settings: object,
    ) -> Daemon:
        """Make a daemon, and start it unless told; the prefix is one of its own unless given."""
        if data_dir is None:
            data_dir = self._directory / f"data{len(self._made)}"
            shutil.copytree(self._fresh_store, data_dir)
        prefix = f"t{secrets.token_hex(4)}/" if prefix is None else prefix
        self._made.append(Daemon(broker or self._broker, data_dir, prefix, **settings))
        if start:
            self._made[-1].start()
            self._made[-1].wait_ready()
        return self._made[-1]

    def remove(self) -> None:
        """End all that were made."""
        for daemon in self._made:
            daemon.remove()


NewDaemon = Callable[..., Daemon]
"""``Daemons.new``, as the fixture ``new_daemon`` gives it."""


def restart(broker: Broker, daemon: Daemon) -> None:
    """Stop the broker, kill the daemon, start both again, and wait until they are ready."""
    broker.stop()
    daemon.kill()
    broker.start()
    daemon.start()
    daemon.wait_ready()


def broker_settings(broker: Broker) -> dict[str, Any]:
    """Return the settings with which a daemon finds its broker."""
    if TLS:
        return {"broker": f"mqtts://{broker.host}:{broker.tls_port}", "broker_ca": broker.ca}
    return {"broker": f"mqtt://{broker.host}:{broker.port}"}


def make_data_dir(path: Path) -> None:
    """Make a store with the installed `setpointd init`."""
    subprocess.run(
        [SETPOINTD, "init", "--data-dir", path], env=_environment(), check=True, capture_output=True, timeout=DEADLINE_S
    )


def _option(name: str, value: object) -> list[str]:
    option = "--" + name.replace("_", "-")
    return [option] if value is True else [option, str(value)]


def _environment() -> dict[str, str]:
    # Nothing of the caller's settings (SETPOINT_…) may reach it.
    return {"PATH": os.environ["PATH"]}
