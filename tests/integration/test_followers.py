"""The example followers, in Python and in Node, on a real broker beside a running daemon."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from setpoint_contracts import sign_detached, strictjson
from setpoint_contracts.keys import to_jwk
from setpoint_contracts.numbers import MAX_INTEGER
from setpoint_contracts.signing import VerifyingKey
from tests.caller import Caller, calling, publish_properties, retained
from tests.daemon import Daemon
from tests.npm import MQTT, npm_install
from tests.waiting import DEADLINE_S

EXAMPLES = Path(__file__).parents[2] / "contracts" / "examples"
LANGUAGES = pytest.mark.parametrize("language", ["python", "node"])


class Follower:
    """An example follower as a process that prints what becomes of each message."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self, topic: str, outcome: str) -> Any:
        """Wait until this became of a message on the topic, and return what is held of its service then."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            while printed := await self._process.stdout.readline():
                line = json.loads(printed)
                if (line["topic"], line["outcome"]) == (topic, outcome):
                    return line["holds"].get(topic.rpartition("/")[2])
        pytest.fail(f"the follower ended with {await self._process.wait()}")


Following = Callable[[str], AbstractAsyncContextManager[Follower]]


@pytest.fixture(scope="session")
def node_project(pytestconfig: pytest.Config) -> Path:
    """Install the MQTT client that the Node follower needs, and put the follower beside it."""
    directory = npm_install(pytestconfig, MQTT)
    shutil.copy(EXAMPLES / "follower.mjs", directory)
    return directory


@pytest.fixture
def following(shared_daemon: Daemon, tmp_path: Path, request: pytest.FixtureRequest) -> Following:
    """Run the follower of a language on the shared daemon's topics; each one goes on where the last one was."""

    @asynccontextmanager
    async def run(language: str) -> AsyncIterator[Follower]:
        program: list[str | Path] = [sys.executable, EXAMPLES / "follower.py"]
        if language == "node":
            program = ["node", request.getfixturevalue("node_project") / "follower.mjs"]
        url = f"mqtt://{shared_daemon.host}:{shared_daemon.port}"
        process = await asyncio.create_subprocess_exec(
            *program, url, tmp_path / "state.json", shared_daemon.prefix, stdout=asyncio.subprocess.PIPE
        )
        try:
            yield Follower(process)
        finally:
            if process.returncode is None:
                process.kill()  # as a power cut comes: what it said, it has kept
            await process.communicate()

    return run


async def publish(admin: Caller, topic: str, payload: bytes, jws: str | None) -> None:
    """Publish a retained document in the daemon's place."""
    properties = publish_properties(UserProperty=[("jws", jws)]) if jws else None
    await admin.mqtt.publish(topic, payload, qos=1, retain=True, properties=properties)


def signature(message: aiomqtt.Message) -> str:
    """Return the `jws` of a message of the daemon."""
    ((_, jws),) = vars(message.properties)["UserProperty"]
    return str(jws)


@LANGUAGES
async def test_follows_a_service_through_its_life(
    language: str, shared_daemon: Daemon, service: str, following: Following
) -> None:
    """Set, set, deleted and set again: each is taken, and of what others publish in between nothing is."""
    topic = shared_daemon.topics.updated(service)
    async with calling(shared_daemon, None, topic) as admin:
        await admin.ok("set", {"service": service, "config": {"n": 1}})
        first = await admin.message(topic)
        async with following(language) as follower:
            assert (await follower.said(topic, "taken"))["config"] == {"n": 1}
            second = await admin.ok("set", {"service": service, "config": {"n": 2}})
            held = await follower.said(topic, "taken")
            assert (held["config"], held["version"]) == ({"n": 2}, second["version"])

            await publish(admin, topic, bytes(first.payload), signature(first))
            assert await follower.said(topic, "older") == held
            forged = strictjson.dumps({**held, "epoch": MAX_INTEGER, "config": {"n": "forged"}}).encode()
            (kid,) = admin.daemon_keys
            stranger = VerifyingKey("Ed25519", Ed25519PrivateKey.generate())
            await publish(admin, topic, forged, sign_detached(forged, topic, kid, stranger))
            assert await follower.said(topic, "bad_signature") == held
            await publish(admin, topic, forged, None)
            assert await follower.said(topic, "unsigned") == held
            await publish(admin, topic, b"", None)
            assert await follower.said(topic, "empty") == held

            await admin.ok("delete", {"service": service})
            assert (await follower.said(topic, "taken"))["deleted"] is True
            await admin.ok("set", {"service": service, "config": {"n": 3}})
            assert (await follower.said(topic, "taken"))["config"] == {"n": 3}


