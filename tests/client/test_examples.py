"""The example service of the client, as a process on a real broker beside a running daemon."""

import asyncio
import configparser
import signal
import sys
from pathlib import Path

from tests.brokers import Broker
from tests.caller import calling
from tests.daemon import Daemon, restart
from tests.programs import running
from tests.waiting import DEADLINE_S

EXAMPLES = Path(__file__).parents[2] / "client" / "examples"


def environment(daemon: Daemon, directory: Path) -> dict[str, str]:
    """Make the environment that systemd makes of the unit beside the service, and of its EnvironmentFile."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign] # names keep their capitals
    unit.read(EXAMPLES / "pi-service.service")
    service = unit["Service"]
    credentials, state = directory / "credentials", directory / service["StateDirectory"]
    credentials.mkdir(exist_ok=True)
    state.mkdir(mode=int(service["StateDirectoryMode"], 8), exist_ok=True)
    (credentials / service["LoadCredential"].partition(":")[0]).write_bytes(daemon.token_path.read_bytes())
    name, _, value = service["Environment"].partition("=")
    file = {"SETPOINT_BROKER_URL": f"mqtt://{daemon.host}:{daemon.port}", "SETPOINT_INSTANCE": "pi-1"}
    return {name: value.replace("%d", str(credentials)), "STATE_DIRECTORY": str(state), **file}


async def test_pi_service(own_broker: Broker, daemon: Daemon, tmp_path: Path) -> None:
    """It starts with defaults, takes what fits, outlives broker and daemon, ends cleanly, and starts from its cache."""
    program, env = (sys.executable, EXAMPLES / "pi_service.py"), environment(daemon, tmp_path)
    async with running(*program, **env) as service:
        assert await service.says("starts_with") == {"on_above_c": 60, "every_s": 5}
        async with calling(daemon) as admin:
            await admin.ok("set", {"service": "fan", "config": {"on_above_c": 50, "every_s": 0.1}})
            assert await service.says("config") == {"on_above_c": 50, "every_s": 0.1}
            assert await service.says("fan") in {True, False}
            await admin.ok("patch", {"service": "fan", "patch": {"on_above_c": 200}})
            assert "on_above_c" in await service.says("rejected")
        await asyncio.to_thread(restart, own_broker, daemon)
        async with calling(daemon) as admin:
            await admin.ok("patch", {"service": "fan", "patch": {"on_above_c": 55}})
            assert await service.says("config") == {"on_above_c": 55, "every_s": 0.1}
            async with asyncio.timeout(DEADLINE_S):
                while (one := (await admin.ok("applied"))["instances"][0])["version"] < 3:
                    pass  # a report may come a moment later
            assert (one["instance"], one["status"], one["lag"]) == ("pi-1", "applied", 0)
        assert await service.ends(signal.SIGTERM) == 0
    own_broker.stop()
    async with running(*program, **env) as service:
        assert await service.says("starts_with") == {"on_above_c": 55, "every_s": 0.1}
        assert await service.ends(signal.SIGTERM) == 0
