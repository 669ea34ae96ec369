"""No secret leaves its file: not into the store, the log, the broker, metrics or errors."""

import asyncio
import base64
import json
import shutil
from pathlib import Path

import aiomqtt

from setpoint_contracts import Token
from tests.caller import calling, connecting
from tests.daemon import Daemon, NewDaemon, make_data_dir
from tests.waiting import eventually


def spellings(secret: str) -> list[bytes]:
    """Write a secret, given as base64url, in every way in which it could slip out."""
    raw = base64.urlsafe_b64decode(f"{secret}=")
    plain = base64.b64encode(raw).rstrip(b"=")
    return [
        raw,
        secret.encode(),
        plain,
        plain.replace(b"/", rb"\/"),
        raw.hex().encode(),
        raw.hex().upper().encode(),
        repr(raw)[2:-1].encode(),
        str(list(raw)).encode(),
    ]


def secrets_of(path: Path) -> list[str]:
    """Read the secret members of a JWK file."""
    jwk = json.loads(path.read_bytes())
    return [jwk[member] for member in ("k", "d") if member in jwk]


def found_in(haystack: bytes, files: list[Path]) -> list[str]:
    """Name the files whose secret stands somewhere in these bytes."""
    return [
        path.name
        for path in files
        if any(spelling in haystack for secret in secrets_of(path) for spelling in spellings(secret))
    ]


async def listen(witness: aiomqtt.Client, heard: bytearray) -> None:
    """Write down all that the broker carries."""
    async for message in witness.messages:
        heard += f"\n{message.topic} {vars(message.properties)}\n".encode() + bytes(message.payload)


async def use(daemon: Daemon, token: Token) -> bytes:
    """Do with a token what succeeds, what fails and what is forged, revoke it, and look at what HTTP shows then."""
    async with calling(daemon, token) as caller:
        await caller.ok("set", {"service": "stt", "config": {"by": token.name}, "reason": "why"})
        for command in ("delete", "token/list", "info", "status"):
            await caller.call(command, {"service": "stt"} if command == "delete" else {})
        await caller.error("set", {"service": 1})
        await caller.mqtt.publish(caller.topics.command("info"), caller.sign("info")[:-5], qos=1)
        daemon.revoke(token)
        await caller.error("info")
    return "".join(daemon.probe(path)[1] for path in ("/health", "/metrics", "/readyz?verbose")).encode()


def test_the_search_finds_a_secret(shared_daemon: Daemon) -> None:
    """A token's own file holds its secret."""
    path = shared_daemon.token_path
    assert found_in(path.read_bytes(), [path]) == [path.name]


async def test_no_secret_leaves_its_file(new_daemon: NewDaemon) -> None:
    """Tokens of both kinds, used, misused and revoked, and the daemon's own keys: nobody finds one anywhere else."""
    daemon = new_daemon()
    heard = bytearray()
    async with connecting(daemon) as witness:
        await witness.subscribe(f"{daemon.prefix}#", qos=1)
        listener = asyncio.create_task(listen(witness, heard))
        tokens = [
            daemon.new_token("second", "operator", "--services", "s*"),
            daemon.new_token("pair", "admin", "--alg", "Ed25519"),
            daemon.token,
        ]
        shown = b"".join([await use(daemon, token) for token in tokens])
        daemon.kill()
        daemon.start()
        daemon.wait_ready()
        await eventually(lambda: listener.done() or heard.count(b"config/reply/") > 12, "the witness has heard it all")
        assert not listener.done(), listener.exception()
        listener.cancel()
    places = {path.name: path.read_bytes() for path in daemon.data_dir.iterdir() if path.suffix != ".jwk"}
    assert {"setpoint.db", "setpoint.db-wal", "setpoint.db-shm"} <= places.keys()
    places["log"] = "\n".join(daemon.log).encode()
    places["broker"] = bytes(heard)
    places["http"] = shown
    places["token list"] = daemon.command("token", "list", "--json").encode()
    files = [*daemon.data_dir.glob("*.jwk"), *daemon.data_dir.parent.glob("*.jwk")]
    assert {"admin.jwk", "seal.jwk", "signing.jwk"} < {path.name for path in files}
    assert {name: found for name, content in places.items() if (found := found_in(content, files))} == {}
    # Of the pair the store has the public half, readable: the search would have found the private one.
    assert str(tokens[1].x).encode() in places["setpoint.db"] + places["setpoint.db-wal"]


def test_a_store_opens_with_its_own_seal_only(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """With another sealing key the daemon does not start: one line that names the token, and gives nothing away."""
    daemon = new_daemon(start=False)
    make_data_dir(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "seal.jwk", daemon.data_dir)
    daemon.start()
    assert daemon.wait() == 1
    assert daemon.log[-1].startswith("setpointd: seal.jwk does not open token")
    assert daemon.token.kid in daemon.log[-1]
    files = [daemon.token_path, daemon.data_dir / "seal.jwk"]
    assert found_in("\n".join(daemon.log).encode(), files) == []
