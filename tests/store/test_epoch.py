"""Making a store the truth (wire section 7): above all that was seen, in one step, and no number used twice."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from setpoint_contracts import Code
from setpoint_contracts.audit import AuditEvent
from setpoint_contracts.system import EpochAdvance, EpochAdvanceResult, Mode
from setpointd.errors import Rejected
from setpointd.handlers.epoch import advance, make_truth
from setpointd.records import Document, Sighting, Stamp
from setpointd.render import wire
from setpointd.store import Tx
from setpointd.store.files import DATABASE, open_writer
from tests.calls import NOW, lend, make_call
from tests.store.jobs import job, rows, write
from tests.stores import new_store

AHEAD = 4_102_444_800.0  # the year 2100


def documents(tx: Tx) -> dict[str, Document]:
    """Read the newest version of every service."""
    return {document.service: document for document in tx.config.all()}


@pytest.fixture
def parted(db: Database) -> Database:
    """Make a store that has fallen behind: `a` at version 2, `gone` deleted, `cleared` without its tombstone."""
    for service in ("a", "a", "gone", "cleared"):
        write(db, service, {"n": len(rows(db, "SELECT 1 FROM config_versions"))})
    write(db, "cleared", None, 1)
    write(db, "gone", None, 3)
    with job(db) as tx:
        assert tx.config.clear_tombstones("2026-01-01T00:00:02.000Z", 9) == 1
        tx.identity.take_over("i-1", now=0)
    return db


def test_every_service_gets_a_version_above_both(parted: Database) -> None:
    """Above the store's where that is higher, above the broker's where that is; with the content that the store has."""
    with job(parted, 9) as tx:
        before = documents(tx)
        make_truth(tx, Sighting(epoch=5, revision=90, versions={"a": 1, "gone": 7}), now=0)
        after = documents(tx)
    assert {service: document.version for service, document in after.items()} == {"a": 3, "gone": 8, "cleared": 3}
    assert {document.config == before[service].config for service, document in after.items()} == {True}
    assert [document.config for document in after.values()] == [{"n": 1}, None, None]


def test_all_of_it_is_one_revision_of_one_epoch(parted: Database) -> None:
    """Both above the store's and above those seen, and each version is made in them."""
    with job(parted, 9) as tx:
        counts = make_truth(tx, Sighting(epoch=5, revision=90, versions={"b": 4}), now=0).members
        after = documents(tx)
        now = tx.identity.now()
    assert (now.epoch, now.revision) == (6, 91)
    assert {(document.epoch, document.revision) for document in after.values()} == {(6, 91)}
    assert counts == {"epoch": 6, "revision": 91, "services": 3, "tombstones": 1}
    EpochAdvanceResult.model_validate(counts)


def test_a_service_that_only_the_broker_knows_gets_a_tombstone(db: Database) -> None:
    """Numbered above what is retained, so that who follows it learns that it is gone."""
    with job(db, 9) as tx:
        make_truth(tx, Sighting(epoch=5, revision=90, versions={"unknown": 4}), now=0)
        tombstone = tx.config.current("unknown")
        assert tombstone is not None
        assert (tombstone.version, tombstone.deleted, tombstone.revision) == (5, True, 91)
        assert tx.config.to_publish("unknown") == tombstone
        assert [row.ref for row in tx.outbox.first("documents", 9)] == ["unknown"]


def test_all_of_it_is_published_again(parted: Database) -> None:
    """Each service once, a tombstone that was cleared long ago too: somebody may still have what it replaced."""
    with job(parted, 9) as tx:
        tx.outbox.remove(tx.outbox.first("documents", 99))
        make_truth(tx, Sighting(), now=0)
        assert sorted(row.ref for row in tx.outbox.first("documents", 99)) == ["a", "cleared", "gone"]
        assert {document.service for document in tx.config.retained()} == {"a", "cleared", "gone"}


