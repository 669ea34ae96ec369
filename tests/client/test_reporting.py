"""Applied reports of bound services, as the daemon's `applied` lists them."""

import json

from pydantic import BaseModel

from setpoint import Client
from tests.brokers import Broker
from tests.caller import retained
from tests.client.conftest import ClientOf
from tests.daemon import Daemon
from tests.waiting import soon


class Stt(BaseModel):
    """A service's model."""

    threads: int = 1


async def test_what_is_applied_and_rejected_is_reported(
    shared_daemon: Daemon, client: Client, client_of: ClientOf, service: str
) -> None:
    """The newest document of each instance is listed, with why it was rejected, and `wait_applied` waits for it."""
    await client.set(service, {"threads": 1})
    async with client_of(shared_daemon, instance="pi-1") as one, client_of(shared_daemon, instance="pi-2") as two:
        await one.bind(service, Stt)
        await two.bind(service, Stt)
        found = await client.wait_applied(service, 1, share=1.0)
        assert {(report.instance, report.version, report.status) for report in found} <= {
            ("pi-1", 1, "applied"),
            ("pi-2", 1, "applied"),
        }
        written = await client.set(service, {"threads": 2})
        found = await client.wait_applied(service, 2)
        assert [(report.instance, report.version, report.revision, report.lag) for report in found] == [
            ("pi-1", 2, written.revision, 0),
            ("pi-2", 2, written.revision, 0),
        ]
        live = await one.bind(service, Stt)
        changes = live.changes()
        await client.set(service, {"threads": "x"})
        await soon(anext(changes))
        rejected = [await client.applied(service)]
        while {report.status for report in rejected[-1].instances} != {"rejected"}:
            rejected.append(await client.applied(service))
        assert {(report.version, report.error) for report in rejected[-1].instances} == {
            (3, "threads: Input should be a valid integer, unable to parse string as an integer")
        }


async def test_nothing_is_reported_unless_wanted(shared_daemon: Daemon, client: Client, service: str) -> None:
    """With `report=False` nothing is published."""
    await client.set(service, {"threads": 1})
    live = await client.bind(service, Stt, report=False)
    assert live.source == "live"
    await client.status()  # its reply comes behind all that was published before
    assert await retained(shared_daemon, shared_daemon.topics.applied(service, "+")) == {}


async def test_a_tombstone_is_reported_too(shared_daemon: Daemon, client_of: ClientOf, service: str) -> None:
    """Whoever went back to the defaults has applied the tombstone."""
    async with client_of(shared_daemon, instance="pi-1") as client:
        await client.set(service, {"threads": 1})
        await client.bind(service, Stt)
        deleted = await client.delete(service)
        (report,) = await client.wait_applied(service, deleted.version)
        assert (report.version, report.status, report.lag) == (2, "applied", 0)


async def test_is_reported_again_to_a_broker_that_forgot(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf
) -> None:
    """After a reconnect the report is made again: the broker may have lost it."""
    async with client_of(daemon, instance="pi-1") as client:
        await client.set("stt", {"threads": 1})
        await client.bind("stt", Stt)
        await client.wait_applied("stt", 1)
        topic = daemon.topics.applied("stt", "pi-1")
        own_broker.kill()  # what it retained since its last save is gone
        own_broker.start()
        await client.wait_applied("stt", 1)
        report = json.loads((await retained(daemon, topic))[topic])
        assert (report["service"], report["instance"], report["version"]) == ("stt", "pi-1", 1)
