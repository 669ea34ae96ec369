"""What pruning removes and what stays, slice by slice, and what can be read of it afterwards."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from setpoint_contracts.timestamps import rfc3339
from setpointd.errors import HistoryPruned
from setpointd.records import Keep, Pruned, Pruning, Stamp
from setpointd.store import pruning
from setpointd.store.files import open_writer
from tests.store.conftest import MADE_AT, STORE_ID
from tests.store.jobs import FIRST_MOMENT, job, rows, write
from tests.stores import new_store


def prune(db: Database, at_s: float = 100, **keep: Any) -> Pruning:
    """Prune to the end, as the daemon does."""
    done = Pruning()
    while not done.over:
        with job(db, at_s) as tx:
            done = tx.pruning.slice(Keep(**keep), done)
    return done


def since(at_s: float) -> str:
    """Name a moment, in seconds from the first of 2026."""
    return rfc3339(FIRST_MOMENT + at_s)


def kept(db: Database, table: str = "config_versions") -> dict[str, list[int]]:
    """List the versions that are there, by service."""
    found: dict[str, list[int]] = {}
    for row in rows(db, f"SELECT DISTINCT service, version FROM {table} ORDER BY service, version"):  # noqa: S608 - a table of this test
        found.setdefault(row["service"], []).append(row["version"])
    return found


def history_of(db: Database, service: str, *times: float) -> None:
    """Make a version at each time."""
    for n, at_s in enumerate(times):
        write(db, service, {"n": n}, at_s)


def test_the_newest_versions_stay(db: Database) -> None:
    """So many of each service, the tombstone counted; a service with no more than these keeps all."""
    history_of(db, "a", 1, 2, 3, 4)
    history_of(db, "b", 1, 2)
    history_of(db, "c", 1, 2)
    write(db, "c", None, 3)
    done = prune(db, versions=2)
    assert kept(db) == {"a": [3, 4], "b": [1, 2], "c": [2, 3]}
    assert (done.versions, done.history) == (3, 3)
    assert prune(db, versions=2).versions == 0


def test_what_was_in_force_stays(db: Database) -> None:
    """By age goes only what was replaced by then: the version of that moment stays, and however old, the newest."""
    history_of(db, "a", 1, 2, 3)
    history_of(db, "b", 1)
    history_of(db, "c", 3, 4)
    done = prune(db, since=since(2.5))
    assert kept(db) == {"a": [2, 3], "b": [1], "c": [1, 2]}
    assert (done.versions, done.history) == (1, 1)
    prune(db, since=since(3))
    assert kept(db) == {"a": [3], "b": [1], "c": [1, 2]}


def test_a_tombstone_stays(db: Database) -> None:
    """A service that was deleted long ago is known by its tombstone alone, and goes on from there."""
    history_of(db, "a", 1, 2)
    write(db, "a", None, 3)
    prune(db, since=since(99), versions=1)
    assert kept(db) == {"a": [3]}
    with job(db) as tx:
        assert [document.service for document in tx.config.retained()] == ["a"]
    assert write(db, "a", {}, 5).version == 4


@pytest.mark.parametrize(("versions", "at_s", "left"), [(1, 2.5, [2, 3, 4]), (3, 9, [2, 3, 4]), (2, 9, [3, 4])])
def test_of_two_rules_both_must_say_so(db: Database, versions: int, at_s: float, left: list[int]) -> None:
    """Given an age and a number, what either of them keeps stays."""
    history_of(db, "a", 1, 2, 3, 4)
    prune(db, since=since(at_s), versions=versions)
    assert kept(db) == {"a": left}


def test_entries_go_with_their_version(db: Database) -> None:
    """All keys that a version changed; those of later ones stay. The very last entry of all keeps its place."""
    write(db, "a", dict.fromkeys("xyz", 1), 1)
    write(db, "a", {"x": 2}, 2)
    write(db, "b", {"x": 1}, 3)
    done = prune(db, versions=1)
    assert (done.versions, done.history) == (1, 3)
    assert kept(db, "config_history") == {"a": [2], "b": [1]}


def test_ids_of_entries_are_never_used_again(db: Database) -> None:
    """The last entry stays, though its version goes, until there is a later one: pages go by these ids."""
    write(db, "a", {"x": 1}, 1)
    with job(db, 2) as tx:
        tx.identity.advance(0, 0, 0)
        tx.config.advance("a", tx.config.current("a"), 0)
    assert prune(db, versions=1).history == 0
    write(db, "a", {"x": 2}, 3)
    assert [row["id"] for row in rows(db, "SELECT id FROM config_history")] == [1, 2]
    assert prune(db, versions=1).history == 1
    assert [row["id"] for row in rows(db, "SELECT id FROM config_history")] == [2]


def test_a_wrong_clock_removes_little(db: Database) -> None:
    """A version with a time long past, of a machine without a clock, does not make those before it old."""
    history_of(db, "a", 50, 60, -1000, 70)
    prune(db, since=since(40))
    assert kept(db) == {"a": [1, 2, 3, 4]}
    history_of(db, "b", 1, 999, 3, 4)
    prune(db, since=since(40))
    assert kept(db)["b"] == [1, 2, 3, 4]


def test_what_something_else_needs_stays(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its entries, whatever the rule; and what lies around it goes."""
    monkeypatch.setattr(pruning, "_needed", lambda row: f"({row}.service = 'a' AND {row}.version IN (1, 3))")
    history_of(db, "a", 1, 2, 3, 4, 5)
    history_of(db, "b", 1, 2)
    prune(db, versions=1)
    assert kept(db) == kept(db, "config_history") == {"a": [1, 3, 5], "b": [2]}


