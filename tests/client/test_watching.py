"""`watch` over a real broker and a running daemon."""

import asyncio
import contextlib
import gc

import pytest

from setpoint import Client, ConfigurationError, Document, asking
from setpoint.watching import Watch
from tests.brokers import Broker
from tests.caller import calling
from tests.client.conftest import ClientOf
from tests.daemon import Daemon
from tests.waiting import eventually, soon


async def read(watch: Watch, count: int) -> dict[str, int]:
    """Read so many documents; the versions by service."""
    found = {}
    for _ in range(count):
        document = await soon(anext(watch))
        found[document.service] = document.version
    return found


async def test_watches_one_service_through_its_life(client: Client, service: str) -> None:
    """First what is current, then what is set, deleted and set again, and nothing of other services."""
    await client.set(service, {"n": 1})
    await client.set(f"{service}-other", {"n": 1})
    seen: list[Document] = []
    async with asyncio.timeout(20):
        async for document in client.watch(service):
            seen.append(document)
            if document.version == 1:
                await client.set(service, {"n": 2})
            elif document.version == 2:
                await client.delete(service)
            elif document.deleted:
                await client.set(service, {"n": 4})
            else:
                break
    assert [(one.service, one.version, one.config, one.deleted) for one in seen] == [
        (service, 1, {"n": 1}, None),
        (service, 2, {"n": 2}, None),
        (service, 3, None, True),
        (service, 4, {"n": 4}, None),
    ]
    assert seen[1].updated_by == "admin"


async def test_watches_what_a_glob_matches(client: Client, service: str) -> None:
    """All current services of the pattern, and those that come later; no others."""
    for name in ("a", "b", "other"):
        await client.set(f"{service}-{name}", {})
    watch = client.watch(f"{service}-?")
    assert await read(watch, 2) == {f"{service}-a": 1, f"{service}-b": 1}
    await client.patch(f"{service}-other", {"n": 1})
    await client.set(f"{service}-c", {})
    await client.patch(f"{service}-a", {"n": 1})
    assert await read(watch, 2) == {f"{service}-c": 1, f"{service}-a": 2}
    every = client.watch(f"{service}-[!x]*")
    assert await read(every, 4) == {f"{service}-a": 2, f"{service}-b": 1, f"{service}-c": 1, f"{service}-other": 2}


async def test_a_slow_reader_has_the_newest(client: Client, service: str) -> None:
    """Who does not read for a while gets the newest of each service then, once, and nothing of what was between."""
    slow, quick = client.watch(f"{service}-*"), client.watch(f"{service}-*")
    await client.set(f"{service}-a", {"n": 0})
    await read(slow, 1)
    for n in range(1, 20):
        await client.set(f"{service}-a", {"n": n})
        await client.set(f"{service}-b", {"n": n})
    versions: dict[str, int] = {}
    while versions != {f"{service}-a": 20, f"{service}-b": 19}:
        versions |= await read(quick, 1)
    assert await read(slow, 2) == versions
    await client.set(f"{service}-c", {})
    assert await read(slow, 1) == {f"{service}-c": 1}


async def test_resumes_over_a_restart_of_the_broker(daemon: Daemon, own_broker: Broker, client_of: ClientOf) -> None:
    """What was written while the watcher had no broker is seen, the newest of each service and none twice."""
    async with client_of(daemon) as client:
        for name in ("a", "b"):
            await client.set(name, {"n": 1})
        watch, one = client.watch("?"), client.watch("a")
        assert await read(watch, 2) == {"a": 1, "b": 1}
        assert await read(one, 1) == {"a": 1}
        own_broker.stop()
        await eventually(lambda: not client.is_connected, "the loss is noticed")
        own_broker.start()
        async with calling(daemon) as admin:  # before or after the watcher is back
            for n in (2, 3):
                await admin.ok("set", {"service": "a", "config": {"n": n}})
            await admin.ok("set", {"service": "c", "config": {}})
            await admin.ok("delete", {"service": "b"})
        versions: dict[str, int] = {}
        while versions != {"a": 3, "b": 2, "c": 1}:
            ((service, version),) = (await read(watch, 1)).items()
            assert version > versions.get(service, 1 if service != "c" else 0)
            versions[service] = version
        while await read(one, 1) != {"a": 3}:
            pass  # version 2 may have been seen


async def test_sees_what_was_written_while_it_could_not(daemon: Daemon, client_of: ClientOf) -> None:
    """Writes of a whole absence are seen as the newest of each service, and tombstones too."""
    async with client_of(daemon) as client:
        for name in ("a", "b"):
            await client.set(name, {"n": 1})
        watch = client.watch("*")
        assert await read(watch, 2) == {"a": 1, "b": 1}
        await client._link.unsubscribe(daemon.topics.all_updated)  # noqa: SLF001 - as if it were away
        async with calling(daemon) as admin:
            for n in range(2, 10):
                await admin.ok("set", {"service": "a", "config": {"n": n}})
            await admin.ok("delete", {"service": "b"})
        await client._link.subscribe(daemon.topics.all_updated)  # noqa: SLF001
        assert await read(watch, 2) == {"a": 9, "b": 2}


