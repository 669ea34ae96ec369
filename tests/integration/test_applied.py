"""``applied``: who runs what, as far as instances report it (wire section 6)."""

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any

from tests.brokers import Broker
from tests.caller import Caller, calling, connecting
from tests.daemon import Daemon, NewDaemon
from tests.waiting import DEADLINE_S, eventually

AT = "2026-01-01T00:00:00.000Z"


def body(service: str, instance: str, version: int, **more: Any) -> dict[str, Any]:
    """One report."""
    fine = {"service": service, "instance": instance, "version": version, "revision": version, "status": "applied"}
    return {**fine, "at": AT, **more}


async def report(caller: Caller, service: str, instance: str, version: int, **more: Any) -> None:
    """Publish a report as a service does; what this caller sends later comes to the daemon later."""
    payload = json.dumps(body(service, instance, version, **more))
    await caller.mqtt.publish(caller.topics.applied(service, instance), payload, qos=1, retain=True)


def ignored(daemon: Daemon, reason: str) -> float:
    """Read how much was ignored for a reason."""
    return daemon.metric(f'setpoint_applied_ignored_total{{reason="{reason}"}}')


async def until_applied(caller: Caller, expected: list[tuple[str, int]]) -> None:
    """Ask until the instances and their versions are these."""
    end = time.monotonic() + DEADLINE_S
    while True:
        instances = (await caller.ok("applied"))["instances"]
        if [(found["instance"], found["version"]) for found in instances] == expected:
            return
        assert time.monotonic() < end, instances


async def test_reports_are_listed_with_their_lag(admin: Caller, service: str) -> None:
    """In the order of names, as reported; `error` only where there is one; ahead of the store is no lag."""
    assert await admin.ok("applied", {"service": service}) == {"instances": []}
    for n in range(3):
        await admin.ok("set", {"service": service, "config": {"n": n}})
    await report(admin, service, "pi-2", 1, status="rejected", error="no such model", at="2026-01-01T01:00:00+01:00")
    await report(admin, service, "pi-1", 2)
    await report(admin, service, "pi-1", 3)
    await report(admin, service, "Pi_3.x", 4)
    assert (await admin.ok("applied", {"service": service}))["instances"] == [
        {**body(service, "Pi_3.x", 4), "lag": 0},
        {**body(service, "pi-1", 3), "lag": 0},
        {**body(service, "pi-2", 1, status="rejected", error="no such model"), "lag": 2},
    ]


async def test_a_tombstone_is_a_version_to_follow(admin: Caller, service: str) -> None:
    """Of a deleted service, who has not taken the tombstone is behind, and who has is not."""
    await admin.ok("set", {"service": service, "config": {}})
    await admin.ok("delete", {"service": service})
    await report(admin, service, "a", 1)
    await report(admin, service, "b", 2)
    instances = (await admin.ok("applied", {"service": service}))["instances"]
    assert [found["lag"] for found in instances] == [1, 0]


async def test_an_empty_payload_clears(admin: Caller, service: str) -> None:
    """An instance that is gone is listed no more."""
    await admin.ok("set", {"service": service, "config": {}})
    await report(admin, service, "a", 1)
    await admin.mqtt.publish(admin.topics.applied(service, "a"), b"", qos=1, retain=True)
    assert await admin.ok("applied", {"service": service}) == {"instances": []}