def test_slices_are_small_and_add_up(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is cut, by rows, bytes or services, the same is removed; a version of many keys takes several."""
    monkeypatch.setattr(pruning, "SLICE_SERVICES", 2)
    for service in "abcde":
        for n in range(3):
            write(db, service, {f"k{key}": n for key in range(10)}, n)
    monkeypatch.setattr(pruning, "SLICE_ROWS", 4)
    done = prune(db, versions=1)
    assert (done.versions, done.history) == (10, 100)
    assert done.slices > 25
    assert kept(db) == kept(db, "config_history") == {service: [3] for service in "abcde"}


def test_bytes_bound_a_slice_too(db: Database) -> None:
    """Large configs go a few at a time, and one that is larger than a slice by itself."""
    for n in range(5):
        write(db, "a", {"text": str(n) * pruning.SLICE_BYTES}, n)
    done = prune(db, versions=1)
    assert (done.versions, done.history) == (4, 4)
    assert done.slices >= 8


def test_what_is_written_meanwhile_is_seen(db: Database) -> None:
    """Between slices the world goes on: each goes by what is there when it runs."""
    history_of(db, "a", 1, 2)
    with job(db) as tx:
        done = tx.pruning.slice(Keep(versions=2), Pruning())
    history_of(db, "b", 1, 2, 3)
    with job(db) as tx:
        tx.pruning.slice(Keep(versions=2), replace(done, walked=False))
    assert kept(db) == {"a": [1, 2], "b": [2, 3]}


def test_a_moment_that_was_pruned_is_not_one_before_the_service(db: Database) -> None:
    """By version, revision and time: gone is told from never was; what is there still is found as before."""
    write(db, "other", {}, 0)
    history_of(db, "a", 10, 20, 30, 40)  # revisions 2 to 5
    prune(db, 100, versions=2)
    with job(db) as tx:
        assert tx.config.pruned("other") is None
        assert tx.config.pruned("a") == Pruned(2, 3, 2, since(10), since(100))
        for found in (
            tx.config.at_version("a", 3),
            tx.config.at_revision("a", 4),
            tx.config.at_time("a", since(35)),
        ):
            assert found is not None
            assert found.version == 3
        assert tx.config.at_version("a", 5) is tx.config.at_version("other", 2) is None
        assert tx.config.at_revision("a", 1) is None
        assert tx.config.at_time("a", since(9)) is None
        for read, moment in (
            (tx.config.at_version, 2),
            (tx.config.at_revision, 2),
            (tx.config.at_revision, 3),
            (tx.config.at_time, since(10)),
            (tx.config.at_time, since(29.9)),
        ):
            with pytest.raises(HistoryPruned) as refusal:
                cast("Any", read)("a", moment)
            assert refusal.value.details == {"service": "a", "pruned": True}


def test_a_version_before_a_gap_is_not_taken_for_the_one_in_it(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old version that stayed because it is needed is read by its number; of its time nothing is certain."""
    monkeypatch.setattr(pruning, "_needed", lambda row: f"{row}.version = 1")
    history_of(db, "a", 10, 20, 30)
    prune(db, versions=1)
    with job(db) as tx:
        assert tx.config.at_version("a", 1) is not None
        with pytest.raises(HistoryPruned):
            tx.config.at_revision("a", 2)
        with pytest.raises(HistoryPruned):
            tx.config.at_time("a", since(25))


def test_what_was_removed_is_recorded(db: Database) -> None:
    """The event names the rule and the numbers, and no service's content."""
    with job(db, by="root") as tx:
        tx.pruning.record(Keep(since(1), 5), Pruning(versions=3, history=4, over=True))
        tx.pruning.record(Keep(versions=5), Pruning())
    events = rows(db, "SELECT action, user, service, details_json FROM audit_log")
    assert [json.loads(event.pop("details_json")) for event in events] == [
        {"since": since(1), "keep_versions": 5, "versions": 3, "history": 4, "complete": True},
        {"keep_versions": 5, "versions": 0, "history": 0, "complete": False},
    ]
    assert events == [{"action": "prune_history", "user": "root", "service": None}] * 2


def test_what_is_left_is_remembered_until_it_is_done(db: Database) -> None:
    """With who asked for it, in order."""
    with job(db, by="root", request_id="r-7") as tx:
        tx.pruning.leave(Keep(since(1), None))
        tx.pruning.leave(Keep(None, 3))
    with job(db) as tx:
        first, second = tx.pruning.unfinished()
        assert (first.keep, first.asked_by, first.request_id) == (Keep(since(1), None), "root", "r-7")
        assert second.keep == Keep(None, 3)
        tx.pruning.finish(first)
        assert tx.pruning.unfinished() == [second]


def test_the_file_gets_smaller(db: Database) -> None:
    """What has become free is given back, so many pages in one transaction, until none is left."""
    for n in range(40):
        write(db, "a", {"text": str(n % 10) * 50_000}, n)
    before = rows(db, "PRAGMA page_count")[0]["page_count"]
    done = prune(db, versions=1)
    assert rows(db, "PRAGMA freelist_count")[0]["freelist_count"] == 0
    assert rows(db, "PRAGMA page_count")[0]["page_count"] < before / 5
    assert done.slices > before // 2 // (pruning.SLICE_FREED // 1024)
    assert rows(db, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


CHANGES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4), st.booleans()), max_size=14)