def test_the_versions_of_before_stay(parted: Database) -> None:
    """What was can still be read, and no key has changed."""
    with job(parted, 9) as tx:
        history = rows(parted, "SELECT * FROM config_history")
        make_truth(tx, Sighting(versions={"a": 40}), now=0)
        assert [document and document.config for document in (tx.config.at_version("a", n) for n in (1, 2, 41))] == [
            {"n": 0},
            {"n": 1},
            {"n": 1},
        ]
        assert rows(parted, "SELECT * FROM config_history") == history
    [made] = rows(parted, "SELECT op, updated_by FROM config_versions WHERE service = 'a' AND version = 41")
    assert made == {"op": "advance", "updated_by": "alice"}


def test_it_is_one_audit_event(parted: Database) -> None:
    """What was decided, by whom, and what came of it."""
    with job(parted, 9) as tx:
        before = tx.outbox.first("events", 99)
        make_truth(tx, Sighting(epoch=5, revision=90), now=0)
        [row] = [row for row in tx.outbox.first("events", 99) if row not in before]
        event = AuditEvent.model_validate(tx.audit.event(row.ref))
    assert (event.action, event.user, event.service, event.revision) == ("advance_epoch", "alice", None, 91)
    assert event.details == {"epoch": 6, "services": 3, "tombstones": 0}


@pytest.mark.parametrize(
    ("seen", "now", "epoch"),
    [(5, 0.0, 6), (0, 0.0, 2), (5, NOW, int(NOW)), (int(NOW) + 9, NOW, int(NOW) + 10), (5, AHEAD, int(AHEAD))],
    ids=["1970", "1970, nothing seen", "a clock that is right", "seen ahead of the clock", "far ahead"],
)
def test_the_epoch_is_above_all_and_by_the_clock(parted: Database, seen: int, now: float, epoch: int) -> None:
    """The clock counts only where it is ahead of all epochs."""
    with job(parted, 9) as tx:
        assert make_truth(tx, Sighting(epoch=seen), now).members["epoch"] == epoch


@pytest.mark.parametrize(("mode", "epoch"), [("read_only", 6), ("active", 7)])
def test_the_command_makes_this_daemon_the_writer_once_it_is_committed(mode: Mode, epoch: int) -> None:
    """The handler itself changes nothing outside the store; the writer goes one epoch further than who is none."""
    done: list[str] = []
    daemon = lend(seen=Sighting(epoch=5), activate=lambda: done.append("active"))
    daemon.runtime.mode = mode
    call = make_call(daemon, now=0.0)
    with tempfile.TemporaryDirectory() as directory:
        new_store(Path(directory), Stamp(call.at, "setpointd"))
        with closing(open_writer(Path(directory))) as db, job(db) as tx:
            result = advance(tx, call, EpochAdvance(expected_epoch=0))
    EpochAdvanceResult.model_validate(wire(result))
    assert result.members["epoch"] == epoch
    assert done == []
    call.committed()
    assert done == ["active"]


def test_a_decision_for_another_epoch_is_refused(parted: Database) -> None:
    """Who decided on what `status` said before somebody else did learns so, and nothing is written."""
    with job(parted, 9) as tx:
        before = tx.identity.now()
        with pytest.raises(Rejected) as caught:
            advance(tx, make_call(), EpochAdvance(expected_epoch=7))
        assert tx.identity.now() == before
    assert caught.value.code is Code.BAD_REQUEST
    assert caught.value.details["epoch"] == before.epoch == 1


