"""What the library has for the tests of a service."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from setpoint import ConfigurationError, Forbidden
from setpoint.testing import Server, running_server
from setpoint.testing.memory import MemoryClient
from tests.brokers import answers_connect
from tests.waiting import soon

OF_A_SERVICE = """
import pytest
from setpoint import VersionConflict


async def write(client):
    async with client:
        return (await client.set("stt", {"model": "base"})).version


def test_with_asyncio(setpoint_server):
    import asyncio
    assert asyncio.run(write(setpoint_server.client())) == 1


def test_without(setpoint_server):
    with setpoint_server.sync_client() as client:
        assert client.get("stt").config == {"model": "base"}
        with pytest.raises(VersionConflict):
            client.set("stt", {}, expected_version=7)
"""


def run_pytest(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a service as its author would."""
    (directory / "conftest.py").write_text('pytest_plugins = ["setpoint.testing.plugin"]\n')
    (directory / "test_service.py").write_text(OF_A_SERVICE)
    command = [sys.executable, *["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir"]]
    return subprocess.run(
        [*command, directory, directory],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_a_fixture_gives_a_broker_and_a_daemon(tmp_path: Path) -> None:
    """The tests of a service get both with one line in `conftest.py`, whatever the environment says of others."""
    done = run_pytest(tmp_path, SETPOINT_BROKER_URL="mqtt://127.0.0.1:9", SETPOINT_BROKER="mqtt://127.0.0.1:9")

    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_server_makes_tokens_and_ends() -> None:
    """A token of fewer rights is made in a line; afterwards nothing is left, neither process nor files."""
    with running_server() as server:
        assert isinstance(server, Server)
        token = server.new_token("looker", "viewer", services=["stt*"])
        with server.sync_client(token) as looker, pytest.raises(Forbidden):
            looker.set("stt", {})
        directory, broker = server.directory, urlsplit(server.url)

    assert not directory.exists()
    assert not answers_connect(str(broker.hostname), broker.port or 0)


def test_a_machine_without_the_daemon_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where `setpointd` is missing, or Mosquitto is, the error says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ConfigurationError, match=r"setpoint\[daemon\]"), running_server():
        pass


async def test_a_watch_of_a_client_in_memory_ends_with_it() -> None:
    """A watch that is read first after its client was closed ends at once."""
    async with MemoryClient({"stt": {}}) as client:
        watch = client.watch("*")
    assert await soon(anext(watch, None)) is None
