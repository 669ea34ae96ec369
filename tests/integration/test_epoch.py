"""Two daemons, two stores, one broker: who writes, who waits, and who only reads (wire section 7)."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from setpoint_contracts.system import EpochClaim, Health
from tests.caller import calling, connecting, retained
from tests.daemon import Daemon, NewDaemon, make_data_dir
from tests.waiting import eventually, until

CHANGES: dict[str, dict[str, Any]] = {"set": {"config": {}}, "patch": {"patch": {}}, "delete": {}}


def clone(daemon: Daemon, path: Path) -> Path:
    """Copy the data directory of a daemon that is not running, as a backup of the card would be."""
    shutil.copytree(daemon.data_dir, path)
    return path


def mode_of(daemon: Daemon) -> dict[str, Any]:
    """Read what `/health` says."""
    found: dict[str, Any] = json.loads(daemon.probe("/health")[1] or "{}")
    return found


def wait_for_mode(daemon: Daemon, mode: str) -> None:
    """Wait until a daemon says that it is in a mode."""
    until(lambda: mode_of(daemon).get("mode") == mode, f"the daemon is {mode}")


async def claim_of(daemon: Daemon) -> EpochClaim:
    """Read the claim that is retained."""
    return EpochClaim.model_validate_json((await retained(daemon, daemon.topics.epoch))[daemon.topics.epoch])


async def test_each_run_is_an_epoch(new_daemon: NewDaemon) -> None:
    """After a stop, and after a kill, its own next life takes over with the next epoch; documents keep theirs."""
    daemon = new_daemon()
    for epoch, end in ((1, daemon.stop), (2, daemon.kill), (3, daemon.stop)):
        async with calling(daemon) as admin:
            reply = await admin.call("set", {"service": f"s{epoch}", "config": {}})
            assert reply.result is not None
            assert (reply.epoch, reply.result["epoch"]) == (epoch, epoch)
            assert (await admin.ok("get", {"service": "s1"}))["epoch"] == 1
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
        end()
        daemon.start()
        daemon.wait_ready()
    claim = await claim_of(daemon)
    assert (claim.epoch, claim.revision) == (4, 3)


async def test_an_old_health_document_holds_nobody_up(new_daemon: NewDaemon) -> None:
    """After a power cut a broker may say that an earlier life of the same store is alive; the next life takes over."""
    daemon = new_daemon()
    [earlier] = (await retained(daemon, daemon.topics.health)).values()
    daemon.stop()
    daemon.start()
    daemon.wait_ready()
    daemon.stop()
    async with connecting(daemon) as broker:
        await broker.publish(daemon.topics.health, earlier, qos=1, retain=True)
    daemon.start()
    daemon.wait_ready()
    assert mode_of(daemon)["epoch"] == 3


async def test_a_clone_waits_for_the_first_and_then_reads_only(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """Started by mistake it stands by: live, not ready, telling who holds it; the first works on, unharmed.

    When that one ends, the clone is behind: it answers reads, and writes nothing.
    """
    first = new_daemon()
    first.stop()
    second = new_daemon(data_dir=clone(first, tmp_path / "clone"), prefix=first.prefix, start=False)
    first.start()
    first.wait_ready()
    second.start()
    wait_for_mode(second, "standby")
    async with calling(first) as admin:
        holder = (await admin.ok("status"))["instance"]
        assert second.probe("/livez")[0] == 200
        status, text = second.probe("/readyz?verbose")
        assert status == 503
        assert f"instance {holder} is alive" in text
        assert (await admin.ok("set", {"service": "stt", "config": {"n": 1}}))["version"] == 1
        assert first.ready()
        assert first.metric("setpoint_broker_connections_total") == 1
        health = Health.model_validate_json((await retained(first, first.topics.health))[first.topics.health])
        assert (health.ok, str(health.instance)) == (True, holder)
        first.stop()
        wait_for_mode(second, "read_only")
        error = await admin.error("set", {"service": "stt", "config": {"n": 2}})
        assert (error["code"], error["details"]) == ("read_only", {"reason": "stale_store"})


async def test_a_standby_ends_without_a_word(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """Stopping it changes nothing of what the first one says."""
    first = new_daemon()
    make_data_dir(tmp_path / "foreign")
    second = new_daemon(data_dir=tmp_path / "foreign", prefix=first.prefix, start=False)
    second.start()
    wait_for_mode(second, "standby")
    before = await retained(first, f"{first.prefix}#")
    assert second.stop() == 0
    assert await retained(first, f"{first.prefix}#") == before


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_foreign_store_reads_only(end: str, new_daemon: NewDaemon, tmp_path: Path) -> None:
    """When the first one is gone, a daemon with another store answers reads, and does not touch what is retained."""
    first = new_daemon()
    async with calling(first) as admin:
        await admin.ok("set", {"service": "stt", "config": {"n": 1}})
    until(lambda: first.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
    make_data_dir(tmp_path / "foreign")
    second = new_daemon(data_dir=tmp_path / "foreign", prefix=first.prefix, start=False)
    second.start()
    wait_for_mode(second, "standby")
    {"stop": first.stop, "kill": first.kill}[end]()
    before = await retained(first, first.topics.all_updated, first.topics.epoch)
    wait_for_mode(second, "read_only")
    assert second.ready()
    assert mode_of(second)["status"] == "warn"
    async with calling(second) as stranger:
        status = await stranger.ok("status")
        assert (status["mode"], status["reason"], status["services"]) == ("read_only", "foreign_store", 0)
        error = await stranger.error("set", {"service": "stt", "config": {}})
        assert (error["code"], error["retryable"]) == ("read_only", True)
        assert error["details"] == {"reason": "foreign_store"}
        assert (await stranger.error("get", {"service": "stt"}))["code"] == "not_found"
    assert await retained(first, first.topics.all_updated, first.topics.epoch) == before
    health = Health.model_validate_json((await retained(first, first.topics.health))[first.topics.health])
    assert (health.ok, health.mode) == (True, "read_only")


async def test_a_stale_store_reads_only(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """A card restored from before some writes: it answers reads, refuses writes, and republishes nothing old."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "stt", "config": {"n": 1}})
        daemon.stop()
        old = clone(daemon, tmp_path / "old")
        daemon.start()
        daemon.wait_ready()
        await admin.ok("set", {"service": "stt", "config": {"n": 2}})
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
    daemon.stop()
    before = await retained(daemon, daemon.topics.all_updated, daemon.topics.epoch)
    restored = new_daemon(data_dir=old, prefix=daemon.prefix)
    async with calling(restored) as admin:
        status = await admin.ok("status")
        assert (status["mode"], status["reason"]) == ("read_only", "stale_store")
        assert (await admin.ok("get", {"service": "stt"}))["config"] == {"n": 1}
        for command, content in CHANGES.items():
            error = await admin.error(command, {"service": "stt", **content})
            assert (error["code"], error["details"]) == ("read_only", {"reason": "stale_store"})
        assert (await admin.error("set", {"service": "stt"}))["code"] == "bad_request"
        assert (await admin.error("set", {"service": "stt", "config": {}, "dry_run": True}))["code"] == "read_only"
    assert await retained(daemon, daemon.topics.all_updated, daemon.topics.epoch) == before
    restored.stop()
    daemon.start()  # the true one is as far as what is retained, and takes over again
    daemon.wait_ready()
    assert mode_of(daemon)["mode"] == "active"