AGE_AND_NUMBER = st.tuples(st.none() | st.integers(0, 30), st.none() | st.integers(1, 5)).filter(any)


@given(CHANGES, AGE_AND_NUMBER, st.sets(st.integers(1, 8), max_size=2))
@settings(max_examples=50)
def test_what_stays_is_what_the_model_says(
    changes: list[tuple[str, int, bool]], rule: tuple[int | None, int | None], needed: set[int]
) -> None:
    """Exactly the versions of the rule stay, and no entry but theirs; each moment that can be read reads as before."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "_needed", lambda row: f"{row}.version IN ({','.join(map(str, needed)) or '0'})")
        new_store(Path(directory), Stamp(MADE_AT, "setpointd"), STORE_ID)
        db = open_writer(Path(directory))
        made: dict[str, list[float]] = {"a": [], "b": []}
        at_s = 0
        for number, (service, later, deleted) in enumerate(changes):
            at_s += later
            write(db, service, None if deleted else {"n": number}, at_s)
            made[service].append(at_s)
        write(db, "last", {"n": 1}, at_s)  # its entry is the last of all
        with job(db) as tx:
            before = {
                (service, moment): tx.config.at_time(service, since(moment))
                for service in made
                for moment in range(at_s + 1)
            }
        age, versions = rule
        prune(db, since=None if age is None else since(age), versions=versions)
        expected: dict[str, list[int]] = {}
        for service, times in made.items():
            for number in range(1, len(times) + 1):
                newest = number > len(times) - (versions or 1)
                in_force = age is not None and (number == len(times) or times[number] > age)
                if newest or in_force or number in needed or number == len(times):
                    expected.setdefault(service, []).append(number)
        entries = kept(db, "config_history")
        assert kept(db) == {**expected, "last": [1]}
        assert all(set(entries.get(service, [])) <= set(numbers) for service, numbers in expected.items())
        with job(db) as tx:
            for (service, moment), document in before.items():
                try:
                    assert tx.config.at_time(service, since(moment)) == document
                except HistoryPruned:
                    assert age is None or moment < age
                    assert document is not None
        db.close()
