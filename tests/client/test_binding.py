"""`bind` over a real broker and a running daemon: what is in force, and what is told of changes."""

import asyncio
import logging
import time
from datetime import date
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from setpoint import Client, ConfigurationError, NoConfig
from setpoint.keeping import Keeping
from setpoint.taken import Taken
from tests.client.conftest import ClientOf
from tests.daemon import Daemon
from tests.waiting import eventually, soon


class Stt(BaseModel):
    """A service's model, with a default for everything."""

    model: str = "base"
    threads: int = 1


class Strict(BaseModel):
    """One without."""

    model: str


async def test_binds_live_and_tells_of_a_change(client: Client, service: str) -> None:
    """What is set is the value; a change comes with both values, the document, and what differs."""
    await client.set(service, {"model": "small", "threads": 2})
    live = await client.bind(service, Stt)
    assert live.value == Stt(model="small", threads=2)
    assert (live.source, live.version, live.stale, live.error) == ("live", 1, False, None)
    assert (live.missing, live.refused) == ((), None)
    changes = live.changes()
    written = await client.patch(service, {"model": "large", "more": None})
    change = await soon(anext(changes))
    assert (change.old, change.new) == (Stt(model="small", threads=2), Stt(model="large", threads=2))
    assert change.document.model_dump() == (await client.get(service)).model_dump(exclude={"value", "secrets_jwe"})
    assert [*change.diff] == written.diff
    assert (change.source, change.error) == ("live", None)
    assert (live.value is change.new, live.version) == (True, 2)


async def test_an_invalid_document_keeps_the_last_good_one_and_says_so(client: Client, service: str) -> None:
    """A document that does not fit changes nothing but `error`, without its values; the next good one heals it."""
    await client.set(service, {"threads": 2})
    live = await client.bind(service, Stt)
    changes = live.changes()
    await client.set(service, {"threads": "xyzzy"})
    change = await soon(anext(changes))
    assert change.new is change.old is live.value
    assert (live.value, live.version, live.source, live.stale) == (Stt(threads=2), 1, "live", True)
    assert change.document.version == 2
    assert [one.path for one in change.diff] == ["/threads"]
    assert live.error == change.error
    assert change.error == "threads: Input should be a valid integer, unable to parse string as an integer"
    await client.set(service, {"threads": 3})
    change = await soon(anext(changes))
    assert (change.old.threads, change.new.threads, change.error) == (2, 3, None)
    assert (live.error, live.stale, live.version) == (None, False, 3)


async def test_a_validator_may_raise_anything(client: Client, service: str) -> None:
    """A fault in the service's own model rejects the document, and its text is told nowhere."""

    class Faulty(BaseModel):
        threads: int = 1

        @field_validator("threads")
        @classmethod
        def _check(cls, threads: int) -> int:
            return threads // (threads - 7)

    await client.set(service, {"threads": 7})
    live = await client.bind(service, Faulty)
    assert (live.source, live.error) == ("defaults", "the model failed with ZeroDivisionError")


async def test_a_model_may_be_strict(client: Client, service: str) -> None:
    """What JSON has no type for is taken from its text, as pydantic takes it from JSON; the wrong type is not."""

    class Precise(BaseModel):
        model_config = ConfigDict(strict=True)
        since: date
        pair: tuple[int, int] = (0, 0)
        names: frozenset[str] = frozenset()

    await client.set(service, {"since": "2026-11-26", "pair": [1, 2], "names": ["a", "b"]})
    live = await client.bind(service, Precise)
    assert (live.value.since, live.value.pair, live.value.names) == (date(2026, 11, 26), (1, 2), frozenset("ab"))
    changes = live.changes()
    await client.patch(service, {"pair": ["1", 2]})
    assert str((await soon(anext(changes))).error).startswith("pair.0: ")


