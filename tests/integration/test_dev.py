"""`setpointd dev`: what it prints works, and nothing of it is left running, however it ends."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from setpoint_contracts import Token
from setpointd.operator.dev import command
from tests.brokers import answers_connect, free_port
from tests.waiting import DEADLINE_S
from tests.waiting import until as wait_until

REPOSITORY = Path(__file__).parents[2]
SETPOINTD = Path(sys.executable).with_name("setpointd")
ENV = {name: value for name, value in os.environ.items() if not name.startswith("SETPOINT_")}


class Dev:
    """A running `setpointd dev` in a directory of its own, with its output so far."""

    def __init__(self, directory: Path, port: int, http: int, *args: str, library: Path | None = None) -> None:
        self.directory = directory
        self.port = port
        self.http = http
        self._stdout = directory / "stdout"
        self._stderr = directory / "stderr"
        with self._stdout.open("w") as stdout, self._stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                [*_program(library), "dev", "--port", str(port), "--http", f"127.0.0.1:{http}", *args],
                cwd=directory,
                env=ENV if library is None else {**ENV, "PYTHONPATH": str(library)},
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # as a shell gives it a process group of its own, for Ctrl-C
            )

    @property
    def stdout(self) -> str:
        """What it printed."""
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        """What it logged."""
        return self._stderr.read_text()

    def wait_ready(self) -> "Dev":
        """Wait until it says that it is ready."""
        wait_until(lambda: "Setpoint is ready" in self.stdout or self.process.poll() is not None, "dev is ready")
        assert self.process.poll() is None, self.stderr
        return self

    @property
    def broker_pid(self) -> int:
        """The process id of its Mosquitto."""
        [pid] = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert b"mosquitto" in Path(f"/proc/{pid}/cmdline").read_bytes()
        return int(pid)

    def commands(self) -> tuple[str, str]:
        """Return the two commands that it prints to be pasted: with Python, and without."""
        python, shell = re.findall(r"^(?:mosquitto_rr .*|\($(?:\n .*)*\n\))$", self.stdout, re.MULTILINE)
        return python, shell

    def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        return self.process.wait(DEADLINE_S)


def _program(library: Path | None) -> list[str | Path]:
    """Return the installed command, or that of another copy of the packages."""
    return [SETPOINTD] if library is None else [sys.executable, "-m", "setpointd"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    """Start `setpointd dev`, by default in the test's directory and on free ports."""
    started: list[Dev] = []

    def run(
        *args: str,
        directory: Path = tmp_path,
        port: int | None = None,
        http: int | None = None,
        library: Path | None = None,
    ) -> Dev:
        started.append(Dev(directory, port or free_port(), http or free_port(), *args, library=library))
        return started[-1]

    yield run
    for dev in started:
        dev.process.kill()
        dev.process.wait()


