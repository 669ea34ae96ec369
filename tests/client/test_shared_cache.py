"""A cache that a bound service and those who watch share."""

import json
from pathlib import Path

from tests.brokers import Broker
from tests.client.conftest import ClientOf
from tests.client.test_starts import Stt, bound_once, files
from tests.daemon import Daemon
from tests.waiting import soon


async def test_watching_others_leaves_the_last_known_good(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf, tmp_path: Path
) -> None:
    """Who watches other services while a bound one is not running does not make its cache older than what was seen."""
    await bound_once(client_of, daemon)
    async with client_of(daemon) as client:
        watch = client.watch("v*")
        await client.set("stt", {"model": "large"})
        await client.set("vad", {})
        assert (await soon(anext(watch))).service == "vad"
    assert "stt" in json.loads((files(tmp_path) / "_seen.json").read_text())
    own_broker.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value.model, live.source, live.refused) == ("small", "cache", None)


async def test_watching_a_service_brings_its_cache_on(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf, tmp_path: Path
) -> None:
    """What a watcher sees of a service that was bound is its next start's, else the last good one."""
    await bound_once(client_of, daemon)
    async with client_of(daemon) as client:
        await client.set("stt", {"model": "large"})
        await client.set("vad", {})
        watch = client.watch("*")
        assert {(await soon(anext(watch))).service for _ in range(2)} == {"stt", "vad"}
    assert not (files(tmp_path) / "vad.json").exists()
    own_broker.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value.model, live.version, live.source) == ("large", 2, "cache")
    own_broker.start()
    async with client_of(daemon) as client:
        await client.set("stt", {"model": 7}, timeout=20)
        assert (await soon(anext(client.watch("stt")))).version == 3
    own_broker.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value.model, live.version, live.source, live.refused) == ("small", 1, "cache", None)
        assert str(live.error).startswith("model: ")
