"""The ways to a broker: plain and encrypted, TCP and WebSocket, with passwords and certificates."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from setpoint import Client, Unreachable
from setpoint.settings import tls_context
from setpoint_contracts import Role, Token
from tests.brokers import LocalBroker, free_port
from tests.daemon import Daemon, NewDaemon


class Ports:
    """Of the listeners of one broker."""

    def __init__(self) -> None:
        self.ws, self.wss, self.password, self.client_certificate = (free_port() for _ in range(4))


@pytest.fixture
def ports() -> Ports:
    """Choose a port for each way in."""
    return Ports()


@pytest.fixture
def broker_of_all_kinds(ports: Ports, certificate: Path, tmp_path: Path) -> Iterator[LocalBroker]:
    """Start one broker with a listener of each kind; all but the last two let anybody in."""
    directory = tmp_path / "broker"
    directory.mkdir()
    passwords = directory / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", passwords, "alice", "p/w:@ ü"], check=True, capture_output=True)
    tls = f"certfile {certificate}\nkeyfile {certificate.parent / 'broker.key'}"
    listeners = f"""per_listener_settings true
listener {ports.ws} 127.0.0.1
protocol websockets
allow_anonymous true
listener {ports.wss} 127.0.0.1
protocol websockets
{tls}
allow_anonymous true
listener {ports.password} 127.0.0.1
password_file {passwords}
listener {ports.client_certificate} 127.0.0.1
{tls}
cafile {certificate}
require_certificate true
allow_anonymous true"""
    broker = LocalBroker(directory, certificate, "allow_anonymous true")
    broker.configure(listeners, per_listener="allow_anonymous true")
    broker.start()
    yield broker
    broker.remove()


@pytest.fixture
def behind(broker_of_all_kinds: LocalBroker, new_daemon: NewDaemon) -> Daemon:
    """Start a daemon on it."""
    return new_daemon(broker=broker_of_all_kinds)


async def answers(url: str, daemon: Daemon, **more: object) -> bool:
    """Whether a command is answered that goes this way."""
    async with Client(url, daemon.token_path, topic_prefix=daemon.prefix, **more) as client:  # type: ignore[arg-type]
        return (await client.set("stt", {"text": "x" * 20_000})).config is not None


async def test_every_way_in_leads_to_the_daemon(
    behind: Daemon,
    broker_of_all_kinds: LocalBroker,
    ports: Ports,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each URL form carries commands and their answers, also such as fill several packets of the network."""
    monkeypatch.setenv("SETPOINT_BROKER_CA", str(certificate))
    own = tls_context(certificate, certificate, certificate.parent / "broker.key")

    assert await answers(f"mqtt://127.0.0.1:{behind.port}", behind)
    assert await answers(f"mqtts://127.0.0.1:{broker_of_all_kinds.tls_port}", behind)
    assert await answers(f"ws://127.0.0.1:{ports.ws}/mqtt", behind)
    assert await answers(f"wss://127.0.0.1:{ports.wss}", behind)
    assert await answers(f"mqtt://alice:p%2Fw%3A%40%20%C3%BC@127.0.0.1:{ports.password}", behind)
    assert await answers(f"mqtts://127.0.0.1:{ports.client_certificate}", behind, tls=own)


async def test_who_is_not_let_in_learns_why(
    behind: Daemon, broker_of_all_kinds: LocalBroker, ports: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong password, a certificate that nobody vouches for: the error says which, and not the password."""
    for url, why in (
        (f"mqtt://alice:wrong-secret@127.0.0.1:{ports.password}", "look at user and password"),
        (f"mqtts://127.0.0.1:{broker_of_all_kinds.tls_port}", "not to be trusted"),
        (f"mqtt://127.0.0.1:{ports.ws}", "was not sent"),
    ):
        async with Client(url, behind.token_path) as client:
            with pytest.raises(Unreachable, match=why) as unreachable:
                await client.info(timeout=1.0)
        assert "wrong-secret" not in str(unreachable.value) + caplog.text


@pytest.mark.parametrize("answer", [b"sec-websocket-accept: \xff\xfe", b"no colon", b"sec-websocket-accept: AAAA"])
async def test_what_is_no_broker_is_told(answer: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that answers a WebSocket's handshake in any other way is tried again, and the error says what it is."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + answer + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    token = Token.new("HS256", "tok_1", "alice", Role.VIEWER)
    async with server, Client(f"ws://127.0.0.1:{port}", token, cache_dir=tmp_path) as client:
        with pytest.raises(Unreachable, match="was not sent"):
            await client.info(timeout=2.0)
        assert client._running is not None  # noqa: SLF001 - the one who would have ended
        assert not client._running.done()  # noqa: SLF001
    assert "a fault" not in caplog.text
