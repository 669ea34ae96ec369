"""The audit log's chain over power cuts: what was lost leaves no gap, and what comes after follows on."""

import pytest

from tests.caller import calling
from tests.daemon import NewDaemon

pytestmark = pytest.mark.crash

WRITES = 60


async def test_the_chain_holds_over_kills(new_daemon: NewDaemon) -> None:
    """Killed with writes in flight, again and again: the log fits, with one row for each write, and goes on."""
    daemon = new_daemon()
    anchor = daemon.command("verify").split()[-1]
    async with calling(daemon) as admin:
        for round_, answered in enumerate((1, 20, 59)):
            for n in range(WRITES):
                payload = admin.sign(
                    "patch" if round_ else "set",
                    {"service": f"s{n}", ("patch" if round_ else "config"): {f"k{round_}": n}},
                    jti=f"w{round_}-{n}",
                    lifetime_s=600,
                )
                await admin.mqtt.publish(admin.topics.command("patch" if round_ else "set"), payload, qos=1)
            for n in range(answered):
                await admin.reply(admin.topics.reply("admin", f"w{round_}-{n}"))
            daemon.kill()
            anchor = daemon.command("verify", "--anchor", anchor).split()[-1]
            daemon.start()
            daemon.wait_ready()
            for n in range(answered, WRITES):
                assert (await admin.reply(admin.topics.reply("admin", f"w{round_}-{n}"))).ok
            daemon.new_token(f"t{round_}", "viewer")
    told = daemon.command("verify", "--anchor", anchor)
    assert told.startswith(f"audit log: {1 + 3 * (WRITES + 1)} rows fit, ")