async def test_a_scope_hides_other_services(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """A viewer of one service sees its instances only, and may not ask for another's."""
    for name in (service, f"x-{service}"):
        await admin.ok("set", {"service": name, "config": {}})
        await report(admin, name, "a", 1)
    await admin.ok("applied")  # the daemon has heard both
    viewer = shared_daemon.new_token("viewer", "viewer", "--services", f"{service}*")
    async with calling(shared_daemon, viewer) as caller:
        listed = (await caller.ok("applied"))["instances"]
        assert [found["service"] for found in listed] == [service]
        assert await caller.ok("applied", {"service": service}) == {"instances": listed}
        error = await caller.error("applied", {"service": f"x-{service}"})
    assert (error["code"], error["details"]) == ("forbidden", {"needs": "config.read", "service": f"x-{service}"})


async def test_garbage_harms_nothing(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """Counted by its reason, logged within bounds, kept nowhere; the daemon stays connected and answers."""
    await admin.ok("set", {"service": service, "config": {}})
    cases = [
        ("bad_report", service, "a", b"\xff\x00"),
        ("bad_report", service, "a", b"[" * 4000),
        ("bad_report", service, "a/b", json.dumps(body(service, "a", 1)).encode()[:-1]),
        ("bad_report", "Not A Service!", "é", json.dumps(body("Not A Service!", "é", 1)).encode()),
        ("too_large", service, "a", b"x" * 1_000_000),
        ("wrong_topic", service, "a", json.dumps(body(service, "b", 1)).encode()),
        ("unknown_service", f"{service}-none", "a", json.dumps(body(f"{service}-none", "a", 1)).encode()),
    ]
    before = {reason: ignored(shared_daemon, reason) for reason, *_ in cases}
    for _, named, instance, payload in cases:
        await admin.mqtt.publish(admin.topics.applied(named, instance), payload, qos=1, retain=True)
    assert await admin.ok("applied", {"service": service}) == {"instances": []}
    counted = {reason: ignored(shared_daemon, reason) - before[reason] for reason in before}
    # `…/a/b` has a level too many: no subscription matches it.
    assert counted == {"bad_report": 3, "too_large": 1, "wrong_topic": 1, "unknown_service": 1}
    assert shared_daemon.metric("setpoint_broker_connections_total") == 1
    for _, named, instance, _ in cases:
        await admin.mqtt.publish(admin.topics.applied(named, instance), b"", qos=1, retain=True)


async def test_a_thousand_instances_of_a_service(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """As many are listed; further ones are counted, and those that are there go on reporting."""
    await admin.ok("set", {"service": service, "config": {}})
    await asyncio.gather(*(report(admin, service, f"i-{n:04}", 0) for n in range(1005)))
    await report(admin, service, "i-0000", 1)
    instances = (await admin.ok("applied", {"service": service}))["instances"]
    assert [found["instance"] for found in instances[:2]] == ["i-0000", "i-0001"]
    assert instances[0]["version"] == 1
    assert len(instances) == 1000
    assert ignored(shared_daemon, "too_many") == 5
    await asyncio.gather(
        *(admin.mqtt.publish(admin.topics.applied(service, f"i-{n:04}"), b"", qos=1, retain=True) for n in range(1005))
    )


async def test_a_flood_does_not_starve_commands(shared_daemon: Daemon, admin: Caller, service: str) -> None:
    """While thousands of reports and as much garbage come in, each command is answered in good time, and none lost."""
    await admin.ok("set", {"service": service, "config": {}})
    good, bad = json.dumps(body(service, "a", 1)), "garbage"
    async with connecting(shared_daemon) as chatty:

        async def flood() -> None:
            for n in range(10_000):
                await chatty.publish(admin.topics.applied(service, "a"), good if n % 2 else bad, qos=0)

        flooding = asyncio.create_task(flood())
        slowest, asked = 0.0, 0
        while not flooding.done():
            began = time.monotonic()
            await admin.ok("set", {"service": service, "config": {"n": asked}})
            slowest, asked = max(slowest, time.monotonic() - began), asked + 1
        await flooding
    assert slowest < 2.0
    assert asked > 10
    assert shared_daemon.metric("setpoint_broker_connections_total") == 1
    assert len(shared_daemon.events("applied_ignored")) < 100


async def test_reports_come_again_after_a_restart(own_broker: Broker, new_daemon: NewDaemon) -> None:
    """They are retained: what was reported or cleared while the daemon or the connection was away is known after it."""
    daemon = new_daemon(broker=own_broker)
    async with calling(daemon) as admin:
        for service in ("a", "b"):
            await admin.ok("set", {"service": service, "config": {}})
        await report(admin, "a", "one", 1)
        await report(admin, "b", "two", 1)
        await until_applied(admin, [("one", 1), ("two", 1)])
        daemon.stop()
        await admin.mqtt.publish(admin.topics.applied("a", "one"), b"", qos=1, retain=True)
        for number in range(1500):  # more than a session would wait with before it serves
            await report(admin, "b" if number % 2 else "a", f"x{number:04}", 1)
        daemon.start()
        daemon.wait_ready()
        expected = sorted(("b" if number % 2 else "a", f"x{number:04}", 1) for number in range(1500))
        await until_applied(admin, [(name, version) for _, name, version in sorted([*expected, ("b", "two", 1)])])
    connections = daemon.metric("setpoint_broker_connections_total")
    own_broker.stop()
    own_broker.start()
    await eventually(
        lambda: daemon.metric("setpoint_broker_connections_total") > connections and daemon.ready(), "it is back"
    )
    async with calling(daemon) as admin:
        await until_applied(admin, [(name, version) for _, name, version in sorted([*expected, ("b", "two", 1)])])


async def test_a_read_only_daemon_hears_reports(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """Who decides which store counts wants to know what runs; one that is ahead of a restored store has no lag."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "stt", "config": {"n": 1}})
        daemon.stop()
        shutil.copytree(daemon.data_dir, tmp_path / "old")
        daemon.start()
        daemon.wait_ready()
        await admin.ok("set", {"service": "stt", "config": {"n": 2}})
        await report(admin, "stt", "one", 2)
    daemon.stop()
    restored = new_daemon(data_dir=tmp_path / "old", prefix=daemon.prefix)
    async with calling(restored) as admin:
        assert (await admin.ok("status"))["mode"] == "read_only"
        await until_applied(admin, [("one", 2)])
        assert (await admin.ok("applied"))["instances"][0]["lag"] == 0