async def test_finds_a_delete_whose_tombstone_was_cleared(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf
) -> None:
    """Nothing comes of a service that was deleted during a long absence: the daemon is asked, and tells of it."""
    async with client_of(daemon) as client:
        for name in ("gone", "stays"):
            await client.set(name, {"n": 1})
        watch, every = client.watch("gone"), client.watch("*")
        assert (await read(watch, 1), await read(every, 2)) == ({"gone": 1}, {"gone": 1, "stays": 1})
        topic = daemon.topics.updated("gone")
        await client._link.unsubscribe(topic)  # noqa: SLF001 - as if it were away
        await client._link.unsubscribe(daemon.topics.all_updated)  # noqa: SLF001
        async with calling(daemon, None, topic) as admin:
            await admin.ok("delete", {"service": "gone"})
            while b"deleted" not in bytes((await admin.message(topic)).payload):
                pass
            daemon.stop()  # it would repair what is cleared before its time
            await admin.mqtt.publish(topic, b"", qos=1, retain=True)
        own_broker.stop()
        await eventually(lambda: not client.is_connected, "the loss is noticed")
        own_broker.start()
        await client._link.subscribe(topic)  # noqa: SLF001
        await client._link.subscribe(daemon.topics.all_updated)  # noqa: SLF001
        daemon.start()
        found = await soon(anext(watch))
        assert (found.service, found.version, found.deleted) == ("gone", 2, True)
        assert await read(every, 1) == {"gone": 2}


async def test_sees_what_the_broker_drops(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more services than a broker's queue takes none is missed, nor by who follows more later: there is a list."""
    monkeypatch.setattr(asking, "_SILENCE_S", 0.2)
    monkeypatch.setattr(asking, "_PAGE", 40)
    async with client_of(daemon) as client:
        await client.apply([{"op": "set", "service": f"s{n:03}", "config": {}} for n in range(100)])
        while (await client.status()).outbox_pending:
            pass
    own_broker.stop()
    own_broker.configure("max_inflight_messages 10\nmax_queued_messages 10")
    own_broker.start()
    daemon.wait_ready()
    async with client_of(daemon) as client:
        few = client.watch("s09*")
        assert len(await read(few, 10)) == 10
        await eventually(lambda: not client._following._asking._wants_list, "it was asked for")  # type: ignore[union-attr]  # noqa: SLF001
        assert (await read(client.watch("*"), 100)).keys() == {f"s{n:03}" for n in range(100)}


async def test_who_leaves_is_not_subscribed_any_more(client: Client, service: str) -> None:
    """Leaving the loop, or `aclose`, ends it, and the last of a topic ends the subscription."""
    await client.set(service, {"n": 1})
    following = client._following  # noqa: SLF001
    topic = following._topics.updated(service)  # noqa: SLF001
    async for document in client.watch(service):
        assert document.version == 1
        break
    gc.collect()
    await eventually(lambda: topic not in client._link._wanted, "it is unsubscribed")  # noqa: SLF001
    await client.set(service, {"n": 2})
    watch, other = client.watch(service), client.watch(service)
    assert (await read(watch, 1), await read(other, 1)) == ({service: 2}, {service: 2})
    waiting = asyncio.create_task(anext(watch))
    await watch.aclose()
    with pytest.raises(StopAsyncIteration):
        await _of(waiting)
    await client.set(service, {"n": 3})
    assert await read(other, 1) == {service: 3}
    async with contextlib.aclosing(other):
        pass
    await eventually(lambda: topic not in client._link._wanted, "it is unsubscribed")  # noqa: SLF001


async def test_stays_closed(shared_daemon: Daemon, client_of: ClientOf, service: str) -> None:
    """After `aclose`, and after its client is closed, a watch has nothing more, whether it was read before or not."""
    async with client_of(shared_daemon) as client:
        await client.set(service, {})
        read_once, never_read, after = (client.watch(service) for _ in range(3))
        await read(read_once, 1)
        await client.set(service, {"n": 2})
        for watch in (read_once, never_read):
            await watch.aclose()
            assert await soon(anext(watch, None)) is None
        await eventually(lambda: service not in client._following._sinks.exact, "nobody follows")  # noqa: SLF001
    assert await soon(anext(after, None)) is None


async def _of(task: "asyncio.Task[Document]") -> Document:
    try:
        return await task
    except RuntimeError as error:  # so a task tells of StopAsyncIteration
        raise error.__cause__ or error from None


async def test_ends_with_its_client(shared_daemon: Daemon, client_of: ClientOf, service: str) -> None:
    """When the client is closed, a loop over a watch ends."""
    async with client_of(shared_daemon) as client:
        await client.set(service, {})
        watch = client.watch(service)
        await read(watch, 1)
        never_read = client.watch("*")
    assert [document async for document in watch] == []
    assert [document async for document in never_read] == []


async def test_a_document_is_the_readers_own(client: Client, service: str) -> None:
    """What one reader does to a document, another does not see."""
    await client.set(service, {"list": [1]})
    one, other = client.watch(service), client.watch(service)
    document = await soon(anext(one))
    assert document.config is not None
    document.config["list"].append(2)
    assert (await soon(anext(other))).config == {"list": [1]}


async def test_patterns_are_checked(client: Client) -> None:
    """What is neither a name nor a glob is refused before anything is subscribed to."""
    for pattern in ("", "A*", "a/*", "a+", "x" * 63 + "*" * 2, "#", "*\n"):
        with pytest.raises(ConfigurationError):
            client.watch(pattern)
