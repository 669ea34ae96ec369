"""The example services and devices, as processes on a real broker beside a running daemon."""

import asyncio
import json
import signal
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from setpoint_contracts import Token, sign_detached, strictjson
from setpoint_contracts.numbers import MAX_INTEGER
from setpoint_contracts.signing import VerifyingKey
from tests.brokers import Broker
from tests.caller import Caller, calling, publish_properties
from tests.daemon import Daemon, NewDaemon, restart
from tests.programs import Program, running
from tests.waiting import DEADLINE_S

EXAMPLES = Path(__file__).parents[2] / "contracts" / "examples"


async def versions(admin: Caller, service: str) -> list[Any]:
    """Return the version numbers that a service has had, newest first."""
    return [one["version"] for one in (await admin.ok("history/versions", {"service": service}))["versions"]]


async def copies(admin: Caller, topic: str) -> set[bytes]:
    """Wait until a command was sent twice; returns the different bytes that were."""
    return {bytes((await admin.message(topic)).payload) for _ in range(2)}


# On paho


def paho_service(daemon: Daemon, directory: Path, *more: str, token: Path | None = None) -> list[str | Path]:
    """Return the command line of the service on paho."""
    first: list[str | Path] = [sys.executable, EXAMPLES / "paho_service.py", f"{daemon.host}:{daemon.port}"]
    options = ["--instance", "pi-1", "--prefix", daemon.prefix, *more]
    return [*first, token or daemon.token_path, "fan", directory / "state.json", *options]


@pytest.mark.parametrize("alg", ["HS256", "Ed25519"])
async def test_paho_service(alg: str, new_daemon: NewDaemon, tmp_path: Path) -> None:
    """It changes its config, runs with each that fits, reports that or why not, and ends when it is told."""
    daemon, file = new_daemon(), None
    if alg == "Ed25519":
        token, file, public = Token.new("Ed25519", "tok_fan", "fan", daemon.token.role), tmp_path / "t", tmp_path / "p"
        file.write_bytes(token.dump())
        public.write_bytes(token.public().dump())
        daemon.command("token", "import", str(public))
    patch = ["--patch", '{"speed":3}']
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "fan", "config": {"speed": 2}})
    async with calling(daemon) as admin, running(*paho_service(daemon, tmp_path, *patch, token=file)) as service:
        while await service.says("runs_with") != {"speed": 3}:
            pass  # the one before, it may be

        async def report() -> Any:
            reports = (await admin.ok("applied"))["instances"]
            return [(one["version"], one["status"], one.get("error"), one["lag"]) for one in reports]

        async def reported(*expected: Any) -> None:
            async with asyncio.timeout(DEADLINE_S):
                while await report() != [expected]:
                    pass  # a report may come a moment later

        await reported(2, "applied", None, 0)
        await admin.ok("set", {"service": "fan", "config": {"speed": "fast"}})
        await reported(3, "rejected", "speed is an integer", 0)
        await admin.ok("delete", {"service": "fan"})
        assert await service.says("runs_with") is None
        await reported(4, "applied", None, 0)
        assert await service.ends(signal.SIGTERM) == 0


async def test_paho_service_outlives_broker_and_daemon(own_broker: Broker, daemon: Daemon, tmp_path: Path) -> None:
    """Its command waits for the daemon over a restart of the broker and runs once; its config waits on its disk."""
    topic = daemon.topics.command("patch")
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "fan", "config": {"speed": 2}})
    daemon.stop()
    async with running(*paho_service(daemon, tmp_path, "--patch", '{"speed":3}')) as service:
        assert await service.says("runs_with") == {"speed": 2}
        await asyncio.to_thread(own_broker.stop)
        await asyncio.to_thread(own_broker.start)
        async with calling(daemon, None, topic) as admin:
            await admin.message(topic)
        daemon.start()
        await asyncio.to_thread(daemon.wait_ready)
        assert await service.says("runs_with") == {"speed": 3}
        await asyncio.to_thread(restart, own_broker, daemon)
        async with calling(daemon) as admin:
            assert await versions(admin, "fan") == [2, 1]
            await admin.ok("patch", {"service": "fan", "patch": {"speed": 4}})
            assert await service.says("runs_with") == {"speed": 4}
        service.kill()
    own_broker.stop()
    async with running(*paho_service(daemon, tmp_path)) as service:
        assert await service.says("runs_with") == {"speed": 4}
        assert await service.ends(signal.SIGTERM) == 0


# On MQTT 3.1.1


def device(daemon: Daemon, directory: Path, patch: str) -> list[str | Path]:
    """Return the command line of the device."""
    program: list[str | Path] = [sys.executable, EXAMPLES / "esp32_style.py", f"{daemon.host}:{daemon.port}"]
    return [*program, daemon.token_path, directory / "flash.json", "blinds", patch, daemon.prefix]


async def test_device_without_properties(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """Over MQTT 3.1.1 it patches its config, says when it is refused, and takes documents that are newer only."""
    daemon = new_daemon()
    async with running(*device(daemon, tmp_path, '{"position":40}')) as program:
        assert (await program.says("reply"))["error"]["code"] == "not_found"
        assert await program.ends() == 1
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "blinds", "config": {}})
    for version, position in ((2, 50), (3, 60), (3, 60)):
        async with running(*device(daemon, tmp_path, f'{{"position":{position}}}')) as program:
            assert await program.ends() == 0
            lines = [json.loads(line) for line in await program.rest()]
            [reply] = [line["reply"] for line in lines if "reply" in line]
            assert (reply["result"]["version"], reply["result"]["config"]) == (version, {"position": position})
        kept = json.loads((tmp_path / "flash.json").read_text())
        assert (kept["command"], kept["document"]["config"]) == (None, {"position": position})
    newer = {**kept["document"], "epoch": kept["document"]["epoch"] + 1}
    (tmp_path / "flash.json").write_text(json.dumps({"document": newer}))
    async with running(*device(daemon, tmp_path, '{"position":70}')) as program:
        assert await program.ends() == 0
        assert [[*json.loads(line)] for line in await program.rest()] == [["reply"]]
    assert json.loads((tmp_path / "flash.json").read_text())["document"] == newer