def paste(command: str, shell: str, directory: Path) -> dict[str, Any]:
    """Run a command as it stands, in another place and with nothing but a PATH; returns the reply that it prints."""
    done = subprocess.run(
        [shell],
        input=command,
        cwd=directory,
        env={"PATH": ENV["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def gone(pid: int) -> bool:
    """Say whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def listening(port: int) -> list[str]:
    """Return the addresses on which something listens on a port."""
    # proc(5): hexadecimal address:port in host byte order, which for IPv4 is reversed here; state 0A is LISTEN.
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, _, state = line.split()[1:4]
            address, _, number = local.partition(":")
            if (int(number, 16), state) == (port, "0A"):
                found.append(socket.inet_ntoa(bytes.fromhex(address)[::-1]) if table == "tcp" else address)
    return found


def test_what_it_prints_works(start: Callable[..., Dev], tmp_path: Path) -> None:
    """Addresses, token and both commands are right, from any directory, in any shell, whatever the path looks like."""
    directory = tmp_path / "it's a TOKEN & a 'TOPIC'"
    directory.mkdir()
    dev = start(directory=directory).wait_ready()

    assert f"mqtt://127.0.0.1:{dev.port} " in dev.stdout
    token = directory / ".setpoint" / "admin.jwk"
    assert f"token   {token}\n" in dev.stdout
    with urllib.request.urlopen(f"http://127.0.0.1:{dev.http}/health", timeout=10) as response:
        assert json.load(response)["status"] == "pass"

    python, shell = dev.commands()
    assert "python" not in shell
    for interpreter in ("dash", "bash"):
        written = paste(python, interpreter, tmp_path)
        assert (written["command"], written["ok"], written["result"]["config"]) == ("set", True, {"volume": 7})
        told = paste(shell, interpreter, tmp_path)
        assert (told["command"], told["ok"], told["result"]["principal"]) == ("info", True, "admin")
    assert str(Token.load(token).k) not in dev.stdout + dev.stderr


def test_from_a_wheel(start: Callable[..., Dev], tmp_path: Path) -> None:
    """Away from the work tree a wheel has all that `setpointd dev` needs, the shell function of the page included."""
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--no-input", "wheel", *offline, "--wheel-dir", tmp_path, REPOSITORY],
        env=ENV,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("setpoint-*.whl")
    library = tmp_path / "library"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(library)
    where = subprocess.run(
        [sys.executable, "-c", "import setpointd; print(setpointd.__file__)"],
        env={**ENV, "PYTHONPATH": str(library)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert where.stdout == f"{library}/setpointd/__init__.py\n"
    assert not (library / "contracts").exists()
    dev = start(library=library).wait_ready()
    for printed in dev.commands():
        assert paste(printed, "sh", tmp_path)["ok"]


def test_broker_is_private(start: Callable[..., Dev]) -> None:
    """Broker and HTTP listen on loopback only."""
    dev = start().wait_ready()
    assert listening(dev.port) == listening(dev.http) == ["127.0.0.1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_clean_stop_and_second_start(start: Callable[..., Dev], number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with exit code 0 and nothing left; the next start goes on with the same store."""
    dev = start().wait_ready()
    first = paste(dev.commands()[0], "sh", dev.directory)
    broker = dev.broker_pid
    if number == signal.SIGINT:
        os.killpg(dev.process.pid, signal.SIGINT)  # as a terminal does
    else:
        dev.process.terminate()
    assert dev.ended() == 0
    assert gone(broker)
    assert "Traceback" not in dev.stderr

    again = start(port=dev.port, http=dev.http).wait_ready()
    assert again.commands() == dev.commands()
    second = paste(again.commands()[0], "sh", again.directory)
    assert (second["result"]["version"], second["result"]["changed"]) == (first["result"]["version"], False)
    assert second["epoch"] > first["epoch"]  # it goes by the clock, so by how long this took


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_broker_ends_with_a_daemon_that_is_killed(start: Callable[..., Dev], number: signal.Signals) -> None:
    """Whatever ends the daemon, its broker ends too, keeps what it has, and the next start works."""
    dev = start().wait_ready()
    broker = dev.broker_pid
    dev.process.send_signal(number)
    assert dev.ended() == -number
    wait_until(lambda: gone(broker), "the broker has ended")
    again = start(port=dev.port, http=dev.http).wait_ready()
    assert paste(again.commands()[1], "sh", again.directory)["ok"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_while_it_starts(start: Callable[..., Dev], number: signal.Signals) -> None:
    """A signal that comes as soon as the broker runs leaves nothing running and no traceback."""
    dev = start()
    wait_until(lambda: answers_connect("127.0.0.1", dev.port), "the broker answers")
    broker = dev.broker_pid
    dev.process.send_signal(number)
    assert dev.ended() == 0
    wait_until(lambda: gone(broker), "the broker has ended")
    assert "Traceback" not in dev.stderr


def test_daemon_ends_with_its_broker(start: Callable[..., Dev]) -> None:
    """A broker that dies takes the daemon with it, which says so."""
    dev = start().wait_ready()
    os.kill(dev.broker_pid, signal.SIGKILL)
    assert dev.ended() == 1
    assert dev.stderr.splitlines()[-1].startswith("setpointd: mosquitto has ended (exit code -9): see ")


@pytest.mark.parametrize("option", ["port", "http"])
def test_port_that_is_taken(start: Callable[..., Dev], option: str) -> None:
    """A port that something else has is one line with what to do, exit code 1, and nothing is made."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        dev = start(**{option: taken})
        assert dev.ended() == 1
    assert dev.stdout == ""
    assert re.fullmatch(rf"setpointd: port {taken} is taken: .* choose another with --{option}\n", dev.stderr)
    assert not (dev.directory / ".setpoint").exists()


def test_second_one_in_the_same_directory(start: Callable[..., Dev]) -> None:
    """On other ports, a second one is kept from the store of the first."""
    dev = start().wait_ready()
    (dev.directory / "second").mkdir()
    second = start("--data-dir", str(dev.directory / ".setpoint"), directory=dev.directory / "second")
    assert second.ended() == 1
    assert second.stderr == f"setpointd: another `setpointd dev` runs on {dev.directory}/.setpoint\n"
    assert paste(dev.commands()[1], "sh", dev.directory)["ok"]


def test_without_mosquitto(tmp_path: Path) -> None:
    """Where Mosquitto is not installed, one line says how to install it."""
    # The places where Debian keeps it are looked into beside PATH; only a child that knows of none can miss it.
    child = (
        "import sys\nfrom setpointd.operator import cli, mosquitto\nmosquitto.ADMIN_PATHS = ''\nsys.exit(cli.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", child, "dev"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("setpointd: mosquitto is not installed: `sudo apt install mosquitto")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--port", "2883", "--help"]])
def test_help_of_dev_up(tmp_path: Path, arguments: list[str]) -> None:
    """In a fresh clone `./dev up --help` installs nothing, and shows the options that `setpointd dev` has."""
    shutil.copy(REPOSITORY / "dev", tmp_path)
    done = subprocess.run(
        ["./dev", "up", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=5, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["dev"]
    told = re.findall(r"^  (?:-h, )?(--[a-z-]+) .*?(?:\[default: (.*)\])?$", done.stdout, re.MULTILINE)
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert told == [*((option.opts[0], str(option.default)) for option in options), ("--help", "")]
    assert all(str(option.help).rstrip(".") in done.stdout for option in options)


def test_tokens_of_a_running_daemon(start: Callable[..., Dev], tmp_path: Path) -> None:
    """A token made while the daemon runs works at once, in what dev prints too; revoked, it is refused as soon."""
    dev = start().wait_ready()
    store, token = tmp_path / ".setpoint", tmp_path / "second.jwk"

    def setpointd_token(*arguments: str | Path) -> None:
        line = [SETPOINTD, "token", *arguments, "--data-dir", store]
        assert subprocess.run(line, env=ENV, check=True, capture_output=True).stderr == b""

    setpointd_token("create", "second", "--role", "admin", "--out", token)
    mine = dev.commands()[1].replace(str(store / "admin.jwk"), str(token)).replace("/admin/", "/second/")
    assert paste(mine, "sh", tmp_path)["result"]["principal"] == "second"
    setpointd_token("revoke", Token.load(token).kid)
    assert paste(mine, "sh", tmp_path)["error"]["code"] == "token_revoked"