@LANGUAGES
async def test_a_stranger_cannot_move_the_pin(
    language: str, shared_daemon: Daemon, service: str, following: Following
) -> None:
    """A key set of another key, and what is signed with it, is ignored; the daemon's own goes on to be believed."""
    topics = shared_daemon.topics
    topic = topics.updated(service)
    key = Ed25519PrivateKey.generate()
    stranger = VerifyingKey("Ed25519", key)
    async with calling(shared_daemon, None, topic) as admin, following(language) as follower:
        await follower.said(topics.keys, "pinned")
        jwks = strictjson.dumps({"keys": [{**to_jwk(key.public_key()), "kid": "other", "alg": "Ed25519"}]}).encode()
        properties = publish_properties(UserProperty=[("jws", sign_detached(jwks, topics.keys, "other", stranger))])
        await admin.mqtt.publish(topics.keys, jwks, qos=1, properties=properties)
        await follower.said(topics.keys, "other_key")
        head = {"service": service, "version": 1, "revision": 1, "epoch": MAX_INTEGER}
        forged = strictjson.dumps({**head, "config": {}}).encode()
        await publish(admin, topic, forged, sign_detached(forged, topic, "other", stranger))
        assert await follower.said(topic, "bad_signature") is None
        await admin.ok("set", {"service": service, "config": {"n": 1}})
        assert (await follower.said(topic, "taken"))["config"] == {"n": 1}


@LANGUAGES
async def test_goes_on_where_it_was(language: str, shared_daemon: Daemon, service: str, following: Following) -> None:
    """Killed and started again it knows what it held: that again is nothing new, and an older document is a replay."""
    topic = shared_daemon.topics.updated(service)
    async with calling(shared_daemon, None, topic) as admin:
        await admin.ok("set", {"service": service, "config": {"n": 1}})
        first = await admin.message(topic)
        await admin.ok("set", {"service": service, "config": {"n": 2}})
        await admin.message(topic)
        async with following(language) as follower:
            held = await follower.said(topic, "taken")
        async with following(language) as follower:
            assert await follower.said(topic, "same") == held
            await publish(admin, topic, bytes(first.payload), signature(first))
            assert await follower.said(topic, "older") == held
            await admin.ok("set", {"service": service, "config": {"n": 3}})
            assert (await follower.said(topic, "taken"))["config"] == {"n": 3}


@LANGUAGES
async def test_learns_of_a_delete_that_it_missed(
    language: str, shared_daemon: Daemon, service: str, following: Following
) -> None:
    """The tombstone is retained with its signature: who was away when a service was deleted learns it then."""
    topic = shared_daemon.topics.updated(service)
    async with calling(shared_daemon, None, topic) as admin:
        await admin.ok("set", {"service": service, "config": {"n": 1}})
        async with following(language) as follower:
            assert (await follower.said(topic, "taken"))["config"] == {"n": 1}
        tombstone = await admin.ok("delete", {"service": service})
        while json.loads(bytes((await admin.message(topic)).payload)).get("deleted") is not True:
            pass  # the update may come after its reply
        assert topic in await retained(shared_daemon, topic)
        async with following(language) as follower:
            held = await follower.said(topic, "taken")
            assert (held["deleted"], held["version"]) == (True, tombstone["version"])
