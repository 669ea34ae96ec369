"""Real brokers as fixtures, and topics of each test's own on them."""

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.brokers import IMAGE, Broker, BrokerError, ContainerBroker, LocalBroker, choose_kind, mosquitto_binary

WANTED_BROKER = os.environ.get("SETPOINT_TEST_BROKER", "auto")


def pytest_report_header() -> str:
    """Name the broker that this run uses."""
    try:
        kind = choose_kind(WANTED_BROKER)
    except BrokerError as error:
        return f"broker: none ({error})"
    return f"broker: {IMAGE} in a container" if kind == "docker" else f"broker: {mosquitto_binary()} of this machine"


@pytest.fixture(scope="session")
def new_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Broker]]:
    """Start brokers of the kind that SETPOINT_TEST_BROKER names: docker, local or auto."""
    kind = choose_kind(WANTED_BROKER)
    made: list[Broker] = []

    def start() -> Broker:
        made.append(ContainerBroker() if kind == "docker" else LocalBroker(tmp_path_factory.mktemp("broker")))
        made[-1].start()
        return made[-1]

    yield start
    for broker in made:
        broker.remove()


@pytest.fixture(scope="session")
def broker(new_broker: Callable[[], Broker]) -> Broker:
    """Share one broker among all tests. Use `topic_prefix` on it, and never stop it."""
    return new_broker()


@pytest.fixture
def own_broker(new_broker: Callable[[], Broker]) -> Iterator[Broker]:
    """Give the test a broker that it may stop, kill and start again."""
    own = new_broker()
    yield own
    own.stop()


@pytest.fixture
def topic_prefix() -> str:
    """Make a topic prefix such as `t3fa9c2d1/`, so that tests on the shared broker do not see each other."""
    return f"t{secrets.token_hex(4)}/"
