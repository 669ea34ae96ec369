"""How much a principal may send (wire section 3, row 11), over the broker."""

import asyncio
from typing import Any

from setpoint_contracts import Reply
from tests.caller import Caller, calling
from tests.daemon import NewDaemon

PER_S = 20


async def burst(caller: Caller, count: int, command: str = "info", params: dict[str, Any] | None = None) -> list[Reply]:
    """Send so many at once and wait for all replies."""
    return list(await asyncio.gather(*(caller.call(command, params) for _ in range(count))))


def refused(replies: list[Reply]) -> list[Reply]:
    """Return those that were told to wait; the others must be ok."""
    told = [reply for reply in replies if reply.error is not None]
    assert {reply.error and reply.error.code for reply in told} <= {"rate_limited"}
    return told


async def test_a_principal_is_held_to_its_rate(new_daemon: NewDaemon) -> None:
    """Twice the rate passes at once, then it is told for how long to wait; others are served as if nothing were."""
    daemon = new_daemon(rate_limit_per_s=PER_S)
    guest, second = (daemon.new_token("guest", "viewer") for _ in range(2))
    other = daemon.new_token("other", "viewer")
    async with calling(daemon, guest) as one, calling(daemon, second) as two, calling(daemon, other) as third:
        told = refused(await burst(one, 10 * PER_S))
        assert 0 < len(told) <= 8 * PER_S
        reply = await two.call("info")  # the same principal with another token
        while reply.ok:  # the burst took a while
            reply = await two.call("info")
        assert reply.error is not None
        assert reply.error.retryable
        assert 0 < reply.error.details["retry_after_s"] <= 1 / PER_S
        assert not refused(await burst(third, PER_S))
        counted = len(told) + 1

        async def passes() -> bool:
            return (await one.call("info")).ok

        while not await passes():
            counted += 1
    series = 'setpoint_commands_total{code="rate_limited",command="info"}'
    assert daemon.metric(series) == counted


async def test_a_write_that_was_told_to_wait_runs_later(new_daemon: NewDaemon) -> None:
    """The same bytes: refused while over the rate, then carried out once, then repeated, also while over it again."""
    daemon = new_daemon(rate_limit_per_s=PER_S)
    async with calling(daemon) as admin:
        topic = admin.topics.command("patch")
        await admin.ok("set", {"service": "stt", "config": {}})
        await burst(admin, 3 * PER_S)
        command = admin.sign("patch", {"service": "stt", "patch": {"a": 1}})
        replies = [await admin.exchange(topic, command)]
        while not replies[-1].ok:
            replies.append(await admin.exchange(topic, command))
        assert all(reply.error.code == "rate_limited" for reply in replies[:-1] if reply.error)
        assert refused(await burst(admin, 3 * PER_S))
        assert await admin.exchange(topic, command) == replies[-1]
    assert replies[-1].result is not None
    assert replies[-1].result["version"] == 2


async def test_without_a_limit(new_daemon: NewDaemon) -> None:
    """0 takes any number, and `info` tells so; by default it tells the usual ones."""
    daemon = new_daemon(rate_limit_per_s=0)
    async with calling(daemon) as admin:
        assert not refused(await burst(admin, 1500))
        limits = (await admin.ok("info"))["limits"]
    assert (limits["rate_limit_per_s"], limits["rate_limit_burst"]) == (0, 0)
    async with calling(new_daemon()) as admin:
        limits = (await admin.ok("info"))["limits"]
    assert (limits["rate_limit_per_s"], limits["rate_limit_burst"]) == (500, 1000)
