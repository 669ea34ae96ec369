"""The daemon killed in the middle of its work: what was answered stays, and nothing runs twice."""

import random
import sqlite3
from collections import Counter

import pytest

from setpoint_contracts import Reply
from tests.caller import Caller, calling
from tests.daemon import Daemon, NewDaemon

pytestmark = pytest.mark.crash

WRITES = 200
SERVICES = 8
# When to kill: so many writes of the round have been answered by then.
ROUNDS = (1, 20, 60, 120, 199)


async def send(admin: Caller, round_: int) -> list[str]:
    """Send all writes of a round without waiting: each puts one key of its own into one of the services."""
    jtis = [f"w{round_}-{n}" for n in range(WRITES)]
    for n, jti in enumerate(jtis):
        params = {"service": f"s{n % SERVICES}", "patch": {jti.replace("-", "_"): n}}
        payload = admin.sign("patch", params, jti=jti, lifetime_s=600)
        await admin.mqtt.publish(admin.topics.command("patch"), payload, qos=1)
    return jtis


async def replies_to(admin: Caller, jtis: list[str]) -> list[Reply]:
    """Wait for a reply to each."""
    return [await admin.reply(admin.topics.reply("admin", jti)) for jti in jtis]


def requests(daemon: Daemon) -> Counter[str]:
    """Count the versions in the store by the request that made them."""
    connection = sqlite3.connect(f"file:{daemon.data_dir}/setpoint.db?mode=ro", uri=True)
    made = Counter(request for (request,) in connection.execute("SELECT request_id FROM config_versions"))
    connection.close()
    return made


async def test_kill_with_200_writes_in_flight(new_daemon: NewDaemon) -> None:
    """Round after round: no write that was answered ok is missing, none ran twice, and every one is answered."""
    daemon = new_daemon()
    chance = random.Random(1)  # noqa: S311 - the same order of services every time
    versions: dict[str, dict[str, object]] = {}
    async with calling(daemon) as admin:
        for n in range(SERVICES):
            await admin.ok("set", {"service": f"s{n}", "config": {}})
        for round_, answered_before in enumerate(ROUNDS):
            jtis = await send(admin, round_)
            chance.shuffle(jtis)
            early = await replies_to(admin, sorted(jtis, key=lambda jti: int(jti.split("-")[1]))[:answered_before])
            daemon.kill()
            survived = requests(daemon)
            assert {reply.id for reply in early} <= survived.keys()
            daemon.start()
            daemon.wait_ready()
            late = await replies_to(admin, [jti for jti in jtis if jti not in {reply.id for reply in early}])
            for reply in (*early, *late):
                assert reply.ok, reply
                assert reply.result is not None
                versions[str(reply.id)] = reply.result
        current = [await admin.ok("get", {"service": f"s{n}"}) for n in range(SERVICES)]

    made = requests(daemon)
    assert {jti: made[jti] for jti in versions} == dict.fromkeys(versions, 1)
    assert len(versions) == WRITES * len(ROUNDS)
    assert sum(document["version"] for document in current) == len(versions) + SERVICES
    for document in current:
        mine = {jti for jti, result in versions.items() if result["service"] == document["service"]}
        assert document["config"].keys() == {jti.replace("-", "_") for jti in mine}
        assert sorted(int(str(versions[jti]["version"])) for jti in mine) == list(range(2, document["version"] + 1))
