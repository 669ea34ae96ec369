"""Real brokers for the tests: an `eclipse-mosquitto:2` container, or the `mosquitto` of this machine.

Rules that hold for both kinds:
- they load the project's own files from mosquitto/ and listen on 127.0.0.1 only;
- they listen twice, plain on `port` and with TLS on `tls_port`, both on 127.0.0.1;
- the ports are chosen once, so clients find a restarted broker where it was (an engine's random ports change);
- `stop` ends the broker cleanly, so it saves sessions and retained messages; `kill` takes it away as a power cut does;
  `pause` lets it stand still, and `resume` go on;
- `configure` adds lines to their configuration, which count from the next start;
- `start` returns when the broker answers CONNECT. An open port is not enough: the engine's proxy listens before it.
"""

import io
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import get_docker_host
from typing_extensions import override

MOSQUITTO_FILES = Path(__file__).parents[1] / "mosquitto"
IMAGE = "eclipse-mosquitto:2"
CERTIFICATE, KEY = "broker.crt", "broker.key"
START_TIMEOUT_S = 20.0

# MQTT 3.1.1 CONNECT: clean session, keep-alive 60 s, empty client id (OASIS MQTT 3.1.1, section 3.1).
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
_CONNACK = b"\x20\x02"

# Below the range that outgoing connections take their ports from: inside it, a client that keeps trying to reach a
# stopped broker would sooner or later be given the broker's port as its own, and connect to itself.
# Where tests run side by side each worker takes every n-th: what its own stopped broker comes back to, no other takes.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_candidates = range(20_000 + _worker, 30_000, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
_ports = iter(secrets.SystemRandom().sample(_candidates, len(_candidates)))


class BrokerError(Exception):
    """No broker can be started here; the message says why or what to install."""


class Broker(ABC):
    """A broker under the test's control. `host` is 127.0.0.1; the ports stay the same over `stop` and `start`.

    `ca` is the certificate to trust at `tls_port`.
    """

    def __init__(self, certificate: Path) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self.tls_port = free_port()
        self.ca = certificate

    @abstractmethod
    def start(self) -> None:
        """Start and wait until CONNECT is answered. Raises `BrokerError` with the broker's log when it is not."""

    @abstractmethod
    def stop(self) -> None:
        """End cleanly: sessions and retained messages are there after the next `start`. No effect when stopped."""

    @abstractmethod
    def kill(self) -> None:
        """End at once, saving nothing: what the last autosave did not hold is gone. No effect when stopped."""

    @abstractmethod
    def pause(self) -> None:
        """Let it stand still: its connections stay open, and nothing is read or answered until `resume`."""

    @abstractmethod
    def resume(self) -> None:
        """Let it go on after `pause`."""

    @abstractmethod
    def configure(self, lines: str = "", per_listener: str = "") -> None:
        """Add lines to the configuration, and to each listener of it; they replace those added before."""

    @abstractmethod
    def remove(self) -> None:
        """End, and leave nothing behind. The broker cannot be started again."""

    @abstractmethod
    def _running(self) -> bool:
        """Say whether the broker's process lives."""

    @abstractmethod
    def log(self) -> str:
        """Return what the broker wrote to its log so far."""

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        pause = threading.Event()
        while not answers_connect(self.host, self.port):
            if time.monotonic() > deadline or not self._running():
                raise BrokerError(f"the broker on port {self.port} does not answer CONNECT; its log:\n{self.log()}")
            pause.wait(0.02)


class LocalBroker(Broker):
    """The `mosquitto` of this machine, in `directory`, with mosquitto/mosquitto.conf and the lines in `access`."""

    def __init__(self, directory: Path, certificate: Path, access: str = "allow_anonymous true") -> None:
        super().__init__(certificate)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "mosquitto.log"
        self._conf = directory / "mosquitto.conf"
        self._tls = _tls_listener(f"{self.tls_port} {self.host}", certificate.parent)
        # `user root`: started by root, Mosquitto would else become a user who cannot write here. Others: no effect.
        self._plain = f"listener {self.port} {self.host}\n{access}\npersistence_location {directory}/\nuser root\n"
        self.configure()

    @property
    def pid(self) -> int:
        """The process id of a broker that runs."""
        assert self._process is not None
        return self._process.pid

    @override
    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([mosquitto_binary(), "-c", self._conf], stdout=log, stderr=log)
        self._wait_ready()

    @override
    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    @override
    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    @override
    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    @override
    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @override
    def configure(self, lines: str = "", per_listener: str = "") -> None:
        listeners = [self._tls, per_listener, self._plain, per_listener]
        self._conf.write_text("\n".join([(MOSQUITTO_FILES / "mosquitto.conf").read_text(), lines, *listeners, ""]))

    @override
    def remove(self) -> None:
        self.kill()

    @override
    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @override
    def log(self) -> str:
        return self._log.read_text()


