"""A service on a Raspberry Pi that reads its config from Setpoint: it says when the fan should run.

    SETPOINT_TOKEN=.setpoint/admin.jwk .venv/bin/python client/examples/pi_service.py

As a system service: pi-service.service beside it. Where the broker is and the rest of its settings come from the
environment (client/README.md). It starts with the config of the broker, else of its cache, else with the defaults
below, follows what changes while it runs, and reports what it runs. SIGTERM and Ctrl-C end it with exit code 0. What it
prints goes to the journal.
"""

import asyncio
import contextlib
import json
import signal
from pathlib import Path

from pydantic import BaseModel, Field

from setpoint import Client, Live

TEMPERATURE = Path("/sys/class/thermal/thermal_zone0/temp")  # in thousandths of a degree


class Fan(BaseModel):
    """The config of the service ``fan``."""

    on_above_c: float = Field(default=60.0, ge=0, le=100)
    every_s: float = Field(default=5.0, ge=0.1)


def measure() -> float | None:
    """Return the temperature of the processor in degrees Celsius; None on a machine that does not tell."""
    try:
        return int(TEMPERATURE.read_text()) / 1000
    except OSError:
        return None


async def control(live: Live[Fan]) -> None:
    """Look at the temperature again and again; each round reads its config once and keeps to it."""
    while True:
        config = live.value
        celsius = measure()
        say(fan=celsius is not None and celsius > config.on_above_c, celsius=celsius)
        await asyncio.sleep(config.every_s)


async def tell(live: Live[Fan]) -> None:
    """Say what becomes of each newer config."""
    async for change in live.changes():
        paths = [part.path for part in change.diff]
        say(version=change.document.version, config=change.new.model_dump(), changed=paths, rejected=change.error)


async def serve() -> None:
    """Run until it is cancelled."""
    async with Client() as client:
        live = await client.bind("fan", Fan)
        say(starts_with=live.value.model_dump(), source=live.source, version=live.version)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(tell(live), name="tell")
            tasks.create_task(control(live), name="control")


async def main() -> None:
    """Serve until SIGTERM or Ctrl-C: then the client says what is left to say, and closes."""
    serving = asyncio.create_task(serve(), name="serve")
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def say(**line: object) -> None:
    """Print a line of JSON."""
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
