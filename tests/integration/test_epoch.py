"""Two daemons, two stores, one broker: who writes, who waits, and who only reads (wire section 7)."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from operator import eq
from pathlib import Path
from typing import Any

import pytest

from setpoint_contracts.system import EpochClaim, Health
from setpoint_contracts.timestamps import seconds
from setpointd.keys import Keys
from tests.brokers import Broker
from tests.caller import Caller, calling, connecting, retained
from tests.daemon import Daemon, NewDaemon, make_data_dir
from tests.impostor import key_of, say, strange_key
from tests.waiting import DEADLINE_S, eventually, until

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
    """After a stop, and after a kill, its own next life takes over with a later epoch; documents keep theirs."""
    daemon = new_daemon()
    epochs = [int(time.time()) - 60]
    for end in (daemon.stop, daemon.kill, daemon.stop):
        async with calling(daemon) as admin:
            reply = await admin.call("set", {"service": f"s{len(epochs)}", "config": {}})
            assert reply.result is not None
            assert reply.epoch == reply.result["epoch"] > epochs[-1]  # and not below the clock's seconds
            epochs.append(reply.epoch)
            assert (await admin.ok("get", {"service": "s1"}))["epoch"] == epochs[1]
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
        end()
        daemon.start()
        daemon.wait_ready()
    claim = await claim_of(daemon)
    assert claim.epoch > epochs[-1]
    assert claim.revision == 3


async def test_an_old_health_document_holds_nobody_up(new_daemon: NewDaemon) -> None:
    """After a power cut a broker may say that an earlier life lives: it is asked once, in vain."""
    daemon = new_daemon()
    topic, key = daemon.topics.health, key_of(daemon.data_dir)
    earlier = json.loads((await retained(daemon, topic))[topic])
    daemon.stop()
    async with connecting(daemon) as broker:
        await say(broker, topic, earlier, key)
    daemon.start()
    daemon.wait_ready()
    began, decided = (seconds(daemon.events(name)[-1]["ts"]) for name in ("listening", "mode"))
    assert 3 <= decided - began < 2 * 3  # the time that it has to answer, and not a second time
    assert mode_of(daemon)["mode"] == "active"


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
        await supersede(daemon, admin)
        assert (await admin.ok("status"))["reason"] == "superseded"
        assert await admin.exchange(topic, ran) == first
        refused = await admin.exchange(topic, later)
        assert refused.error is not None
        assert (refused.error.code, refused.error.details) == ("read_only", {"reason": "superseded"})
        await admin.ok("epoch/advance")
        assert (await admin.exchange(topic, later)).ok


async def supersede(daemon: Daemon, caller: Caller, **changed: Any) -> dict[str, Any]:
    """Have another daemon of the same store claim an epoch above this one's; returns its claim."""
    claim = {**(await claim_of(daemon)).model_dump(mode="json"), "instance": "another one", "epoch": 2**40, **changed}
    await say(caller.mqtt, daemon.topics.epoch, claim, key_of(daemon.data_dir))
    await eventually(lambda: mode_of(daemon)["mode"] == "read_only", "the daemon has given way")
    return claim


async def test_claims_that_do_not_supersede(new_daemon: NewDaemon) -> None:
    """Unsigned, of another key, an older epoch, its own instance, garbage: it goes on writing, and repeats its own."""
    daemon = new_daemon()
    own = (await claim_of(daemon)).model_dump(mode="json")
    key, epoch = key_of(daemon.data_dir), daemon.topics.epoch
    other = {**own, "instance": "another one", "epoch": 2**40}
    async with calling(daemon) as admin:
        await say(admin.mqtt, epoch, other)
        await say(admin.mqtt, epoch, other, strange_key())
        await say(admin.mqtt, epoch, {**other, "store_id": "another"}, strange_key())
        await say(admin.mqtt, epoch, {**other, "store_id": "another"}, key)
        await say(admin.mqtt, epoch, {**other, "epoch": 0}, key)
        await say(admin.mqtt, epoch, {**own, "epoch": 2**40}, key)
        await say(admin.mqtt, epoch, b"garbage", key)
        await say(admin.mqtt, epoch, b"")
        for _ in range(2):
            assert (await admin.ok("status"))["mode"] == "active"
    await eventually(lambda: daemon.metric('setpoint_disbelieved_total{topic="epoch"}') == 8, "each is counted")
    await repaired(daemon, epoch, lambda claim: claim == own)