async def test_device_sends_the_same_bytes_again(own_broker: Broker, daemon: Daemon, tmp_path: Path) -> None:
    """Over silence, a restart of the broker and a reset of the device they stay the same, and take effect once."""
    topic, sent = daemon.topics.command("patch"), set[bytes]()
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "blinds", "config": {}})
    daemon.stop()
    async with running(*device(daemon, tmp_path, '{"position":40}')) as program:
        async with calling(daemon, None, topic) as admin:
            sent |= await copies(admin, topic)
        await asyncio.to_thread(own_broker.stop)
        await asyncio.to_thread(own_broker.start)
        async with calling(daemon, None, topic) as admin:
            sent |= await copies(admin, topic)
        program.kill()
    async with calling(daemon, None, topic) as admin:
        async with running(*device(daemon, tmp_path, '{"position":99}')) as program:
            sent |= await copies(admin, topic)
            daemon.start()
            reply = await program.says("reply")
            assert await program.ends() == 0
        assert len(sent) == 1
        assert (reply["result"]["version"], reply["result"]["config"]) == (2, {"position": 40})
        assert await versions(admin, "blinds") == [2, 1]


# In a shell


def shell_service(daemon: Daemon, directory: Path) -> AbstractAsyncContextManager[Program]:
    """Run the service in a shell, whose command prints version and document."""
    command = ["sh", "-c", 'printf "%s " "$VERSION"; cat']
    env = {"TOKEN": daemon.token_path, "STATE": directory / "state", "HOME": directory}
    address = {"MQTT_HOST": daemon.host, "MQTT_PORT": str(daemon.port), "REPLY_S": "1"}
    return running(EXAMPLES / "service.sh", "fan", '{"speed":3}', *command, **env, **address)


async def used(program: Program) -> tuple[int, Any]:
    """Wait for the next run of the command; the version and the document that it got."""
    version, _, document = (await program.line()).partition(" ")
    return int(version), json.loads(document)


async def test_shell_service(own_broker: Broker, daemon: Daemon, tmp_path: Path) -> None:
    """It writes its config, runs its command for each newer document of the daemon's, and for nobody else's."""
    topic = daemon.topics.updated("fan")
    async with shell_service(daemon, tmp_path) as service:
        version, document = await used(service)
        assert (version, document["config"], document["version"]) == (1, {"speed": 3}, 1)
        async with calling(daemon, None, topic) as admin:
            first = await admin.message(topic)
            ((_, first_signature),) = vars(first.properties)["UserProperty"]
            await admin.ok("set", {"service": "fan", "config": {"speed": 4, "name": "ä | b\\n"}})
            version, document = await used(service)
            assert (version, document["config"]) == (2, {"speed": 4, "name": "ä | b\\n"})

            forged = strictjson.dumps({**document, "epoch": MAX_INTEGER, "config": {"speed": 99}}).encode()
            (kid,) = admin.daemon_keys
            stranger = VerifyingKey("Ed25519", Ed25519PrivateKey.generate())
            true = first_signature
            others = [None, true, sign_detached(forged, topic, kid, stranger), "a..b", ".."]
            messages = [(forged, [jws] if jws else []) for jws in others]
            messages += [(bytes(first.payload), [true]), (bytes(first.payload), [true, true]), (b"", [])]
            for payload, signatures in messages:
                properties = publish_properties(UserProperty=[("jws", jws) for jws in signatures])
                await admin.mqtt.publish(topic, payload, qos=1, properties=properties)
            await admin.ok("delete", {"service": "fan"})
            version, document = await used(service)
            assert (version, document["deleted"]) == (3, True)
        await asyncio.to_thread(restart, own_broker, daemon)
        async with calling(daemon) as admin:
            await admin.ok("set", {"service": "fan", "config": {"speed": 5}})
        assert (await used(service))[0] == 4
        service.kill()
    own_broker.stop()
    async with shell_service(daemon, tmp_path) as service:
        version, document = await used(service)
        assert (version, document["config"]) == (4, {"speed": 5})


async def test_shell_service_sends_the_same_bytes_again(own_broker: Broker, daemon: Daemon, tmp_path: Path) -> None:
    """While the daemon is away, over a restart of the broker too, it repeats itself; what it writes is written once."""
    topic = daemon.topics.command("set")
    daemon.stop()
    async with shell_service(daemon, tmp_path) as service:
        async with calling(daemon, None, topic) as admin:
            sent = await copies(admin, topic)
        await asyncio.to_thread(own_broker.stop)
        await asyncio.to_thread(own_broker.start)
        async with calling(daemon, None, topic) as admin:
            sent |= await copies(admin, topic)
            daemon.start()
            assert await used(service) == (1, (await admin.ok("get", {"service": "fan"})))
            assert await versions(admin, "fan") == [1]
        assert len(sent) == 1


async def test_shell_service_leaves_a_config_alone(daemon: Daemon, tmp_path: Path) -> None:
    """Where somebody has configured the service already, that is what it runs with."""
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "fan", "config": {"speed": 7}})
        async with shell_service(daemon, tmp_path) as service:
            version, document = await used(service)
            assert (version, document["config"]) == (1, {"speed": 7})
            await admin.ok("patch", {"service": "fan", "patch": {"speed": 8}})
            assert (await used(service))[0] == 2
