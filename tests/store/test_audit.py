"""Reading the audit log: page by page, at a bounded cost whatever is asked for."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from setpoint_contracts.audit import Action
from setpoint_contracts.audit_log import LoggedEvent
from setpoint_contracts.timestamps import rfc3339
from setpointd.records import Stamp
from setpointd.store import Snapshot, Tx
from setpointd.store.audit import PAGE_BYTES, SCANNED_ROWS, AuditFilter
from setpointd.store.chain import START
from setpointd.store.files import open_writer
from tests.store.jobs import FIRST_MOMENT, write
from tests.stores import new_store

USERS = ("alice", "bob", None)
SERVICES = ("stt", "tts", None)
ACTIONS = (Action.UPDATE_CONFIG, Action.PERMISSION_DENIED)


def record(db: Database, count: int, **details: Any) -> None:
    """Write events, one a second, of various users, services and actions."""
    with db.atomic():
        for n in range(count):
            tx = Tx(db, Stamp(rfc3339(FIRST_MOMENT + n), USERS[n % 3], f"r-{n}"))
            tx.audit.record(ACTIONS[n % 2], service=SERVICES[n // 2 % 3], n=n, **details)


def page(db: Database, before: int | None = None, limit: int = 1000, **wanted: Any) -> tuple[list[int], int | None]:
    """Read a page: which events, and where to go on."""
    events, following = Snapshot(db).audit.page(AuditFilter(**wanted), before, limit)
    return [event["id"] for event in events], following


def whole(db: Database, limit: int = 1000, **wanted: Any) -> list[int]:
    """Read page after page to the end."""
    found: list[int] = []
    before: int | None = None
    while True:
        ids, before = page(db, before, limit, **wanted)
        assert len(ids) <= limit
        found += ids
        if before is None:
            return found


def test_an_event_is_what_the_wire_has_and_its_place(db: Database) -> None:
    """Each has its id and its hash, and lacks what the bus's event lacks."""
    write(db, "stt", {"model": "small"}, reason="first")
    record(db, 1)
    events, following = Snapshot(db).audit.page(AuditFilter(), None, 10)
    newest = list(Snapshot(db).audit.chain(START, 9))[-1]
    assert following is None
    assert f"{events[0]['id']}:{events[0]['hash']}" == str(newest)
    for event in events:
        assert LoggedEvent.model_validate(event).model_dump(mode="json", exclude_unset=True) == event
        bare = {name: value for name, value in event.items() if name not in {"id", "hash"}}
        assert bare == Snapshot(db).audit.event(str(event["id"]))
    assert events[1]["details"] == {"version": 1, "op": "set", "keys": ["model"], "reason": "first"}


def test_an_empty_log_has_one_empty_page(db: Database) -> None:
    """Nothing, and nothing further."""
    assert page(db) == ([], None)
    assert page(db, before=0) == ([], None)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Make a log of forty events, for many questions."""
    place = tmp_path_factory.mktemp("log")
    new_store(place, Stamp(rfc3339(FIRST_MOMENT), "setpointd"))
    with closing(open_writer(place)) as db:
        record(db, 40)
        yield db


TIMES = st.none() | st.integers(-2, 42).map(lambda n: rfc3339(FIRST_MOMENT + n))


@given(
    limit=st.integers(1, 50),
    wanted=st.fixed_dictionaries(
        {
            "action": st.sampled_from([None, *ACTIONS, Action.CREATE_TOKEN]),
            "user": st.sampled_from([*USERS, "carol"]),
            "service": st.sampled_from([*SERVICES, "none"]),
            "since": TIMES,
            "until": TIMES,
            "sees": st.sampled_from([lambda _service: True, lambda service: service == "stt"]),
        }
    ),
)
def test_every_filter_lets_through_what_it_says(events: Database, limit: int, wanted: dict[str, Any]) -> None:
    """Any filters together and any size of page: all that fits, the newest first, each once."""
    expected = [
        n + 1
        for n in reversed(range(40))
        if wanted["action"] in {None, ACTIONS[n % 2]}
        and wanted["user"] in {None, USERS[n % 3]}
        and wanted["service"] in {None, SERVICES[n // 2 % 3]}
        and (wanted["since"] is None or wanted["since"] <= rfc3339(FIRST_MOMENT + n))
        and (wanted["until"] is None or rfc3339(FIRST_MOMENT + n) < wanted["until"])
        and wanted["sees"](SERVICES[n // 2 % 3] or "stt")
    ]
    assert whole(events, limit, **wanted) == expected


def test_pages_do_not_move_while_others_write(db: Database) -> None:
    """What is written between two pages is in neither, and nothing comes twice or is left out."""
    record(db, 25)
    found: list[int] = []
    before: int | None = None
    for _ in range(3):
        ids, before = page(db, before, limit=10)
        found += ids
        record(db, 7)
    assert (found, before) == (list(range(25, 0, -1)), None)


def test_a_page_ends_where_its_details_get_large(db: Database) -> None:
    """It is no larger than a reply should be, but one event always fits; all come in the end."""
    record(db, 7, keys=["k" * 100_000])
    ids, before = page(db)
    assert ids == [7, 6]
    assert len(ids) * 100_000 < PAGE_BYTES
    assert before == 6
    assert whole(db) == list(range(7, 0, -1))
    record(db, 1, keys=["k" * 2 * PAGE_BYTES])
    assert page(db)[0] == [8]


def test_a_row_that_cannot_be_read_hides_no_other(db: Database) -> None:
    """Its details say so, and everything else of it is there."""
    record(db, 3)
    db.conn.execute("UPDATE audit_log SET details_json = '{' WHERE id = 2")
    events, _ = Snapshot(db).audit.page(AuditFilter(), None, 10)
    assert [event["details"] for event in events] == [{"n": 2}, {"unreadable": True}, {"n": 0}]


def test_gaps_cost_no_page(db: Database) -> None:
    """However far apart the ids are, the next page begins at the next event."""
    record(db, 3)
    db.conn.execute("UPDATE audit_log SET id = 9000000 WHERE id = 3")
    assert page(db) == ([9000000], 9000000 - SCANNED_ROWS + 1)
    assert page(db, 9000000 - SCANNED_ROWS + 1) == ([2, 1], None)


def steps(db: Database, run: Callable[[], object]) -> int:
    """Count what SQLite's machine does."""
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1

    db.conn.set_progress_handler(count, 1)
    try:
        run()
    finally:
        db.conn.set_progress_handler(None, 0)
    return counted


@pytest.mark.parametrize("wanted", [{"service": "none"}, {"until": "2026"}, {"sees": lambda _service: False}])
def test_a_page_costs_no_more_in_a_longer_log(db: Database, wanted: dict[str, Any]) -> None:
    """A filter that lets nothing through looks at so many rows and says where to go on."""
    record(db, SCANNED_ROWS)
    db.conn.execute("UPDATE audit_log SET service = 'stt' WHERE service IS NULL")
    assert page(db, **wanted) == ([], None)
    few = steps(db, lambda: page(db, **wanted))
    record(db, SCANNED_ROWS)
    db.conn.execute("UPDATE audit_log SET service = 'stt' WHERE service IS NULL")
    assert page(db, **wanted) == ([], SCANNED_ROWS + 1)
    assert steps(db, lambda: page(db, **wanted)) <= few + 10
    assert whole(db, **wanted) == []
