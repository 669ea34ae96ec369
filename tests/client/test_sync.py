"""The client without asyncio."""

import threading
from pathlib import Path

import pytest
from pydantic import BaseModel

from setpoint import ConfigurationError, NotFound, Unreachable, VersionConflict
from setpoint.client import Client as AsyncClient
from setpoint.commands import Commands
from setpoint.sync import Client
from setpoint.sync_commands import SyncCommands
from tests.daemon import Daemon


def client_of(daemon: Daemon) -> Client:
    """Make a client as the admin of a daemon."""
    return Client(f"mqtt://{daemon.host}:{daemon.port}", daemon.token_path, topic_prefix=daemon.prefix)


def test_calls_wait_for_their_answers(shared_daemon: Daemon, service: str) -> None:
    """Commands, refusals and updates work as they do with asyncio, in a program that has none."""
    with client_of(shared_daemon) as client:
        first = client.set(service, {"n": 1})
        with pytest.raises(VersionConflict) as conflict:
            client.patch(service, {"n": 5}, expected_version=first.version + 1)
        client.update(service, lambda config: {"n": config["n"] + 1})
        with pytest.raises(NotFound):
            client.get("nothing-there")

        assert client.get(service).config == {"n": 2}
        assert service in [listed.service for listed in client.services(service)]
        assert conflict.value.current is not None
        assert (client.is_connected, client.principal) == (True, "admin")
        assert client.open_token(client.token_create("x", "viewer")).name == "x"


def test_threads_share_a_client(shared_daemon: Daemon, service: str) -> None:
    """Several threads change one config at once, and all of it counts."""

    def count() -> None:
        for _ in range(5):
            client.update(service, lambda config: {"n": config.get("n", 0) + 1}, attempts=100)

    with client_of(shared_daemon) as client:
        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.get(service).config == {"n": 20}


def test_a_client_is_closed_and_opened(shared_daemon: Daemon, tmp_path: Path) -> None:
    """Outside `with` it says so; it can be opened again; without a broker a command raises in time."""
    client = client_of(shared_daemon)
    for _ in range(2):
        with client:
            assert client.info().product == "setpoint"
        with pytest.raises(ConfigurationError, match="with Client"):
            client.info()
    with (
        Client("mqtt://127.0.0.1:9", shared_daemon.token_path, cache_dir=tmp_path) as lonely,
        pytest.raises(Unreachable),
    ):
        lonely.info(timeout=0.2)


class Stt(BaseModel):
    """What a service has as its config."""

    threads: int = 1


def test_a_bound_config_is_followed(shared_daemon: Daemon, service: str) -> None:
    """`bind`, `changes` and `watch` wait in plain loops, and end with the client."""
    seen: list[object] = []
    with client_of(shared_daemon) as client:
        client.set(service, {"threads": 2})
        live = client.bind(service, Stt, timeout=20)
        changes, documents, others = live.changes(), client.watch(service), live.changes()
        assert (live.value, live.source, live.version, live.stale) == (Stt(threads=2), "live", 1, False)
        assert next(documents).version == 1
        client.patch(service, {"threads": "many"})
        change = next(changes)
        assert (change.new.threads, change.error) == (2, live.error)
        assert (live.missing, live.refused) == ((), None)
        assert next(documents).config == {"threads": "many"}
        assert live.document is not None
        assert live.document.version == 1
        reading = threading.Thread(target=lambda: seen.extend(others))
        reading.start()
        client.patch(service, {"threads": 4})
        assert next(changes).new == live.value == Stt(threads=4)
        assert "threads" not in repr(live)
    reading.join(20)
    assert len(seen) == 2
    assert live.value.threads == 4
    assert list(changes) == []


def test_who_would_wait_for_himself_is_told(shared_daemon: Daemon, service: str) -> None:
    """A call in the client's own thread, or in a process that was forked from the client's, is refused at once."""
    with client_of(shared_daemon) as client:
        with pytest.raises(ConfigurationError, match="own thread"):
            client.update(service, lambda _: {"n": client.info().protocol})
        client._pid += 1  # noqa: SLF001 - as in a process that was forked
        with pytest.raises(ConfigurationError, match="forked"):
            client.info()
        client._pid -= 1  # noqa: SLF001
        assert client.info().protocol == 1


def test_what_asyncio_has_is_here_too(shared_daemon: Daemon, service: str) -> None:
    """Secrets, waiting for reports, sending again, and leaving a bound config."""
    with client_of(shared_daemon) as client:
        client.schema_set(service, {"properties": {"key": {"writeOnly": True}}})
        version = client.set(service, {"key": "hunter2"}).version
        assert client.reveal(service) == {"/key": "hunter2"}
        live = client.bind(service, Stt, timeout=20)
        assert [one.status for one in client.wait_applied(service, version)] == ["applied"]
        changes = live.changes()
        live.close()
        assert list(changes) == []
        with pytest.raises(ConfigurationError, match="`with Client"):
            client_of(shared_daemon).watch(service)
    names = {name for name in dir(AsyncClient) if not name.startswith("_")}
    assert names - {"timeout"} <= {name for name in dir(Client) if not name.startswith("_")}


def test_both_clients_have_the_same_commands() -> None:
    """No command is missing from either: one is made from the other."""
    names = {name for name in vars(Commands) if not name.startswith("_")}
    assert names == {name for name in vars(SyncCommands) if not name.startswith("_")}
