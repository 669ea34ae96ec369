"""The command line, for the daemon that the tests of a module share."""

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Setpoint
from tests.daemon import Daemon


@pytest.fixture(autouse=True)
def _library_logs_as_before() -> Iterator[None]:
    """Undo what the command line, a process of its own else, does to the library's log."""
    logger = logging.getLogger("setpoint")
    before, handlers = logger.level, [*logger.handlers]
    yield
    logger.setLevel(before)
    logger.handlers[:] = handlers


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
