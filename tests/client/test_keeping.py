"""What is kept before it is told of: beside newer ones, on a slow or full disk, and while others hold the lock."""

import asyncio
import errno
import fcntl
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from pydantic import BaseModel

from setpoint import Client, cache
from setpoint.cache import Cache, Entry
from setpoint.follower import Order
from setpoint.keeping import Keeping
from setpoint.taken import Taken, document_of
from tests.brokers import Broker
from tests.client.conftest import ClientOf
from tests.daemon import Daemon
from tests.waiting import eventually, soon


class Stt(BaseModel):
    """A service's model."""

    threads: int = 1


class SlowDisk:
    """Holds up the first write of a service until it is let go; all else is the cache's own."""

    def __init__(self, client: Client, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._cache, self._service = cache_of(client), service
        self._keep = self._cache.keep
        self.begun, self.go = threading.Event(), threading.Event()
        monkeypatch.setattr(self._cache, "keep", self._slowly)

    def _slowly(self, entries: Sequence[Entry]) -> dict[str, Order]:
        if any(entry.service == self._service for entry in entries) and not self.begun.is_set():
            self.begun.set()
            assert self.go.wait(20)
        return self._keep(entries)


def cache_of(client: Client) -> Cache:
    """Return the cache of a client."""
    return client._following._cache  # noqa: SLF001


def keeping_of(client: Client) -> Keeping:
    """Return the way to it."""
    return client._following._keeping  # noqa: SLF001


def files(tmp_path: Path) -> dict[str, Path]:
    """Return the documents that are in the cache, by their names."""
    return {path.name: path for path in (tmp_path / "cache").rglob("*.json")}


async def test_a_newer_document_that_waits_stays(
    daemon: Daemon, client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who binds while a newer document waits for a slow disk gets that one, and so does who watches."""
    async with client_of(daemon) as client, client_of(daemon, cache_dir=tmp_path / "other") as writer:
        await writer.set("stt", {"threads": 1})
        watch = client.watch("*")
        assert (await soon(anext(watch))).version == 1
        disk = SlowDisk(client, "other", monkeypatch)
        await writer.set("other", {})
        await eventually(disk.begun.is_set, "its write has begun")
        await writer.set("stt", {"threads": 2})
        await eventually(lambda: "stt" in keeping_of(client), "version 2 waits")
        binding = asyncio.create_task(client.bind("stt", Stt))
        live = await soon(binding)
        assert live.value.threads == 1  # what is on disk, until the next is
        disk.go.set()
        await eventually(lambda: live.value.threads == 2, "version 2 is applied")
        assert {(await soon(anext(watch))).version for _ in range(2)} == {1, 2}


async def test_what_is_bound_while_it_is_written_is_kept_whole(
    daemon: Daemon, client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watched document of which only its order is being written is written itself before a binding has it."""
    async with client_of(daemon) as client, client_of(daemon, cache_dir=tmp_path / "other") as writer:
        disk = SlowDisk(client, "stt", monkeypatch)
        watching = asyncio.create_task(anext(client.watch("*")))
        await writer.set("stt", {"threads": 2})
        await eventually(disk.begun.is_set, "its write has begun")
        binding = asyncio.create_task(client.bind("stt", Stt))
        await eventually(lambda: client._following._sinks.exact, "it is followed")  # noqa: SLF001
        disk.go.set()
        live = await soon(binding)
        assert (live.source, live.version) == ("live", 1)
        assert json.loads(json.loads(files(tmp_path)["stt.json"].read_text())["newest"]["payload"])["version"] == 1
        assert (await soon(watching)).version == 1


async def test_a_write_that_failed_is_tried_again(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a full disk did not take counts all the same, and is written when it is heard again."""

    def full(_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with client_of(daemon) as client:
        await client.set("stt", {"threads": 2})
        with monkeypatch.context() as patch:
            patch.setattr(cache_of(client), "keep", full)
            live = await client.bind("stt", Stt)
            assert (live.value.threads, live.source, live.stale) == (2, "live", False)
        assert "stt.json" not in files(tmp_path)
        own_broker.stop()
        await eventually(lambda: live.stale, "the loss is noticed")
        own_broker.start()
        await eventually(lambda: "stt.json" in files(tmp_path), "it is written")
        await eventually(lambda: not live.stale, "it is heard")


async def test_pinning_holds_up_nothing_and_is_on_disk_first(
    daemon: Daemon, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds the lock, a client answers on, and believes no key; it follows once one is kept."""
    monkeypatch.setattr(cache, "_LOCK_PATIENCE_S", 30.0)
    async with client_of(daemon) as client:
        directory, trust = cache_of(client).directory, client._following.trust  # noqa: SLF001
        directory.mkdir(parents=True)
        with (directory / "_lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # nothing was awaited since the opening, so no key was seen yet
            binding = asyncio.create_task(client.bind("stt", Stt, timeout=20))
            await eventually(lambda: client._following._pinning, "a key was seen")  # noqa: SLF001
            await client.set("stt", {"threads": 2})
            assert (trust.pinned, (directory / "_keys.json").exists()) == ([], False)
        live = await soon(binding)
        assert (live.value.threads, live.source) == (2, "live")
        assert json.loads((directory / "_keys.json").read_text())["keys"] == trust.pinned


async def test_what_comes_after_a_batch_is_gathered(tmp_path: Path) -> None:
    """The first document is written at once; those that follow it closely share a batch, since each takes a while."""
    batches: list[list[str]] = []

    class Slow(Cache):
        def keep(self, entries: Sequence[Entry]) -> dict[str, Order]:
            batches.append([entry.service for entry in entries])
            threading.Event().wait(0.2)  # a slow card
            return super().keep(entries)

    told: asyncio.Queue[str] = asyncio.Queue()
    keeping = Keeping(
        Slow(tmp_path, "h", 1), {}, lambda _: False, lambda taken, _: told.put_nowait(taken.document.service)
    )
    running = asyncio.create_task(keeping.run())
    for services in (["a"], ["b", "c", "d"]):
        for service in services:
            document = {"service": service, "version": 1, "revision": 1, "epoch": 1, "config": {}}
            keeping.add(Taken(document_of(document), None), None)
            for _ in range(50):
                await asyncio.sleep(0)  # what may begin has begun
        assert [await soon(told.get()) for _ in services] == services
    assert batches == [["a"], ["b", "c", "d"]]
    running.cancel()