async def repaired(daemon: Daemon, topic: str, fits: Callable[[Any], bool]) -> None:
    """Wait until what is retained on a topic is as it should be, and signed by the daemon."""
    async with calling(daemon, None, topic) as witness, asyncio.timeout(DEADLINE_S):
        while True:
            message = await witness.message(topic)
            jws = dict(getattr(message.properties, "UserProperty", [])).get("jws", "")
            payload = bytes(message.payload)
            if Keys.load(daemon.data_dir).made(topic, payload, jws) and fits(json.loads(payload)):
                return


async def test_what_others_publish_while_it_runs_is_replaced(new_daemon: NewDaemon) -> None:
    """Forged updates, tombstones, orphans, health and keys: counted, logged, and replaced by what the store has."""
    daemon = new_daemon()
    topics, key = daemon.topics, key_of(daemon.data_dir)
    async with calling(daemon) as admin:
        first = await admin.ok("set", {"service": "stt", "config": {"n": 1}})
        replayed = {name: first[name] for name in first if name not in {"changed", "diff"}}
        await admin.ok("set", {"service": "stt", "config": {"n": 2}})
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
        now = json.loads((await retained(daemon, topics.updated("stt")))[topics.updated("stt")])
        forged = {**now, "revision": 2**50, "epoch": 2**50, "config": {"n": 666}}
        for document, by in ((forged, None), (forged, strange_key()), (replayed, key), (b"", None)):
            await say(admin.mqtt, topics.updated("stt"), document, by)
            await repaired(daemon, topics.updated("stt"), lambda document: document == now)
        await say(admin.mqtt, topics.updated("orphan"), {**forged, "service": "orphan"})
        await eventually_retained(daemon, topics.updated("orphan"), present=False)
        await say(admin.mqtt, topics.health, {"ok": False, "event": "offline", "instance": "nobody"})
        await repaired(daemon, topics.health, lambda health: health["ok"] is True)
        await say(admin.mqtt, topics.keys, {"keys": []})
        async with asyncio.timeout(DEADLINE_S):
            while b'"keys":[]' in (await retained(daemon, topics.keys))[topics.keys].replace(b" ", b""):
                pass
        assert (await admin.ok("status"))["mode"] == "active"
    assert daemon.metric('setpoint_disbelieved_total{topic="updated"}') >= 5
    assert {event["topic"] for event in daemon.events("disbelieved")} >= {topics.updated("stt"), topics.health}


async def eventually_retained(daemon: Daemon, topic: str, *, present: bool) -> None:
    """Wait until something, or nothing, is retained on a topic."""
    async with asyncio.timeout(DEADLINE_S):
        while (topic in await retained(daemon, topic)) is not present:
            pass


