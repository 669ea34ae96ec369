"""Passwords, topic rules and TLS, set up by the very lines of mosquitto/README.md."""

import asyncio
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
import pytest

from tests.brokers import MOSQUITTO_FILES, LocalBroker, free_port

ANSWER_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class GuardedBroker:
    """A broker that asks for passwords: `port` is plain, `tls_port` encrypted; `directory` holds passwords and CA."""

    directory: Path
    port: int
    tls_port: int

    def client(self, user: str | None, *, tls: bool = False) -> aiomqtt.Client:
        """Make an MQTT 5 client for one of the users, or for nobody."""
        return aiomqtt.Client(
            "localhost" if tls else "127.0.0.1",
            self.tls_port if tls else self.port,
            protocol=aiomqtt.ProtocolVersion.V5,
            username=user,
            password=(self.directory / f"{user}.password").read_text().strip() if user else None,
            tls_context=ssl.create_default_context(cafile=self.directory / "ca.crt") if tls else None,
        )


def readme_blocks(language: str) -> list[str]:
    """Return the code blocks of mosquitto/README.md in one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", (MOSQUITTO_FILES / "README.md").read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def guarded(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBroker]:
    """Do what the document says, with other ports and another directory than the system's."""
    directory = tmp_path_factory.mktemp("guarded")
    passwords, certificates, _daemon, _reader = readme_blocks("sh")
    subprocess.run(["sh", "-eu", "-c", passwords + certificates], cwd=directory, check=True, capture_output=True)
    shutil.copy(MOSQUITTO_FILES / "acl", directory)
    (listeners,) = readme_blocks("conf")
    plain, listeners = listeners.split("\n", 1)
    assert plain == "listener 1883 127.0.0.1"  # LocalBroker writes that line with its own port
    tls_port = free_port()
    listeners = listeners.replace("listener 8883", f"listener {tls_port} 127.0.0.1")
    broker = LocalBroker(directory, certificate, listeners.replace("/etc/mosquitto/setpoint", str(directory)))
    broker.start()
    yield GuardedBroker(directory, broker.port, tls_port)
    broker.remove()


async def test_nobody_gets_in_without_a_password(guarded: GuardedBroker) -> None:
    """An anonymous connection is refused."""
    with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
        await guarded.client(None).__aenter__()


@pytest.mark.parametrize(
    "topic", ["config/updated/stt", "config/schema/stt", "config/reply/admin/1", "config/epoch", "system/health/x"]
)
async def test_a_principal_cannot_speak_as_the_daemon(guarded: GuardedBroker, topic: str) -> None:
    """What only the daemon publishes is not taken from anybody else, over TLS either."""
    async with guarded.client("admin", tls=True) as admin, guarded.client("config-manager") as daemon:
        await daemon.subscribe(topic, qos=1)
        await admin.publish(topic, b"forged", qos=1)
        await daemon.publish(topic, b"genuine", qos=1)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            assert (await anext(daemon.messages)).payload == b"genuine"


async def test_a_principal_sends_commands(guarded: GuardedBroker) -> None:
    """A command of any name reaches the daemon."""
    async with guarded.client("admin", tls=True) as admin, guarded.client("config-manager", tls=True) as daemon:
        await daemon.subscribe("config/cmd/#", qos=1)
        await admin.publish("config/cmd/profile/save", b"signed", qos=1)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            assert (await anext(daemon.messages)).payload == b"signed"


async def test_a_principal_reads_its_own_replies_only(guarded: GuardedBroker) -> None:
    """Of the replies, those below the user's own name arrive, and the configuration does."""
    async with guarded.client("admin", tls=True) as admin, guarded.client("config-manager") as daemon:
        await admin.subscribe("config/#", qos=1)
        for topic in ("config/reply/other/1", "config/reply/admin/1", "config/updated/stt"):
            await daemon.publish(topic, b"{}", qos=1)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            topics = [str((await anext(admin.messages)).topic) for _ in range(2)]
    assert topics == ["config/reply/admin/1", "config/updated/stt"]


def test_the_daemon_works_under_the_topic_rules(guarded: GuardedBroker, tmp_path: Path) -> None:
    """The daemon, started as the document says, comes up over TLS, and a reader sees its claim with the line there."""
    *_, daemon_line, reader_line = readme_blocks("sh")
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    data_dir = tmp_path / "data"
    subprocess.run(["setpointd", "init", "--data-dir", data_dir], env=path, check=True, capture_output=True)
    port = str(guarded.tls_port)
    daemon_line = daemon_line.replace("8883", port).replace("DIR", shlex.quote(str(data_dir)))
    reader_line = reader_line.replace("8883", port).replace("config/updated/#", "config/epoch").strip() + " -C 1 -W 20"
    with subprocess.Popen(
        ["sh", "-c", daemon_line.replace("setpointd run", "exec setpointd run --http 127.0.0.1:0")],
        cwd=guarded.directory,
        env=path,
        stderr=subprocess.PIPE,
    ) as daemon:
        reader = subprocess.run(
            ["sh", "-c", reader_line], cwd=guarded.directory, env=path, check=False, capture_output=True
        )
        daemon.terminate()
        _, log = daemon.communicate(timeout=ANSWER_TIMEOUT_S)
    assert reader.stdout.startswith(b'config/epoch {"store_id"'), (reader.stderr, log)
    assert daemon.returncode == 0, log
