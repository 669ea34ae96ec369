"""The command line, for the daemon that the tests of a module share."""

import secrets
from pathlib import Path

import pytest

from tests.cli.command import Setpoint
from tests.daemon import Daemon


@pytest.fixture
def setpoint(shared_daemon: Daemon, tmp_path: Path) -> Setpoint:
    """Run `setpoint` for the module's daemon, in a home of the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    return Setpoint(shared_daemon, home)


@pytest.fixture
def alone(tmp_path: Path) -> Setpoint:
    """Run `setpoint` without a daemon, a token or a broker."""
    home = tmp_path / "home"
    home.mkdir()
    return Setpoint(None, home)


@pytest.fixture
def service() -> str:
    """Name a service that no other test uses."""
    return f"svc-{secrets.token_hex(4)}"