async def test_forged_documents_do_not_make_a_start_stale(new_daemon: NewDaemon) -> None:
    """Whatever is retained that its key has not signed, the next start is active, and mends it."""
    daemon = new_daemon()
    topics = daemon.topics
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "stt", "config": {"n": 1}})
    own = (await claim_of(daemon)).model_dump(mode="json")
    daemon.stop()
    before = await retained(daemon, topics.all_updated)
    high = {"revision": 2**50, "epoch": 2**50}
    document = {**json.loads(before[topics.updated("stt")]), **high}
    async with connecting(daemon) as forger:
        await say(forger, topics.updated("stt"), document)
        await say(forger, topics.updated("x"), {**document, "service": "x"}, strange_key())
        await say(forger, topics.updated("y"), b'{"revision":99999999}')
        await say(forger, topics.epoch, {**own, **high, "instance": "another one"})
        await say(forger, topics.health, {"ok": True, "event": "online", "instance": "another one", "timestamp": "1"})
    daemon.start()
    daemon.wait_ready()
    assert mode_of(daemon)["mode"] == "active"
    until(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
    await repaired(daemon, topics.updated("stt"), lambda found: found == json.loads(before[topics.updated("stt")]))
    for orphan in ("x", "y"):
        await eventually_retained(daemon, topics.updated(orphan), present=False)
    assert (await claim_of(daemon)).epoch < 2**50


async def test_a_document_that_lost_its_signature_is_signed_again(new_daemon: NewDaemon) -> None:
    """The right document without a signature, or with a wrong one, is of no use to a follower: it is published anew."""
    daemon = new_daemon()
    topics = daemon.topics
    async with calling(daemon) as admin:
        for service in ("bare", "forged"):
            await admin.ok("set", {"service": service, "config": {}})
    daemon.stop()
    documents = await retained(daemon, topics.all_updated)
    async with connecting(daemon) as forger:
        await say(forger, topics.updated("bare"), documents[topics.updated("bare")])
        await say(forger, topics.updated("forged"), documents[topics.updated("forged")], strange_key())
    daemon.start()
    daemon.wait_ready()
    for topic, payload in documents.items():
        await repaired(daemon, topic, partial(eq, json.loads(payload)))


async def test_another_stores_claim_without_any_signature_holds_nobody_back(new_daemon: NewDaemon) -> None:
    """Every daemon signs its claim; what has no signature is nobody's."""
    daemon = new_daemon(start=False)
    claim = {"store_id": "another", "epoch": 9, "revision": 9, "instance": "another one", "since": "x"}
    async with connecting(daemon) as forger:
        await say(forger, daemon.topics.epoch, claim)
        daemon.start()
        daemon.wait_ready()
        assert mode_of(daemon)["mode"] == "active"


async def test_two_daemons_on_one_store_are_refused(new_daemon: NewDaemon) -> None:
    """A second one on the same data directory ends at once, with one line."""
    first = new_daemon()
    second = new_daemon(data_dir=first.data_dir, prefix=first.prefix, start=False)
    second.start()
    assert await asyncio.to_thread(second.wait) == 1
    assert second.log[-1] == f"setpointd: another setpointd runs on {first.data_dir}"
    assert first.ready()


async def test_a_health_document_without_a_daemon_holds_nobody_back(new_daemon: NewDaemon) -> None:
    """It says that another store's daemon lives, which is asked for a proof and has none: 3 s later this one serves."""
    daemon = new_daemon(start=False)
    health = {"ok": True, "event": "online", "instance": "another one", "timestamp": "2026-01-01T00:00:00.000Z"}
    async with connecting(daemon) as other:
        await say(other, daemon.topics.health, health, strange_key())
        daemon.start()
        daemon.wait_ready()
        assert mode_of(daemon)["mode"] == "active"


async def test_what_was_said_before_is_no_proof_of_life(new_daemon: NewDaemon) -> None:
    """A dead daemon's own health document of an earlier moment, replayed when somebody asks, holds nobody off."""
    daemon = new_daemon()
    topics, key = daemon.topics, key_of(daemon.data_dir)
    latest = json.loads((await retained(daemon, topics.health))[topics.health])
    earlier = {**latest, "timestamp": "2026-01-01T00:00:00.000Z"}
    daemon.kill()
    async with connecting(daemon) as replayer:
        await say(replayer, topics.health, latest, key)
        await replayer.subscribe(topics.look_ask, qos=1)
        daemon.start()
        await anext(aiter(replayer.messages))
        await say(replayer, topics.health, earlier, key, retain=False)
        daemon.wait_ready()
    assert mode_of(daemon)["mode"] == "active"


async def test_a_claim_of_a_store_that_nobody_knows_holds_nobody_back(new_daemon: NewDaemon) -> None:
    """Another store counts only with a key that is retained beside its claim; a signature of just anybody does not."""
    daemon = new_daemon(start=False)
    topics = daemon.topics
    claim = {"store_id": "another", "epoch": 9, "revision": 9, "instance": "another one", "since": "x"}
    async with connecting(daemon) as forger:
        await say(forger, topics.epoch, claim, strange_key())
        await say(forger, topics.health, {"ok": True, "instance": "another one", "timestamp": "1"}, strange_key())
        daemon.start()
        daemon.wait_ready()
    assert mode_of(daemon)["mode"] == "active"


async def test_two_copies_that_both_advance_share_no_pair(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """With client ids of their own both get the command: their epochs differ, and the writer is the writer still."""
    original = new_daemon()
    topics = original.topics
    os.kill(original.pid, signal.SIGSTOP)
    copy = tmp_path / "copy"
    shutil.copytree(original.data_dir, copy)
    clone_ = new_daemon(data_dir=copy, prefix=original.prefix, start=False, client_id=f"{original.client_id}-copy")
    clone_.start()
    clone_.wait_ready()
    async with calling(clone_) as admin:
        await admin.ok("set", {"service": "stt", "config": {"by": "copy"}})
        os.kill(original.pid, signal.SIGCONT)
        wait_for_mode(original, "read_only")
        command = admin.sign("epoch/advance", jti="both", lifetime_s=600)
        await admin.mqtt.publish(topics.command("epoch/advance"), command, qos=1)
        replies = [await admin.reply(topics.reply("admin", "both")) for _ in range(2)]
        assert all(reply.ok for reply in replies)
        assert replies[0].epoch != replies[1].epoch
    wait_for_mode(original, "read_only")
    assert mode_of(clone_)["mode"] == "active"
    await repaired(clone_, topics.updated("stt"), lambda document: document.get("config") == {"by": "copy"})


@pytest.mark.parametrize("noise", [b"", b"noise", b'{"ok":false,"event":"offline","instance":"nobody"}'])
async def test_a_spoilt_health_topic_pushes_nobody_out(noise: bytes, new_daemon: NewDaemon, tmp_path: Path) -> None:
    """A copy that stands by does not take the word of a stranger for the daemon's end, nor silence."""
    first = new_daemon()
    topics = first.topics
    copy = tmp_path / "copy"
    shutil.copytree(first.data_dir, copy)
    second = new_daemon(data_dir=copy, prefix=first.prefix, start=False)
    second.start()
    wait_for_mode(second, "standby")
    async with calling(first, None, topics.look_ask) as admin:
        for _ in range(3):
            await say(admin.mqtt, topics.health, noise)
        second.stop()
        await say(admin.mqtt, topics.health, noise)
        second.start()
        await admin.message(topics.look_ask)
        wait_for_mode(second, "standby")
        assert (await admin.ok("set", {"service": "stt", "config": {}}))["version"] == 1
    assert first.ready()


async def test_what_a_broker_has_shown_is_not_forgotten(
    own_broker: Broker, new_daemon: NewDaemon, tmp_path: Path
) -> None:
    """A stale store whose broker loses its memory before the decision still issues no number a second time."""
    daemon = new_daemon(broker=own_broker)
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "stt", "config": {"n": 0}})
        daemon.stop()
        old = clone(daemon, tmp_path / "old")
        daemon.start()
        daemon.wait_ready()
        for n in range(1, 5):
            newest = await admin.ok("set", {"service": "stt", "config": {"n": n}})
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
    daemon.stop()
    restored = new_daemon(broker=own_broker, data_dir=old, prefix=daemon.prefix)
    assert mode_of(restored)["mode"] == "read_only"
    own_broker.kill()
    until(lambda: not restored.ready(), "the daemon has noticed")
    own_broker.start()
    restored.wait_ready()
    async with calling(restored) as admin:
        result = await admin.ok("epoch/advance")
        assert result["revision"] > newest["revision"]
        assert (await admin.ok("get", {"service": "stt"}))["version"] == newest["version"] + 1


