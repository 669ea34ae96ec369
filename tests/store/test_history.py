"""How the history is read: filters, pages, times where the clock was set back; and what was pruned."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from setpoint_contracts import Role, Token
from setpoint_contracts.timestamps import rfc3339
from setpointd.auth import Principal, principal_of
from setpointd.records import HistoryFilter, Stamp
from setpointd.store import Snapshot, Tx
from setpointd.store.files import DATABASE, create, open_writer
from setpointd.store.migrations import migrations
from tests.calls import ALICE
from tests.store.jobs import FIRST_MOMENT, job, rows, write

STAMP = Stamp(rfc3339(FIRST_MOMENT), "alice", "r-1")
SERVICES, KEYS, USERS = ("stt", "tts", "tts-de"), ("a", "b"), ("alice", "bob")
SECONDS = st.integers(0, 9)
CHANGES = st.tuples(st.sampled_from(SERVICES), st.sampled_from(KEYS), st.sampled_from(USERS), SECONDS)


def scoped(*services: str) -> Principal:
    """Make a principal that sees some services only."""
    return principal_of(Token.new("HS256", "tok_s", "sam", Role.VIEWER, services=services))


def at(second: int | None) -> str | None:
    """Write a time."""
    return None if second is None else rfc3339(FIRST_MOMENT + second)


FILTERS = st.builds(
    HistoryFilter,
    service=st.sampled_from([None, *SERVICES]),
    key=st.sampled_from([None, *KEYS]),
    user=st.sampled_from([None, *USERS]),
    since=(SECONDS | st.none()).map(at),
    until=(SECONDS | st.none()).map(at),
)


def change(tx: Tx, service: str, key: str) -> None:
    """Change one key of a service."""
    current = tx.config.current(service)
    config = dict(current.config or {}) if current else {}
    tx.config.write_version(service, current, {**config, key: config.get(key, 0) + 1}, op="set", reason=None)


def pages(
    snapshot: Snapshot, wanted: HistoryFilter, limit: int, who: Principal = ALICE
) -> Iterator[list[dict[str, Any]]]:
    """Read on until the end."""
    while True:
        page, following = snapshot.history.page(wanted, limit, who)
        yield page
        if following is None:
            return
        assert wanted.before is None or following < wanted.before
        wanted = replace(wanted, before=following)


def matches(row: dict[str, Any], wanted: HistoryFilter) -> bool:
    """Say whether an entry is wanted, in the plainest way."""
    return (
        wanted.service in {None, row["service"]}
        and wanted.key in {None, row["key"]}
        and wanted.user in {None, row["changed_by"]}
        and (wanted.since is None or row["changed_at"] >= wanted.since)
        and (wanted.until is None or row["changed_at"] < wanted.until)
    )


@given(
    st.lists(CHANGES, max_size=30),
    FILTERS,
    st.integers(1, 7),
    st.integers(1, 40),
    st.sampled_from([ALICE, scoped("stt"), scoped("tts*"), scoped("[!s]*", "stt?"), scoped("x")]),
)
def test_pages_hold_what_matches_whatever_the_clock_did(
    changes: list[tuple[str, str, str, int]], wanted: HistoryFilter, limit: int, looked_through: int, who: Principal
) -> None:
    """Every entry that matches and is seen comes once, newest first, however short the pages, wherever time leapt."""
    with closing(Database(memory=True, execute_plugins=False)) as db:
        db.conn.row_factory = sqlite3.Row
        migrations.apply(db)
        Tx(db, STAMP).identity.establish("id")
        for service, key, user, second in changes:
            change(Tx(db, Stamp(str(at(second)), user, "r")), service, key)
        made = rows(db, "SELECT * FROM config_history ORDER BY id DESC")
        with patch("setpointd.store.history.LOOKED_THROUGH", looked_through):
            found = list(pages(Snapshot(db), wanted, limit, who))
        assert all(len(page) <= limit for page in found)
        assert [entry["id"] for page in found for entry in page] == [
            row["id"] for row in made if matches(row, wanted) and who.sees(row["service"])
        ]


def test_an_entry_has_what_the_wire_says(db: Database) -> None:
    """No old value on add, no new one on remove, null where a value is null; and who, when, why, in which request."""
    write(db, "stt", {"a": 1.5, "b": None}, reason="first")
    write(db, "stt", {"b": {"c": "é"}}, 1)
    with job(db) as tx:
        entries, following = tx.history.page(HistoryFilter(), 9, ALICE)
    second = {"revision": 2, "service": "stt", "version": 2, "changed_at": at(1), "changed_by": "alice"}
    first = {"revision": 1, "service": "stt", "version": 1, "changed_at": at(0), "changed_by": "alice"}
    assert entries == [
        {"id": 4, "key": "b", "op": "replace", "old": None, "new": {"c": "é"}, "reason": None, "request_id": "r-1"}
        | second,
        {"id": 3, "key": "a", "op": "remove", "old": 1.5, "reason": None, "request_id": "r-1"} | second,
        {"id": 2, "key": "b", "op": "add", "new": None, "reason": "first", "request_id": "r-0"} | first,
        {"id": 1, "key": "a", "op": "add", "new": 1.5, "reason": "first", "request_id": "r-0"} | first,
    ]
    assert following is None


def test_pages_stay_as_they_are_while_others_write(db: Database) -> None:
    """What is written between two pages is on neither of them."""
    for number in range(6):
        write(db, "stt", {"n": number}, number)
    with job(db) as tx:
        first, following = tx.history.page(HistoryFilter(), 3, ALICE)
    write(db, "stt", {"n": 99}, 9)
    with job(db) as tx:
        second, end = tx.history.page(HistoryFilter(before=following), 3, ALICE)
    assert [entry["id"] for entry in first + second] == [6, 5, 4, 3, 2, 1]
    assert end is None


def test_a_page_looks_through_so_many_entries_and_no_more(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing of them matches it is empty, and leads on behind them."""
    monkeypatch.setattr("setpointd.store.history.LOOKED_THROUGH", 4)
    write(db, "stt", {"rare": 1})
    for number in range(9):
        write(db, "stt", {"rare": 1, "n": number})
    with job(db) as tx:
        assert [tx.history.page(HistoryFilter(key="rare", before=before), 9, ALICE)[1] for before in (None, 7, 3)] == [
            7,
            3,
            None,
        ]
        assert [len(page) for page in pages(tx, HistoryFilter(key="rare"), 9)] == [0, 0, 1]
        assert [len(page) for page in pages(tx, HistoryFilter(service="stt", key="rare"), 9)] == [0, 0, 1]
        assert [len(page) for page in pages(tx, HistoryFilter(service="other"), 9)] == [0]


