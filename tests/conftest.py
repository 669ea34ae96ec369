"""Real brokers and running daemons as fixtures, and topics of each test's own on them."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.brokers import (
    IMAGE,
    Broker,
    BrokerError,
    ContainerBroker,
    LocalBroker,
    choose_kind,
    make_certificate,
    mosquitto_binary,
)
from tests.daemon import TLS, Daemon, Daemons, NewDaemon, make_data_dir

# A slow machine is no failure.
settings.register_profile("setpoint", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("setpoint")

WANTED_BROKER = os.environ.get("SETPOINT_TEST_BROKER", "auto")


def pytest_report_header() -> str:
    """Name the broker that this run uses."""
    try:
        kind = choose_kind(WANTED_BROKER)
    except BrokerError as error:
        return f"broker: none ({error})"
    broker = f"{IMAGE} in a container" if kind == "docker" else f"{mosquitto_binary()} of this machine"
    return f"broker: {broker}" + (", daemons over TLS" if TLS else "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a broker, be it a peer's play of one; not such as bring one of a fixed kind."""
    of_the_link = Path(__file__).parent / "broker"
    for item in items:
        fixtures = item.fixturenames if isinstance(item, pytest.Function) else []
        if "new_broker" in fixtures or item.path.is_relative_to(of_the_link):
            item.add_marker("broker")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the brokers' certificate for 127.0.0.1, its own authority."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def new_broker(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Broker]]:
    """Start brokers of the kind that SETPOINT_TEST_BROKER names: docker, local or auto."""
    kind = choose_kind(WANTED_BROKER)
    made: list[Broker] = []

    def start() -> Broker:
        if kind == "docker":
            made.append(ContainerBroker(certificate))
        else:
            made.append(LocalBroker(tmp_path_factory.mktemp("broker"), certificate))
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


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one data directory with `setpointd init`; daemons get copies of it, because that command takes a second."""
    path = tmp_path_factory.mktemp("init") / "data"
    make_data_dir(path)
    return path


@pytest.fixture
def new_daemon(broker: Broker, fresh_store: Path, tmp_path: Path) -> Iterator[NewDaemon]:
    """Start daemons of the test's own: on the shared broker below a prefix of their own, unless told otherwise."""
    daemons = Daemons(broker, fresh_store, tmp_path)
    yield daemons.new
    daemons.remove()


@pytest.fixture
def daemon(own_broker: Broker, new_daemon: NewDaemon) -> Daemon:
    """Start one with an empty store, a broker of its own and the plain topics, as documents and newcomers have it."""
    return new_daemon(broker=own_broker, prefix="")


@pytest.fixture(scope="module")
def shared_daemon(broker: Broker, fresh_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Share one daemon among the tests of a module. Use services of the test's own on it, and never stop it."""
    daemons = Daemons(broker, fresh_store, tmp_path_factory.mktemp("shared"))
    yield daemons.new()
    daemons.remove()