async def test_noise_is_no_proof_of_life_and_hides_none(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """Who answers in a living daemon's stead without its key is not heard, and the daemon's own answer still is."""
    first = new_daemon()
    topics = first.topics
    first.stop()
    second = new_daemon(data_dir=clone(first, tmp_path / "clone"), prefix=first.prefix, start=False)
    first.start()
    first.wait_ready()
    async with connecting(first) as noise:
        await noise.subscribe(topics.look_ask, qos=1)
        second.start()
        await anext(aiter(noise.messages))
        for document in (b"", b"noise", {"ok": False, "timestamp": "now", "instance": "nobody"}):
            await say(noise, topics.health, document, retain=False)
        wait_for_mode(second, "standby")
    assert first.ready()


async def test_a_copy_of_a_running_data_directory_stands_by(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """Made while the first daemon runs and before it writes again: its health names the very instance of the copy."""
    first = new_daemon()
    copy = tmp_path / "copy"
    shutil.copytree(first.data_dir, copy)
    second = new_daemon(data_dir=copy, prefix=first.prefix, start=False)
    second.start()
    wait_for_mode(second, "standby")
    async with calling(first) as admin:
        assert (await admin.ok("set", {"service": "stt", "config": {}}))["version"] == 1
    assert first.ready()
    assert not second.ready()


async def test_standbys_leave_each_other_and_the_daemon_in_peace(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """A proof of life for one of them is no news to the other: they do not keep each other asking."""
    first = new_daemon()
    topics = first.topics
    standbys = []
    for name in ("one", "two"):
        make_data_dir(tmp_path / name)
        standbys.append(new_daemon(data_dir=tmp_path / name, prefix=first.prefix, start=False))
    async with calling(first, None, topics.look_ask) as witness:
        for standby in standbys:
            standby.start()
            wait_for_mode(standby, "standby")
            await witness.message(topics.look_ask)
        with pytest.raises(TimeoutError):  # nobody asks again
            async with asyncio.timeout(3):
                await witness.message(topics.look_ask)


# Making a store the truth


async def test_a_restored_card_becomes_the_truth(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """A stale store advances: versions above all that was seen, tombstones for what it does not know."""
    daemon = new_daemon()
    topics = daemon.topics
    async with calling(daemon) as admin:
        await admin.ok("set", {"service": "stt", "config": {"n": "old"}})
        await admin.ok("set", {"service": "gone", "config": {}})
        await admin.ok("delete", {"service": "gone"})
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
        daemon.stop()
        old = clone(daemon, tmp_path / "old")
        daemon.start()
        daemon.wait_ready()
        for n in range(3):
            await admin.ok("set", {"service": "stt", "config": {"n": n}})
        await admin.ok("set", {"service": "gone", "config": {"back": True}})
        newest = await admin.ok("set", {"service": "later", "config": {}})
        await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
    daemon.stop()
    seen = await claim_of(daemon)
    restored = new_daemon(data_dir=old, prefix=daemon.prefix)
    async with calling(restored) as admin:
        status = await admin.ok("status")
        assert (status["mode"], status["reason"]) == ("read_only", "stale_store")
        refused = await admin.error("epoch/advance", {"expected_epoch": status["epoch"] - 1})
        assert (refused["code"], refused["details"]["epoch"]) == ("bad_request", status["epoch"])
        command = admin.sign("epoch/advance", {"expected_epoch": status["epoch"]}, jti="truth", lifetime_s=600)
        first = await admin.exchange(topics.command("epoch/advance"), command)
        assert first.ok, first
        assert await admin.exchange(topics.command("epoch/advance"), command) == first
        result = first.result
        assert result is not None
        assert (result["services"], result["tombstones"]) == (2, 1)
        assert result["epoch"] > seen.epoch
        assert result["revision"] == seen.revision + 1 == newest["revision"] + 1
        stt = await admin.ok("get", {"service": "stt"})
        assert (stt["version"], stt["config"], stt["revision"]) == (5, {"n": "old"}, result["revision"])
        await eventually(lambda: restored.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
        kept = {
            topics.updated_service(topic): json.loads(text)
            for topic, text in (await retained(restored, topics.all_updated)).items()
        }
        assert kept["stt"] == stt
        assert {name: (kept[name].get("deleted"), kept[name]["version"]) for name in ("gone", "later")} == {
            "gone": (True, 4),
            "later": (True, 2),
        }
        pairs = {(document["epoch"], document["revision"]) for document in kept.values()}
        assert pairs == {(result["epoch"], result["revision"])}
        assert (await admin.ok("status"))["mode"] == "active"
        assert (await admin.ok("set", {"service": "later", "config": {}, "expected_version": 2}))["version"] == 3
        await repaired(restored, topics.epoch, lambda claim: claim["revision"] == result["revision"] + 1)
    restored.stop()
    daemon.start()  # the card that was taken out is the stale one now
    wait_for_mode(daemon, "read_only")


async def test_a_foreign_store_becomes_the_truth(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """What another store retained is replaced and cleared once an admin decides so."""
    first = new_daemon()
    async with calling(first) as admin:
        await admin.ok("set", {"service": "theirs", "config": {}})
        await eventually(lambda: first.metric("setpoint_outbox_pending") == 0, "the outbox is empty")
    first.stop()
    make_data_dir(tmp_path / "foreign")
    second = new_daemon(data_dir=tmp_path / "foreign", prefix=first.prefix)
    async with calling(second) as admin:
        assert (await admin.ok("status"))["reason"] == "foreign_store"
        await admin.ok("epoch/advance")
        assert (await admin.ok("set", {"service": "ours", "config": {}}))["version"] == 1
        await eventually_retained(second, second.topics.updated("theirs"), present=False)
        await eventually_retained(second, second.topics.updated("ours"), present=True)


async def test_only_an_admin_advances(shared_daemon: Daemon) -> None:
    """An operator is refused; so is what the command does not take."""
    async with calling(shared_daemon, shared_daemon.new_token("op", "operator")) as operator:
        assert (await operator.error("epoch/advance"))["details"]["needs"] == "admin.manage"
    async with calling(shared_daemon) as admin:
        for params in ({"dry_run": True}, {"reason": "x"}, {"expected_epoch": "1"}, {"expected_epoch": True}):
            assert (await admin.error("epoch/advance", params))["code"] == "bad_request"


async def test_a_broker_that_forgot_everything_is_told_no_old_pair_anew(new_daemon: NewDaemon, tmp_path: Path) -> None:
    """A cloned card beside a broker without memory: its versions have other (epoch, revision) than the original's."""
    daemon = new_daemon()
    daemon.stop()
    copy = clone(daemon, tmp_path / "copy")
    pairs = []
    for number, data_dir in enumerate((daemon.data_dir, copy)):
        lone = new_daemon(data_dir=data_dir)  # below a prefix of its own, where nothing is retained
        async with calling(lone) as admin:
            document = await admin.ok("set", {"service": "stt", "config": {"card": number}})
        pairs.append((document["epoch"], document["revision"]))
        until(partial(is_past, document["epoch"]), "the clock is past that epoch")
    assert pairs[0] != pairs[1]
    assert pairs[0][1] == pairs[1][1]


def is_past(epoch: int) -> bool:
    """Say whether a take-over would begin another epoch by now."""
    return time.time() >= epoch + 1
