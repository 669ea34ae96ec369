"""What a client over MQTT and one in memory have in common: one set of tests, and both give the same answers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from setpoint import BadRequest, Client, NoConfig, NotFound, SetpointError, TooLarge, UnknownCommand, VersionConflict
from setpoint.testing.memory import MemoryClient
from tests.client.conftest import ClientOf

AnyClient = Client | MemoryClient


class Stt(BaseModel):
    """What a service of these tests has as its config."""

    model: str = "base"
    threads: int = 1


class Strict(BaseModel):
    """One without defaults."""

    threads: int


@pytest.fixture(params=["mqtt", "memory"])
async def any_client(request: pytest.FixtureRequest, client_of: ClientOf) -> AsyncIterator[AnyClient]:
    """Give a client of each kind; their stores begin empty or nearly so."""
    if request.param == "memory":
        async with MemoryClient() as memory:
            yield memory
    else:
        async with client_of(request.getfixturevalue("shared_daemon")) as client:
            yield client


async def test_versions_count_up(any_client: AnyClient, service: str) -> None:
    """Each write that changes something is a version, and says what it changed."""
    first = await any_client.set(service, {"a": 1, "b": {"c": [1, 2]}})
    same = await any_client.set(service, {"b": {"c": [1, 2]}, "a": 1.0})
    second = await any_client.patch(service, {"b": {"d": 1}, "a": None}, reason="because")

    assert (first.version, first.changed, same.version, same.changed, second.version) == (1, True, 1, False, 2)
    assert second.config == {"b": {"c": [1, 2], "d": 1}}
    assert [(part.op, part.path) for part in second.diff] == [("remove", "/a"), ("add", "/b/d")]
    assert second.revision > first.revision
    assert [info.reason for info in (await any_client.versions(service)).versions] == ["because", None]
    assert (await any_client.get(service)).model_dump(exclude={"value", "secrets_jwe"}) == second.model_dump(
        exclude={"changed", "diff", "dry_run"}
    )


async def test_expected_versions_decide(any_client: AnyClient, service: str) -> None:
    """A write at another version than the present one is refused with the document as it is now; 0 is absence."""
    await any_client.set(service, {"n": 1}, expected_version=0)
    for expected in (0, 2):
        with pytest.raises(VersionConflict) as conflict:
            await any_client.patch(service, {"n": 2}, expected_version=expected)
        assert conflict.value.current is not None
        assert (conflict.value.current.version, conflict.value.current.config) == (1, {"n": 1})
    await any_client.delete(service, expected_version=1)
    with pytest.raises(VersionConflict) as conflict:
        await any_client.set(service, {}, expected_version=1)
    assert conflict.value.current is not None
    assert (conflict.value.current.version, conflict.value.current.deleted) == (2, True)
    assert (await any_client.set(service, {"n": 3}, expected_version=0)).version == 3


async def test_what_is_not_there_is_not_found(any_client: AnyClient, service: str) -> None:
    """No service, no version, no key; of a deleted one the tombstone is told, and its versions stay."""
    calls: list[Any] = [
        lambda: any_client.get(service),
        lambda: any_client.patch(service, {}),
        lambda: any_client.delete(service),
        lambda: any_client.versions(service),
        lambda: any_client.diff(service, 1, 2),
    ]
    for call in calls:
        with pytest.raises(NotFound) as absent:
            await call()
        assert absent.value.current is None
    await any_client.set(service, {"n": 1})
    points: list[dict[str, Any]] = [{"version": 2}, {"key": "m"}, {"revision": 0}, {"time": "2020-01-01T00:00:00Z"}]
    for what in points:
        with pytest.raises(NotFound):
            await any_client.get(service, **what)
    tombstone = await any_client.delete(service)
    with pytest.raises(NotFound) as gone:
        await any_client.get(service)
    assert gone.value.current is not None
    assert gone.value.current.version == tombstone.version == 2
    assert (await any_client.get(service, version=2)).deleted
    assert (await any_client.get(service, version=1, key="n")).value == 1
    assert (await any_client.get(service, revision=tombstone.revision - 1)).version == 1


async def test_changes_are_made_all_or_none(any_client: AnyClient, service: str) -> None:
    """`apply` makes one revision of several changes; one that is refused says which it was, and nothing is done."""
    other = f"{service}-b"
    changes: list[dict[str, Any]] = [
        {"op": "set", "service": service, "config": {"a": 1}},
        {"op": "set", "service": other, "config": {"b": 1}},
    ]
    results = (await any_client.apply(changes)).results
    assert [result.version for result in results] == [1, 1]
    assert results[0].revision == results[1].revision

    changes = [
        {"op": "delete", "service": service},
        {"op": "patch", "service": other, "patch": {}, "expected_version": 7},
    ]
    with pytest.raises(VersionConflict) as conflict:
        await any_client.apply(changes)
    assert conflict.value.index == 1
    assert conflict.value.current is not None
    assert (await any_client.get(service)).version == 1


async def test_a_dry_run_changes_nothing(any_client: AnyClient, service: str) -> None:
    """It answers with what would be."""
    await any_client.set(service, {"a": 1})
    would = await any_client.patch(service, {"a": 2}, dry_run=True)

    assert (would.version, would.config, would.dry_run) == (2, {"a": 2}, True)
    assert (await any_client.get(service)).version == 1
    assert (await any_client.delete(service, dry_run=True)).dry_run
    assert (await any_client.apply([{"op": "delete", "service": service}], dry_run=True)).dry_run
    assert (await any_client.get(service)).version == 1


async def test_services_are_listed_and_found(any_client: AnyClient, service: str) -> None:
    """By prefix and page by page; by a text in key or value, in any case."""
    for n in range(5):
        await any_client.set(f"{service}-{n}", {"name": f"Alba{n}", "n": n})
    await any_client.delete(f"{service}-3")

    page = await any_client.list(f"{service}-", limit=3)
    assert [listed.service for listed in page.services] == [f"{service}-{n}" for n in (0, 1, 2)]
    assert page.services[0].keys == 2
    assert page.next == f"{service}-2"
    assert [listed.service async for listed in any_client.services(f"{service}-")] == [
        f"{service}-{n}" for n in (0, 1, 2, 4)
    ]
    found = await any_client.search("aLBA4", service=f"{service}-4")
    assert [(match.service, match.key, match.value) for match in found.matches] == [(f"{service}-4", "name", "Alba4")]


async def test_points_are_compared(any_client: AnyClient, service: str) -> None:
    """What makes one version out of another; a deletion counts as empty."""
    first = await any_client.set(service, {"a": 1})
    await any_client.set(service, {"a": 2})
    await any_client.delete(service)

    compared = await any_client.diff(service, 1, {"version": 2})
    assert [(part.path, part.old, part.new) for part in compared.diff] == [("/a", 1, 2)]
    gone = await any_client.diff(service, {"revision": first.revision}, 3)
    assert (gone.from_.version, gone.to.deleted, [part.op for part in gone.diff]) == (1, True, ["remove"])
    with pytest.raises(NotFound):
        await any_client.diff(service, 1, 9)


async def test_bad_input_is_refused(any_client: AnyClient, service: str) -> None:
    """What does not fit names its place; what is too large says so; an unknown command names those that there are."""
    with pytest.raises(BadRequest) as misfit:
        await any_client.call("set", {"service": "Not A Name", "config": {}, "more": 1})
    assert {error["field"] for error in misfit.value.errors} == {"service", "more"}
    with pytest.raises(BadRequest):
        await any_client.get(service, version=1, revision=1)
    with pytest.raises(TooLarge):
        await any_client.set(service, {"text": "x" * 140_000})
    with pytest.raises(UnknownCommand) as unknown:
        await any_client.call("nonsense")
    assert "set" in unknown.value.known


async def test_what_a_caller_keeps_is_his_own(any_client: AnyClient, service: str) -> None:
    """Changing what was given or answered changes nothing in the store."""
    config = {"a": {"b": 1}}
    await any_client.set(service, config)
    config["a"]["b"] = 2
    document = await any_client.get(service)
    assert document.config == {"a": {"b": 1}}
    document.config["a"]["b"] = 3
    assert (await any_client.get(service)).config == {"a": {"b": 1}}


async def test_an_update_sees_the_changes_of_others(any_client: AnyClient, service: str) -> None:
    """Read, change and write back: what others wrote meanwhile stays."""

    def count(config: dict[str, Any]) -> None:
        config["n"] = config.get("n", 0) + 1

    await asyncio.gather(*(any_client.update(service, count, attempts=50) for _ in range(5)))

    assert (await any_client.get(service)).config == {"n": 5}


async def test_a_bound_config_follows_its_service(any_client: AnyClient, service: str) -> None:
    """Live value, changes, a document that does not fit, a deletion."""
    await any_client.set(service, {"threads": 2})
    live = await any_client.bind(service, Stt, timeout=20)
    assert (live.value, live.source, live.version, live.stale) == (Stt(threads=2), "live", 1, False)

    changes = live.changes()
    await any_client.patch(service, {"threads": 3, "model": "small"})
    change = await anext(changes)
    assert (change.old.threads, change.new.threads, change.error) == (2, 3, None)
    assert [part.path for part in change.diff] == ["/model", "/threads"]

    await any_client.patch(service, {"threads": "many"})
    change = await anext(changes)
    assert "threads" in str(change.error)
    assert "many" not in str(change.error)
    assert (live.value.threads, live.version, live.stale, live.error) == (3, 2, True, change.error)

    await any_client.delete(service)
    change = await anext(changes)
    assert change.document.deleted
    assert (live.value, live.source) == (Stt(), "defaults")
    await live.aclose()


async def test_a_service_that_never_was_has_its_defaults(any_client: AnyClient, service: str) -> None:
    """The model's defaults, or those that are given; without any it is `NoConfig`."""
    assert (await any_client.bind(service, Stt, timeout=20)).source == "defaults"
    assert (await any_client.bind(service, Strict, defaults=Strict(threads=7), timeout=20)).value.threads == 7
    with pytest.raises(NoConfig, match=service):
        await any_client.bind(service, Strict, timeout=2)


async def test_watching_gives_the_newest_of_each(any_client: AnyClient, service: str) -> None:
    """First what is there, then what is newer, of a name and of a glob, tombstones too."""
    await any_client.set(f"{service}-a", {"n": 1})
    documents = any_client.watch(f"{service}-*")
    one = any_client.watch(f"{service}-b")
    assert (await anext(documents)).config == {"n": 1}
    await any_client.set(f"{service}-b", {"n": 2})
    assert [(await anext(found)).service for found in (documents, one)] == [f"{service}-b"] * 2
    for n in range(3, 6):
        await any_client.set(f"{service}-b", {"n": n})
    while (document := await anext(one)).config != {"n": 5}:
        pass
    await any_client.delete(f"{service}-b")
    document = await anext(one)
    assert (document.deleted, document.version) == (True, 5)
    await one.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(one)


async def test_memory_says_what_it_lacks() -> None:
    """A command that is not there in memory is refused with the way to have it."""
    client = MemoryClient({"stt": {"model": "base"}})
    with pytest.raises(UnknownCommand, match="setpoint_server"):
        await client.profile_save("p")
    assert (await client.get("stt")).config == {"model": "base"}
    assert (await client.info()).version == "memory"
    assert issubclass(UnknownCommand, SetpointError)
