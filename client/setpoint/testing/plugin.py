"""The pytest fixture ``setpoint_server``: say ``pytest_plugins = ["setpoint.testing.plugin"]`` in ``conftest.py``."""

from collections.abc import Iterator

import pytest

from setpoint.testing.server import Server, running_server


@pytest.fixture(scope="session")
def setpoint_server() -> Iterator[Server]:
    """Run a broker and a daemon for the tests of this run; use services of each test's own on them."""
    with running_server() as server:
        yield server