def test_a_page_holds_so_many_bytes_and_no_more(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large values make it short, one that is larger still stands alone; nothing is left out."""
    monkeypatch.setattr("setpointd.store.history.MAX_PAGE_BYTES", 100)
    for size in (10, 300, 30, 5):
        write(db, "stt", {f"k{size}": "é" * size})
        write(db, "stt", {})
    with job(db) as tx:
        found = [[entry["key"] for entry in page] for page in pages(tx, HistoryFilter(), 9)]
    assert found == [["k5", "k5", "k30"], ["k30"], ["k300"], ["k300"], ["k10", "k10"]]


def test_a_clock_that_only_goes_forward_leaves_no_rows(db: Database) -> None:
    """Only where it was set back there is one: what it was and what it became."""
    for second in (0, 1, 1, 5, 3, 4, 9):
        write(db, "stt", {"n": second, "m": -second}, second)
    assert rows(db, "SELECT was, became FROM config_history_turns") == [{"was": at(5), "became": at(3)}]


def test_an_advance_is_no_change_of_a_key(db: Database) -> None:
    """It leaves no entry, and no turn of the clock, whenever it happens."""
    document = write(db, "stt", {"n": 1}, 5)
    with job(db, 2) as tx:
        tx.identity.advance(9, 9, 0)
        tx.config.advance("stt", document, 0)
    assert len(rows(db, "SELECT * FROM config_history")) == 1
    assert rows(db, "SELECT * FROM config_history_turns") == []


def test_a_store_of_before_has_its_history_read_too(tmp_path: Path) -> None:
    """The step that brings it up to date finds where its clock was set back."""
    with closing(Database(sqlite3.connect(tmp_path / DATABASE, isolation_level=None), execute_plugins=False)) as old:
        migrations.apply(old, stop_before="history_is_read")
        old.conn.execute("INSERT INTO config_epoch VALUES ('id', 1, 4, NULL)")
        for number, second in enumerate((1, 6, 3, 7), 1):
            old.conn.execute(
                "INSERT INTO config_history VALUES (?, ?, 'stt', ?, 'n', 'add', NULL, '1', ?, 'alice', NULL, 'r')",
                (number, number, number, at(second)),
            )
    with closing(open_writer(tmp_path)) as db:
        for since, until, expected in ((4, 7, [2]), (2, 4, [3]), (6, None, [4, 2]), (None, 4, [3, 1])):
            found = pages(Snapshot(db), HistoryFilter(since=at(since), until=at(until)), 9)
            assert [entry["id"] for page in found for entry in page] == expected


def test_versions_come_newest_first(db: Database) -> None:
    """A page of them below another; a tombstone is marked."""
    write(db, "stt", {"n": 1}, 1, reason="first")
    write(db, "stt", None, 2)
    write(db, "tts", {}, 3)
    write(db, "stt", {"n": 2}, 4)
    with job(db) as tx:
        first, second, third = tx.config.versions_of("stt", None, 9)
        assert (first["version"], second["version"], third["version"]) == (3, 2, 1)
        assert ("deleted" in first, second["deleted"], "deleted" in third) == (False, True, False)
        assert (third["reason"], third["request_id"], third["updated_at"], third["revision"]) == (
            "first",
            "r-1",
            at(1),
            1,
        )
        assert tx.config.versions_of("stt", 3, 1) == [second]
        assert tx.config.versions_of("stt", 1, 9) == tx.config.versions_of("x", None, 9) == []


def test_what_has_changed_since(db: Database) -> None:
    """The services whose newest version is later, deleted ones too; the others need not be looked at."""
    for second, service in enumerate(("a", "b", "c"), 1):
        write(db, service, {"n": 1}, second)
    write(db, "a", None, 4)
    with job(db) as tx:
        assert tx.config.names() == ["a", "b", "c"]
        assert tx.config.changed_since(2, None) == {"a", "c"}
        assert tx.config.changed_since(None, at(3)) == {"a"}
        assert tx.config.changed_since(4, None) == set()


def test_a_new_store_has_an_empty_history(tmp_path: Path) -> None:
    """Every filter is answered with nothing."""
    create(tmp_path, STAMP, "id")
    with closing(open_writer(tmp_path)) as db:
        for wanted in (HistoryFilter(), HistoryFilter(since=at(0), until=at(1)), HistoryFilter("a", "b", "c")):
            assert Snapshot(db).history.page(wanted, 9, ALICE) == ([], None)