async def test_a_model_may_have_no_defaults_for_any_reason(client: Client, service: str) -> None:
    """A model that cannot be made without a config, whatever it raises, is bound to a good one all the same."""

    class Picky(BaseModel):
        path: str = ""

        def model_post_init(self, _: object) -> None:
            if not self.path:
                raise FileNotFoundError(self.path)

    with pytest.raises(NoConfig):
        await client.bind(service, Picky, timeout=0.1)
    await client.set(service, {"path": "/etc"})
    assert (await client.bind(service, Picky)).value.path == "/etc"


@pytest.mark.parametrize("is_given", ["given", "made"])
async def test_defaults_that_were_changed_do_not_come_back(client: Client, service: str, is_given: str) -> None:
    """What a service does to a list in its value does not change the defaults that a tombstone brings back."""

    class Listing(BaseModel):
        tags: list[str] = ["a"]

    live = await client.bind(service, Listing, defaults=Listing() if is_given == "given" else None)
    live.value.tags.append("b")
    changes = live.changes()
    for _ in range(2):
        await client.set(service, {"tags": ["x"]})
        assert (await soon(anext(changes))).new.tags == ["x"]
        await client.delete(service)
        assert (await soon(anext(changes))).new == Listing(tags=["a"])
        live.value.tags.append("c")