class ContainerBroker(Broker):
    """An `eclipse-mosquitto:2` container with the files that compose.yaml gives it."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(certificate)
        self._container = DockerContainer(IMAGE)
        self._container.ports["1883/tcp"] = (self.host, self.port)  # type: ignore[assignment] # docker-py's own form
        self._container.ports["8883/tcp"] = (self.host, self.tls_port)  # type: ignore[assignment] # the same
        tls = _tls_listener("8883", Path("/mosquitto/config"))
        self._container.with_copy_into_container(tls.encode(), "/mosquitto/config/conf.d/tls.conf")
        for path in (certificate, certificate.parent / KEY):
            self._container.with_copy_into_container(path, f"/mosquitto/config/{path.name}")
        for file, target in (("container.conf", "mosquitto.conf"), ("mosquitto.conf", "conf.d/mosquitto.conf")):
            self._container.with_copy_into_container(MOSQUITTO_FILES / file, f"/mosquitto/config/{target}")
        self._created = False

    @override
    def start(self) -> None:
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
        self._wait_ready()

    @override
    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=int(START_TIMEOUT_S))

    @override
    def kill(self) -> None:
        if self._running():
            self._container.get_wrapped_container().kill()
            self._container.get_wrapped_container().wait(timeout=START_TIMEOUT_S)

    @override
    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    @override
    def resume(self) -> None:
        self._container.get_wrapped_container().unpause()

    @override
    def configure(self, lines: str = "", per_listener: str = "") -> None:
        plain = "\n".join([(MOSQUITTO_FILES / "container.conf").read_text(), per_listener, lines, ""])
        tls = "\n".join([_tls_listener("8883", Path("/mosquitto/config")), per_listener, ""])
        files = {"mosquitto.conf": plain, "conf.d/tls.conf": tls}
        self._container.get_wrapped_container().put_archive("/mosquitto/config", _archive(files))

    @override
    def remove(self) -> None:
        self._container.stop()

    @override
    def _running(self) -> bool:
        container = self._container.get_wrapped_container()
        container.reload()
        return str(container.status) == "running"

    @override
    def log(self) -> str:
        return str(self._container.get_wrapped_container().logs().decode())


def make_certificate(directory: Path) -> Path:
    """Make a certificate for 127.0.0.1 that is its own authority, beside its key, and return its path."""
    certificate = directory / CERTIFICATE
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    names = f"-addext subjectAltName=IP:127.0.0.1 -keyout {KEY} -out {CERTIFICATE}"
    subprocess.run([*command.split(), *names.split()], cwd=directory, check=True, capture_output=True)
    (directory / KEY).chmod(0o644)  # the broker in a container is another user
    return certificate


def _tls_listener(address: str, directory: Path) -> str:
    return f"listener {address}\ncertfile {directory}/{CERTIFICATE}\nkeyfile {directory}/{KEY}\n"


def _archive(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def choose_kind(wanted: str) -> Literal["docker", "local"]:
    """Turn docker, local or auto (docker if an engine answers) into the kind to use, or raise `BrokerError`."""
    if wanted not in {"docker", "local", "auto"}:
        raise BrokerError(f"SETPOINT_TEST_BROKER is {wanted!r}: use docker, local or auto")
    if wanted in {"docker", "auto"} and engine_answers():
        return "docker"
    if wanted == "docker":
        raise BrokerError("SETPOINT_TEST_BROKER=docker, but no Docker engine answers: start one, or set DOCKER_HOST")
    mosquitto_binary()
    return "local"


def engine_answers() -> bool:
    """Say whether a Docker engine of this machine answers: on another one, a port on 127.0.0.1 is out of reach."""
    url = get_docker_host() or "unix:///var/run/docker.sock"
    if not url.startswith("unix://"):
        return False
    try:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.settimeout(5)
            engine.connect(url.removeprefix("unix://"))
            engine.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in engine.recv(64)
    except OSError:
        return False


def mosquitto_binary() -> str:
    """Return the path of `mosquitto`. Raises `BrokerError` that says what to install."""
    found = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise BrokerError(
            "the tests need a broker: start a Docker engine, or install mosquitto (Debian: apt install mosquitto)"
        )
    return found


def free_port() -> int:
    """Return a port that nothing on 127.0.0.1 listens on, another one each time."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BrokerError("no free port is left between 20000 and 29999")


def answers_connect(host: str, port: int) -> bool:
    """Say whether an MQTT server there answers CONNECT, be it with a refusal."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(_CONNECT)
            return connection.recv(4).startswith(_CONNACK)
    except OSError:
        return False
