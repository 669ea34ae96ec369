"""Many callers at once: who wins, and what the others are told."""

import asyncio
from contextlib import AsyncExitStack

from setpoint_contracts import Reply
from tests.caller import Caller, calling
from tests.daemon import Daemon

CALLERS = 8
ROUNDS = 40


async def test_of_eight_writers_with_one_expected_version_one_wins(
    shared_daemon: Daemon,
    admin: Caller,
    service: str,
) -> None:
    """Forty rounds: one winner each, seven conflicts that carry the current document, and the winner's state stays."""
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(calling(shared_daemon)) for _ in range(CALLERS)]
        # Callers of one principal hear each other's replies: each has a reply topic of its own.
        topics = [admin.topics.reply("admin", f"{service}/{number}") for number in range(CALLERS)]
        for version in range(ROUNDS):
            replies = await asyncio.gather(
                *(
                    caller.call(
                        "set",
                        {"service": service, "config": {"by": number, "round": version}, "expected_version": version},
                        reply_to=topics[number],
                    )
                    for number, caller in enumerate(callers)
                )
            )
            check_round(version, replies, await admin.ok("get", {"service": service}))


def check_round(version: int, replies: list[Reply], current: dict[str, object]) -> None:
    """One reply is ok and made the current document; each of the others conflicts with it."""
    (winner,) = [number for number, reply in enumerate(replies) if reply.ok]
    assert (current["version"], current["config"]) == (version + 1, {"by": winner, "round": version})
    for reply in replies:
        if reply.error is not None:
            assert reply.error.code == "version_conflict"
            assert reply.error.details == {"current": current}


async def test_writers_without_expected_version_all_win(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Each patch is applied to what the one before it left: none is lost, and there are as many versions."""
    await admin.ok("set", {"service": service, "config": {}})
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(calling(shared_daemon)) for _ in range(4)]
        writes = [
            caller.ok("patch", {"service": service, "patch": {f"k{number}_{n}": n}})
            for number, caller in enumerate(callers)
            for n in range(25)
        ]
        versions = [result["version"] for result in await asyncio.gather(*writes)]
    assert sorted(versions) == list(range(2, 102))
    current = await admin.ok("get", {"service": service})
    assert (current["version"], len(current["config"])) == (101, 100)


async def test_commands_of_one_caller_are_carried_out_in_order(admin: Caller, service: str) -> None:
    """A hundred writes sent without waiting make a hundred versions in the order they were sent."""
    jtis = [f"{service}-{n}" for n in range(100)]
    for n, jti in enumerate(jtis):
        command = "set" if n % 2 else "patch" if n else "set"
        params = {"service": service, ("patch" if command == "patch" else "config"): {"n": n}}
        await admin.mqtt.publish(admin.topics.command(command), admin.sign(command, params, jti=jti), qos=1)
    replies = [await admin.reply(admin.topics.reply("admin", jti)) for jti in jtis]
    assert [reply.result and reply.result["version"] for reply in replies] == list(range(1, 101))
    assert [reply.result and reply.result["config"] for reply in replies] == [{"n": n} for n in range(100)]