async def test_a_member_may_refuse_to_be_compared(shared_daemon: Daemon, client_of: ClientOf, service: str) -> None:
    """A member whose comparison fails stops nothing: what comes goes on to count."""

    class Sly:
        def __eq__(self, other: object) -> bool:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]

    class Odd(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        sly: Annotated[Sly, BeforeValidator(lambda _: Sly())] = Field(default_factory=Sly)

    async with client_of(shared_daemon) as client:
        await client.set(service, {"sly": 1})
        await client.bind(service, Odd)
        await eventually(lambda: service in _keeping(client)._whole, "it is kept")  # noqa: SLF001
    async with client_of(shared_daemon) as client:
        live = await client.bind(service, Odd, timeout=0)  # the cached one, which is then heard again
        await eventually(lambda: not live.stale, "it is heard")
        assert live.source == "live"
        await client.set(service, {"sly": 2})
        await eventually(lambda: live.version == 2, "it is applied")


def _keeping(client: Client) -> Keeping:
    return client._following._keeping  # noqa: SLF001


async def test_a_deleted_service_has_the_defaults(client: Client, service: str) -> None:
    """A tombstone brings the model's defaults back, and what is set again counts."""
    await client.set(service, {"model": "small"})
    live = await client.bind(service, Stt)
    changes = live.changes()
    await client.delete(service)
    change = await soon(anext(changes))
    assert (change.new, change.document.deleted, change.source) == (Stt(), True, "defaults")
    assert (live.value, live.source, live.version, live.error) == (Stt(), "defaults", 2, None)
    assert [(one.op, one.path) for one in change.diff] == [("remove", "/model")]
    await client.set(service, {"model": "large"})
    assert (await soon(anext(changes))).new == Stt(model="large")
    assert (live.source, live.version) == ("live", 3)


async def test_a_deleted_service_without_defaults_keeps_its_last_value(client: Client, service: str) -> None:
    """Where the model has no defaults, the last value stays, and `error` says why; a new start has no config."""
    await client.set(service, {"model": "small"})
    live = await client.bind(service, Strict)
    changes = live.changes()
    await client.delete(service)
    assert "deleted" in str((await soon(anext(changes))).error)
    assert (live.value, live.version, live.stale) == (Strict(model="small"), 1, True)


async def test_a_service_that_never_was_has_the_defaults_at_once(client: Client, service: str) -> None:
    """The daemon is asked, so that a start does not wait for what does not come; what is set first is a change."""
    began = time.monotonic()
    live = await client.bind(service, Stt, defaults=Stt(model="mine"), timeout=30)
    assert time.monotonic() - began < 10
    assert (live.value, live.source, live.version, live.document) == (Stt(model="mine"), "defaults", 0, None)
    assert not live.stale  # the daemon has said so
    changes = live.changes()
    await client.set(service, {"model": "small"})
    change = await soon(anext(changes))
    assert (change.old, change.new, live.source, live.stale) == (Stt(model="mine"), Stt(model="small"), "live", False)


async def test_without_config_and_defaults_there_is_nothing_to_return(client: Client, service: str) -> None:
    """`NoConfig` says which service, and why; the same when all that there is does not fit."""
    with pytest.raises(NoConfig, match=f"{service} has no config: nothing is published of it"):
        await client.bind(service, Strict, timeout=0.5)
    await client.set(service, {"model": 7})
    with pytest.raises(NoConfig, match="rejected: model: Input should be a valid string"):
        await client.bind(service, Strict)


async def test_a_start_with_an_invalid_document_has_the_last_good_one(
    shared_daemon: Daemon, client_of: ClientOf, service: str
) -> None:
    """The newest document does not fit: after a restart too the cached good one is in force, and `error` says so."""
    async with client_of(shared_daemon) as client:
        await client.set(service, {"threads": 2})
        live = await client.bind(service, Stt)
        changes = live.changes()
        await client.set(service, {"threads": "x"})
        await soon(anext(changes))
    for _ in range(2):
        async with client_of(shared_daemon) as client:
            live = await client.bind(service, Stt)
            assert (live.value, live.source, live.version) == (Stt(threads=2), "cache", 1)
            assert str(live.error).startswith("threads: ")
            assert live.stale


async def test_every_iterator_has_every_change_since_its_making(
    shared_daemon: Daemon, client_of: ClientOf, service: str
) -> None:
    """Two readers each get all changes in their order, however slow they are; closing the client ends them."""
    async with client_of(shared_daemon) as client:
        await client.set(service, {"threads": 0})
        live = await client.bind(service, Stt)
        early = live.changes()
        for n in (1, 2):
            await client.set(service, {"threads": n})
            await eventually(lambda n=n: live.value.threads == n, "the change is applied")  # type: ignore[misc]
        late = live.changes()
        await client.set(service, {"threads": 3})
        await eventually(lambda: live.value.threads == 3, "the change is applied")
    assert [change.new.threads async for change in early] == [1, 2, 3]
    assert [change.new.threads async for change in late] == [3]
    assert [change async for change in live.changes()] == []


async def test_a_binding_can_be_left(client: Client, service: str) -> None:
    """After `aclose` the value stays, its iterators end, and a second binding of the service goes on."""
    await client.set(service, {"threads": 1})
    left, stays = await client.bind(service, Stt), await client.bind(service, Stt)
    changes, more = left.changes(), stays.changes()
    await left.aclose()
    await client.set(service, {"threads": 2})
    assert (await soon(anext(more))).new.threads == 2
    assert [change async for change in changes] == []
    assert (left.value.threads, stays.value.threads) == (1, 2)


async def test_what_was_left_is_stale(client: Client, service: str) -> None:
    """After `aclose` the value is not kept up to date, and says so; so does a new binding until it hears something."""
    await client.set(service, {"threads": 1})
    left, stays = await client.bind(service, Stt), await client.bind(service, Stt)
    await left.aclose()
    assert (left.stale, stays.stale) == (True, False)
    await stays.aclose()
    await eventually(lambda: service not in client._following._heard, "nobody follows")  # noqa: SLF001
    await client.set(service, {"threads": 2})
    again = await client.bind(service, Stt, timeout=0)
    assert (again.value.threads, again.source, again.stale) == (1, "cache", True)
    await eventually(lambda: (again.value.threads, again.stale) == (2, False), "what was missed is heard")


async def test_leaving_twice_leaves_once(
    shared_daemon: Daemon, client: Client, client_of: ClientOf, service: str
) -> None:
    """A second `aclose` has no effect: another binding of the same service goes on to be reported."""
    await client.set(service, {"threads": 1})
    async with client_of(shared_daemon, instance="pi-1") as bound:
        left, stays = await bound.bind(service, Stt), await bound.bind(service, Stt)
        await left.aclose()
        await left.aclose()
        assert bound._reporter._bound[service] == 1  # noqa: SLF001
        assert service in bound._reporter._reports  # noqa: SLF001
        assert not stays.stale


async def test_a_fault_is_logged_without_its_words(
    client: Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """When the keeping of what comes ends by a fault, the log says where, and what kind; its words may hold a value."""

    class Faulty:
        whole = False

        def take(self, taken: Taken) -> None:
            raise ValueError(taken.document.config)

        def close(self) -> None:
            """Nothing is to be done."""

    await client.set(service, {"model": "xyzzy"})
    client._following.follow(service, Faulty())  # noqa: SLF001
    await eventually(lambda: "setpoint cache ended by a fault: ValueError" in caplog.text, "the fault is logged")
    assert "in take" in caplog.text
    assert "xyzzy" not in caplog.text
    assert [record.levelname for record in caplog.records if "fault" in record.message] == ["ERROR"]


async def test_follows_without_a_token(shared_daemon: Daemon, client: Client, service: str, tmp_path: Path) -> None:
    """Who has no token follows all the same: documents are signed, and need no command."""
    await client.set(service, {"threads": 2})
    url = f"mqtt://{shared_daemon.host}:{shared_daemon.port}"
    async with Client(url, cache_dir=tmp_path, topic_prefix=shared_daemon.prefix) as follower:
        live = await follower.bind(service, Stt)
        assert (live.value.threads, live.source) == (2, "live")
        changes = live.changes()
        await client.set(service, {"threads": 3})
        assert (await soon(anext(changes))).new.threads == 3


async def test_no_value_is_shown(client: Client, service: str, caplog: pytest.LogCaptureFixture) -> None:
    """`repr` of what is bound and of its changes has versions and paths, and logs have reasons; none has a value."""
    caplog.set_level(logging.DEBUG)
    await client.set(service, {"model": "xyzzy"})
    live = await client.bind(service, Stt)
    changes = live.changes()
    await client.set(service, {"model": "plugh", "threads": "frotz"})
    change = await soon(anext(changes))
    assert repr(live) == (
        f"Live(service='{service}', version=1, source='live', stale=True, error='threads: Input should be a valid"
        " integer, unable to parse string as an integer', missing=[])"
    )
    assert f"Change(service='{service}', version=2, source='live', paths=['/model', '/threads']" in repr(change)
    for word in ("xyzzy", "plugh", "frotz"):
        assert word not in repr(live) + repr(change) + caplog.text


async def test_what_was_read_stays_as_it_was(client: Client, service: str) -> None:
    """A value can be read on while a newer one comes, and what a service does to a document changes nothing."""

    class Nested(BaseModel):
        tls: dict[str, str] = Field(default={})

    await client.set(service, {"tls": {"host": "a"}})
    live = await client.bind(service, Nested)
    before, changes = live.value, live.changes()
    assert live.document is not None
    assert live.document.config is not None
    live.document.config["tls"]["host"] = "spoilt"
    await client.patch(service, {"tls": {"port": "1"}})
    change = await soon(anext(changes))
    assert (before.tls, change.new.tls) == ({"host": "a"}, {"host": "a", "port": "1"})


async def test_names_are_checked(client: Client) -> None:
    """What is no name of a service is refused at once, and so is a client that is not open."""
    for name in ("", "Stt", "a/b", "*", "stt\n", "#"):
        with pytest.raises(ConfigurationError):
            await client.bind(name, Stt)
    closed = Client("mqtt://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="not open"):
        await closed.bind("stt", Stt)
    with pytest.raises(ConfigurationError, match="not open"):
        closed.watch("stt")


async def test_many_bindings_start_at_once(client: Client, service: str) -> None:
    """Bindings of one service and of several start side by side."""
    names = [f"{service}-{n}" for n in range(10)]
    for n, name in enumerate(names):
        await client.set(name, {"threads": n})
    lives = await soon(asyncio.gather(*(client.bind(name, Stt) for name in [*names, *names])))
    assert [live.value.threads for live in lives] == [*range(10), *range(10)]
    assert {live.source for live in lives} == {"live"}
