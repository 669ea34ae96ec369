"""Reading, changing and writing back: nobody's change is lost, and none counts twice."""

import asyncio
from typing import Any

import pytest

from setpoint import Client, NotFound, VersionConflict
from tests.client.conftest import ClientOf
from tests.daemon import Daemon, NewDaemon
from tests.waiting import eventually


def increment(config: dict[str, Any]) -> None:
    """Count one more."""
    config["n"] = config.get("n", 0) + 1


async def test_updates_at_once_all_count(client: Client, service: str) -> None:
    """Ten tasks that change one config at once each see the changes of the others."""
    await asyncio.gather(*(client.update(service, increment, attempts=100) for _ in range(10)))

    assert (await client.get(service)).config == {"n": 10}


async def test_an_update_begins_where_nothing_is(client: Client, service: str) -> None:
    """A service that never was, or is deleted, is updated from an empty config; what is returned is written."""
    assert (await client.update(service, lambda _: {"a": 1}, reason="first")).version == 1
    await client.delete(service)
    assert (await client.update(service, increment)).config == {"n": 1}


async def test_an_update_gives_up_in_the_end(client: Client, service: str) -> None:
    """Whoever is always overtaken gets the conflict after the last attempt, and has written nothing."""
    await client.set(service, {"n": 0})
    calls = 0

    async def overtake() -> None:
        await client.patch(service, {"other": calls})

    def change(config: dict[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        return {**config, "mine": True}

    first = client.set

    async def slow_set(*args: Any, **more: Any) -> Any:
        await overtake()
        return await first(*args, **more)

    client.set = slow_set  # type: ignore[method-assign] # the one moment at which somebody can be faster
    with pytest.raises(VersionConflict):
        await client.update(service, change, attempts=3)

    assert calls == 3
    assert "mine" not in ((await client.get(service)).config or {})


async def test_what_a_change_raises_is_the_callers(client: Client, service: str) -> None:
    """An error in the function that changes goes to the caller, and nothing is written."""
    with pytest.raises(ZeroDivisionError):
        await client.update(service, lambda config: {"n": 1 // len(config)})
    with pytest.raises(NotFound):
        await client.get(service)


@pytest.mark.crash
async def test_a_counter_equals_the_successes(new_daemon: NewDaemon, client_of: ClientOf) -> None:
    """Ten clients count one number up while the daemon is killed again and again: each success counts once."""
    daemon = new_daemon()
    successes, done = 0, asyncio.Event()

    async def count(client: Client) -> None:
        nonlocal successes
        while not done.is_set():
            await client.update("counter", increment, attempts=1000, timeout=30)
            successes += 1

    clients = [client_of(daemon) for _ in range(10)]
    for client in clients:
        await client.__aenter__()
    counting = [asyncio.create_task(count(client)) for client in clients]
    for kills in range(1, 5):
        enough = kills * 40
        await eventually(lambda enough=enough: successes >= enough, "some have succeeded")  # type: ignore[misc]
        await restart(daemon)
    done.set()
    await asyncio.gather(*counting)
    counted = (await clients[0].get("counter")).config
    for client in clients:
        await client.__aexit__()

    assert counted == {"n": successes}


async def restart(daemon: Daemon) -> None:
    """Kill a daemon and start it again, while others go on."""
    await asyncio.to_thread(daemon.kill)
    daemon.start()
    await eventually(daemon.ready, "the daemon is back")