class World:
    """Copies of one store, the one that runs, and what the broker has seen of them."""

    def __init__(self, directory: Path, *, forgetful: bool) -> None:
        self.directory = directory
        self.forgetful = forgetful
        self.open = ExitStack()
        self.seen = Sighting()
        self.said: dict[tuple[str, int, int], dict[str, Any]] = {}
        self.newest: dict[str, tuple[int, int]] = {}
        self.stores: list[Database] = []
        new_store(self._place(), Stamp("2026-01-01T00:00:00.000Z", "setpointd"))
        self._opened()
        self.running = self.stores[0]
        self.start(0, 0.0)

    def _place(self) -> Path:
        place = self.directory / str(len(self.stores))
        place.mkdir(exist_ok=True)
        return place

    def _opened(self) -> None:
        self.stores.append(self.open.enter_context(closing(open_writer(self._place()))))

    def copy(self, which: int) -> None:
        """Copy a card, or take a backup."""
        with closing(sqlite3.connect(self._place() / DATABASE)) as copy:
            self.stores[which % len(self.stores)].conn.backup(copy)
        self._opened()

    def start(self, which: int, now: float) -> None:
        """Start a daemon on one of the copies, after the one before it died; if it is stale, an operator decides."""
        self.running = self.stores[which % len(self.stores)]
        before = self.seen
        with job(self.running) as tx:
            own = tx.identity.now()
            if own.epoch < self.seen.epoch or own.revision < self.seen.revision:
                make_truth(tx, self.seen, now)
                self.publish(tx.config.all())
            else:
                tx.identity.take_over(f"i-{len(self.said)}", now)
            own = tx.identity.now()
        assert own.epoch > before.epoch
        assert own.revision >= before.revision
        self.remember(own.epoch, own.revision, {})

    def write(self, service: str, config: dict[str, Any] | None) -> None:
        """Write on the store that runs."""
        with job(self.running) as tx:
            base = tx.config.current(service)
            self.publish([tx.config.write_version(service, base, config, op="set", reason=None)])

    def publish(self, made: Any) -> None:
        """Take documents as a follower does, and check that they may be."""
        for document in made:
            place = (document.service, document.epoch, document.revision)
            assert self.said.setdefault(place, wire(document)) == wire(document)
            assert place[1:] > self.newest.get(document.service, (0, 0))
            assert document.version > self.seen.versions.get(document.service, 0)
            self.newest[document.service] = place[1:]
            self.remember(document.epoch, document.revision, {document.service: document.version})

    def remember(self, epoch: int, revision: int, versions: dict[str, int]) -> None:
        """Keep what the broker has seen, unless it forgets everything."""
        if not self.forgetful:
            self.seen = replace(
                self.seen,
                epoch=max(self.seen.epoch, epoch),
                revision=max(self.seen.revision, revision),
                versions={**self.seen.versions, **versions},
            )


COPIES = st.integers(0, 4)
CONFIGS = st.none() | st.fixed_dictionaries({"n": st.integers(0, 2)})
WRITES = st.tuples(st.just("write"), st.sampled_from("ab"), CONFIGS)
COPYING = st.tuples(st.just("copy"), COPIES)
ANY_CLOCK = st.sampled_from([0.0, 5.0, NOW, NOW + 1, AHEAD])


def carry_out(world: World, steps: list[tuple[Any, ...]]) -> None:
    """Do what is to be done with a world, then leave it."""
    with world.open:
        for step, *values in steps:
            getattr(world, step)(*values)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Make a directory for many worlds."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


# Two copies of one card are started and written to, one after the other.
PARTED = [("copy", 0), ("start", 0), ("write", "a", {"n": 0}), ("start", 1), ("write", "a", {"n": 1})]


@given(st.lists(WRITES | COPYING | st.tuples(st.just("start"), COPIES, ANY_CLOCK), max_size=14))
@example([(*step, 0.0) if step[0] == "start" else step for step in PARTED])
@settings(max_examples=60)
def test_no_pair_names_two_contents_whatever_the_clocks_say(place: Path, steps: list[tuple[Any, ...]]) -> None:
    """Copied, restored and started in any order: by what a broker remembers, each new pair is above all before."""
    with tempfile.TemporaryDirectory(dir=place) as directory:
        carry_out(World(Path(directory), forgetful=False), steps)


@given(st.lists(WRITES | COPYING | st.tuples(st.just("start"), COPIES), max_size=14))
@example(PARTED)
@settings(max_examples=60)
def test_no_pair_names_two_contents_where_the_broker_forgets(place: Path, steps: list[tuple[Any, ...]]) -> None:
    """Copies that are started at different times have epochs of their own, by the clock alone."""
    timed = [(*step, NOW + number) if step[0] == "start" else step for number, step in enumerate(steps)]
    with tempfile.TemporaryDirectory(dir=place) as directory:
        carry_out(World(Path(directory), forgetful=True), timed)
