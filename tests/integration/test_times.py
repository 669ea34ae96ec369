"""A command's time runs on while the daemon does not: it counts from when the command was signed and received."""

import os
import signal
import time

import pytest

from tests.caller import calling, connecting
from tests.daemon import NewDaemon
from tests.waiting import eventually


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_command_expires_while_the_daemon_is_stopped(qos: int, new_daemon: NewDaemon) -> None:
    """What came to a daemon that stood still is answered when it goes on: `expired`, if its time was over by then."""
    daemon = new_daemon()
    async with calling(daemon) as admin, connecting(daemon) as sender:
        await admin.ok("set", {"service": "stt", "config": {}})
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            sent = time.monotonic()
            for jti, lifetime_s in (("short", 1), ("long", 600)):
                command = admin.sign("patch", {"service": "stt", "patch": {jti: 1}}, jti=jti, lifetime_s=lifetime_s)
                await sender.publish(admin.topics.command("patch"), command, qos=qos)
            await eventually(lambda: time.monotonic() > sent + 2, "the time of one of them is over")
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        reply = await admin.reply(admin.topics.reply("admin", "short"))
        assert reply.error is not None
        assert reply.error.code == "expired"
        assert reply.error.details.keys() == {"server_time"}
        assert (await admin.reply(admin.topics.reply("admin", "long"))).ok
        assert (await admin.ok("get", {"service": "stt"}))["config"] == {"long": 1}
