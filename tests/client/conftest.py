"""Clients of the library, on the daemons that the tests have."""

import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from setpoint import Client
from tests.daemon import Daemon

ClientOf = Callable[..., Client]


@pytest.fixture(autouse=True)
def _nobodys_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see what the machine's user has set up, nor write to his home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    for name in [name for name in os.environ if name.startswith("SETPOINT_") and name != "SETPOINT_TEST_BROKER"]:
        monkeypatch.delenv(name)


@pytest.fixture
def client_of(tmp_path: Path) -> ClientOf:
    """Make clients of a daemon, as its admin unless another token is given; each test has a cache of its own."""

    def make(daemon: Daemon, token: Any = None, **more: Any) -> Client:
        return Client(
            f"mqtt://{daemon.host}:{more.pop('port', daemon.port)}",
            daemon.token_path if token is None else token,
            topic_prefix=daemon.prefix,
            **{"cache_dir": tmp_path / "cache"} | more,
        )

    return make


@pytest.fixture
async def client(shared_daemon: Daemon, client_of: ClientOf) -> AsyncIterator[Client]:
    """Call the module's shared daemon as its admin."""
    async with client_of(shared_daemon) as client:
        yield client


@pytest.fixture
def service() -> str:
    """Name a service that no other test uses."""
    return f"svc-{secrets.token_hex(4)}"