async def test_a_stored_reply_is_repeated_while_read_only(new_daemon: NewDaemon) -> None:
    """What ran, ran: its reply comes again, though nothing new may run; what is refused now may run later."""
    daemon = new_daemon()
    async with calling(daemon) as admin:
        topic = admin.topics.command("set")
        ran = admin.sign("set", {"service": "stt", "config": {"n": 1}}, jti="ran", lifetime_s=600)
        later = admin.sign("set", {"service": "stt", "config": {"n": 2}}, jti="later", lifetime_s=600)
        first = await admin.exchange(topic, ran)
        assert first.ok
        # Another daemon's claim, at an epoch above this one's.
        claim = {**(await claim_of(daemon)).model_dump(mode="json"), "instance": "another one", "epoch": 99}
        await admin.mqtt.publish(daemon.topics.epoch, json.dumps(claim), qos=1)
        await eventually(lambda: mode_of(daemon)["mode"] == "read_only", "the daemon has given way")
        assert (await admin.ok("status"))["reason"] == "superseded"
        assert await admin.exchange(topic, ran) == first
        refused = await admin.exchange(topic, later)
        assert refused.error is not None
        assert (refused.error.code, refused.error.details) == ("read_only", {"reason": "superseded"})
        daemon.stop()
        daemon.start()  # nothing above its own is retained: it may write again
        daemon.wait_ready()
        assert (await admin.exchange(topic, later)).ok


async def test_claims_that_do_not_supersede(new_daemon: NewDaemon) -> None:
    """An older epoch, its own instance, garbage: the daemon goes on writing."""
    daemon = new_daemon()
    own = (await claim_of(daemon)).model_dump(mode="json")
    async with calling(daemon) as admin:
        for payload in (
            json.dumps({**own, "instance": "another one", "epoch": 0}),
            json.dumps({**own, "epoch": 99}),
            json.dumps({"epoch": 99}),
            "garbage",
            "",
        ):
            await admin.mqtt.publish(daemon.topics.epoch, payload, qos=1)
            assert (await admin.ok("status"))["mode"] == "active"


async def test_two_daemons_on_one_store_are_refused(new_daemon: NewDaemon) -> None:
    """A second one on the same data directory ends at once, with one line."""
    first = new_daemon()
    second = new_daemon(data_dir=first.data_dir, prefix=first.prefix, start=False)
    second.start()
    assert await asyncio.to_thread(second.wait) == 1
    assert second.log[-1] == f"setpointd: another setpointd runs on {first.data_dir}"
    assert first.ready()


async def test_a_health_document_without_a_daemon_keeps_a_clone_waiting(new_daemon: NewDaemon) -> None:
    """It waits for as long as somebody is said to live, and takes over when that changes."""
    daemon = new_daemon(start=False)
    alive = {"ok": True, "event": "online", "instance": "another one"}
    async with connecting(daemon) as other:
        await other.publish(daemon.topics.health, json.dumps(alive), qos=1, retain=True)
        daemon.start()
        await eventually(lambda: mode_of(daemon).get("mode") == "standby", "the daemon stands by")
        await other.publish(daemon.topics.health, json.dumps({**alive, "event": "mode"}), qos=1, retain=True)
        assert not daemon.ready()
        await other.publish(daemon.topics.health, json.dumps({**alive, "ok": False}), qos=1, retain=True)
        daemon.wait_ready()
