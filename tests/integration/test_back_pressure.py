"""More commands at once than the daemon takes: it stops reading, plain and over TLS, and goes on where it was."""

import asyncio
import time

import pytest

from setpointd import locks
from setpointd.broker.session import MAX_AT_WORK
from tests.brokers import Broker
from tests.caller import calling, connecting
from tests.daemon import NewDaemon
from tests.waiting import DEADLINE_S, eventually


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
async def test_reading_pauses_and_goes_on(scheme: str, broker: Broker, new_daemon: NewDaemon) -> None:
    """While its writer waits, more commands come than it takes at once: all are answered, on the same connection.

    That it reads nothing for longer than twice the keep-alive is not taken for the broker's death, nor for its own.
    """
    keep_alive_s, count, services = 1, 3 * MAX_AT_WORK, 16
    daemon = new_daemon(start=False, keep_alive_s=keep_alive_s, rate_limit_per_s=0)
    port = broker.tls_port if scheme == "mqtts" else broker.port
    daemon.settings |= {"broker": f"{scheme}://{broker.host}:{port}", "broker_ca": broker.ca}
    if scheme == "mqtt":
        del daemon.settings["broker_ca"]
    daemon.start()
    daemon.wait_ready()
    async with calling(daemon) as admin, connecting(daemon) as sender:
        jtis = [f"c{n}" for n in range(count)]
        commands = [
            admin.sign("set", {"service": f"s{n % services}", "config": {"n": n}}, jti=jti, lifetime_s=600)
            for n, jti in enumerate(jtis)
        ]
        with locks.holding(daemon.data_dir / "writer.lock", wait_s=DEADLINE_S):
            for command in commands:
                # At QoS 0: at 1, Receive Maximum would keep most of them with the broker.
                await sender.publish(admin.topics.command("set"), command, qos=0)
            began = time.monotonic()
            await eventually(lambda: time.monotonic() > began + 3 * keep_alive_s, "nothing is read for so long")
        versions = [await admin.reply(admin.topics.reply("admin", jti)) for jti in jtis]
        assert sorted(reply.result["version"] for reply in versions if reply.result is not None) == sorted(
            n // services + 1 for n in range(count)
        )
        assert (await asyncio.wait_for(admin.ok("status"), DEADLINE_S))["services"] == services
    assert daemon.metric("setpoint_broker_connections_total") == 1
    assert not daemon.events("qos0_dropped")
