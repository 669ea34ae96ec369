"""Waiting until instances run a version."""

import json

import aiomqtt
import pytest

from setpoint import Client, NotApplied
from tests.daemon import Daemon


async def test_a_share_of_the_instances_is_enough(client: Client, service: str, shared_daemon: Daemon) -> None:
    """`wait_applied` waits for that part of the known instances; when it does not come, it says who reported what."""
    await client.set(service, {"n": 1})
    version = (await client.set(service, {"n": 2})).version
    async with aiomqtt.Client(shared_daemon.host, shared_daemon.port) as mqtt:
        for instance, at, status in (("a", 2, "applied"), ("b", 1, "applied"), ("c", 2, "rejected")):
            report = {"service": service, "instance": instance, "version": at, "revision": 1, "status": status}
            topic = shared_daemon.topics.applied(service, instance)
            await mqtt.publish(topic, json.dumps({**report, "at": "2026-01-01T00:00:00Z"}), qos=1, retain=True)

        instances = await client.wait_applied(service, version, share=0.3, timeout=20)
        assert [one.instance for one in instances] == ["a", "b", "c"]
        assert len(await client.wait_applied(service, 1, share=0.6, timeout=20)) == 3
        with pytest.raises(NotApplied, match="1 of 3 instances") as error:
            await client.wait_applied(service, version, share=0.5, timeout=0.5)
        assert [one.status for one in error.value.instances] == ["applied", "applied", "rejected"]
