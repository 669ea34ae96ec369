"""The example client for Node, on a real broker beside a running daemon."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from setpoint_contracts import Token
from setpoint_contracts.keys import to_jwk
from tests.caller import calling
from tests.daemon import Daemon
from tests.npm import MQTT, npm_install
from tests.waiting import DEADLINE_S

EXAMPLE = Path(__file__).parents[2] / "contracts" / "examples" / "client.mjs"
CHECK = """
import { readFileSync } from "node:fs";
import { isSigned } from "./client.mjs";
const [keys, ...messages] = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(messages.map(([topic, payload, jws]) => isSigned(keys, topic, Buffer.from(payload), jws))));
"""

pytestmark = pytest.mark.timeout(300)  # the first run downloads


@pytest.fixture(scope="module")
def project(pytestconfig: pytest.Config) -> Path:
    """Install the MQTT client, and put the example beside it."""
    directory = npm_install(pytestconfig, MQTT)
    shutil.copy(EXAMPLE, directory)
    return directory


async def node(project: Path, *arguments: str | Path, given: str = "") -> list[Any]:
    """Run Node in the project; what it prints, a JSON document each line."""
    process = await asyncio.create_subprocess_exec(
        "node",
        *arguments,
        cwd=project,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_S):
        printed, complaints = await process.communicate(given.encode())
    assert (complaints, process.returncode) == (b"", 0)
    return [json.loads(line) for line in printed.splitlines()]


def token_of(daemon: Daemon, alg: str, directory: Path) -> Token:
    """Give the daemon's admin token, or make one whose private key the daemon never has."""
    if alg == "HS256":
        return daemon.token
    made = Token.new("Ed25519", "tok_node", "node", daemon.token.role)
    public = directory / "public.jwk"
    public.write_bytes(made.public().dump())
    daemon.command("token", "import", str(public))
    return made


@pytest.mark.parametrize("alg", ["HS256", "Ed25519"])
async def test_client_in_node(alg: str, shared_daemon: Daemon, service: str, project: Path, tmp_path: Path) -> None:
    """With Node's own crypto it sets, is refused a stale write, gets, and takes the update, each checked by it."""
    file = tmp_path / "token.jwk"
    token = token_of(shared_daemon, alg, tmp_path)
    file.write_bytes(token.dump())
    url = f"mqtt://{shared_daemon.host}:{shared_daemon.port}"
    first, second, conflict, read, update = await node(project, "client.mjs", url, file, service, shared_daemon.prefix)

    assert (first["result"]["version"], first["result"]["updated_by"]) == (1, token.name)
    assert (second["result"]["version"], second["result"]["changed"]) == (2, True)
    assert conflict["error"]["code"] == "version_conflict"
    assert conflict["error"]["details"]["current"] == update
    assert (read["result"]["value"], read["result"]["version"]) == ("large", 2)


async def test_client_in_node_believes_no_other(shared_daemon: Daemon, service: str, project: Path) -> None:
    """Another payload, another topic, another key, no signature or two: none of it counts as signed."""
    topic = shared_daemon.topics.updated(service)
    async with calling(shared_daemon, None, topic) as admin:
        await admin.ok("set", {"service": service, "config": {}})
        message = await admin.message(topic)
        payload = bytes(message.payload).decode()
        ((_, jws),) = vars(message.properties)["UserProperty"]
        keys = [{"kid": kid, "alg": key.alg, **to_jwk(key.key)} for kid, key in admin.daemon_keys.items()]
    others = [{**key, "x": Token.new("Ed25519", "other", "other", admin.token.role).x} for key in keys]
    cases = [[topic, payload, jws], [topic, payload + " ", jws], [f"{topic}x", payload, jws], [topic, payload, None]]
    cases += [[topic, payload, [jws, jws]], [topic, payload, jws[:-2]], [topic, payload, "a..b"]]
    cases += [[topic, "garbage", "bnVsbA..e30"]]
    script = ["--input-type=module", "-e", CHECK]
    assert await node(project, *script, given=json.dumps([keys, *cases])) == [[True] + [False] * 7]
    for strange in (others, [{**key, "x": "?"} for key in keys], [None], []):
        assert await node(project, *script, given=json.dumps([strange, cases[0]])) == [[False]]
