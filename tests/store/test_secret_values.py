"""Sealed values: how long they are kept, and that what was in clear leaves no trace."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from setpoint_contracts import strictjson
from setpoint_contracts.config import Set
from setpoint_contracts.config_schema import SchemaSet
from setpointd.errors import UnreadableError
from setpointd.handlers.config import set_config
from setpointd.handlers.schemas import set_schema
from setpointd.handlers.secret_values import SecretValues
from setpointd.records import Keep, Pruning, Stamp, StoredReply
from setpointd.store import Store, Tx
from setpointd.store.files import DATABASE
from tests.calls import KEYS, make_call
from tests.store.jobs import job, rows

SCHEMA: dict[str, Any] = {"properties": {"pin": {"writeOnly": True}}}
STAMP = Stamp("2026-01-01T00:00:00.000Z", "alice", "r-1")


def mark(tx: Tx, service: str = "stt", schema: dict[str, Any] = SCHEMA) -> None:
    """Set the schema of a service as the command does."""
    set_schema(tx, make_call(), SchemaSet.model_validate({"service": service, "schema": schema}))


def put(tx: Tx, pin: Any, service: str = "stt") -> dict[str, Any]:
    """Set the config of a service as the command does; how it is shown."""
    result = set_config(tx, make_call(), Set(service=service, config={"pin": pin}))
    assert result.document is not None
    assert result.document.config is not None
    return result.document.config


def prune(tx: Tx, versions: int) -> None:
    """Remove all but the newest versions."""
    done = Pruning()
    while not done.over:
        done = tx.pruning.slice(Keep(versions=versions), done)


def kept(db: Database) -> int:
    """Count the sealed values of the store."""
    return int(rows(db, "SELECT count(*) AS n FROM config_secrets")[0]["n"])


def test_a_value_is_kept_once_and_as_long_as_a_version_names_it(db: Database) -> None:
    """Over restores as well, and where only a profile needs the version; then it goes with the last of them."""
    with job(db) as tx:
        mark(tx)
        first = put(tx, 1)
        tx.profiles.save("p", None, {"stt": 1})
        for pin in (2, 3, 2, 4):
            put(tx, pin)
    assert kept(db) == 4
    with job(db) as tx:
        prune(tx, 2)
    assert kept(db) == 4  # version 1 stays for the profile, and what came after it might
    with job(db) as tx:
        assert SecretValues(tx, make_call(), "stt").revealed(first) == {"/pin": 1}
        tx.profiles.delete("p")
        prune(tx, 2)
    assert kept(db) == 2
    with job(db) as tx:
        prune(tx, 1)
    assert kept(db) == 1


@pytest.fixture
def one_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the key give all values the same first tag."""
    right = type(KEYS).secret_digest
    monkeypatch.setattr(
        type(KEYS), "secret_digest", lambda keys, service, text: bytes(4) + right(keys, service, text)[4:]
    )


@pytest.mark.usefixtures("one_tag")
def test_two_values_never_share_a_tag(db: Database) -> None:
    """Not when the key would give both the same; and each keeps its own."""
    with job(db) as tx:
        mark(tx)
        shown = [put(tx, pin)["pin"] for pin in (1, 2, 3, 1, 2, 3)]
        assert shown[:3] == shown[3:]
        assert len({strictjson.dumps(secret) for secret in shown}) == 3
        values = SecretValues(tx, make_call(), "stt")
        assert [values.shown_value(secret) for secret in shown[:3]] == [1, 2, 3]


@pytest.mark.usefixtures("one_tag")
def test_a_value_keeps_its_tag_when_a_better_one_becomes_free(db: Database) -> None:
    """Of two values that would have one tag, the later keeps the one it got, though the other is forgotten."""
    with job(db) as tx:
        mark(tx)
        put(tx, "first")
        second = put(tx, "second")
        prune(tx, 1)
    assert kept(db) == 1
    with job(db) as tx:
        assert put(tx, "second") == second


def test_a_value_belongs_to_its_service(db: Database) -> None:
    """The same value has another tag elsewhere, and a row that was moved does not open."""
    with job(db) as tx:
        mark(tx)
        mark(tx, "tts")
        assert put(tx, 1) != put(tx, 1, "tts")
    db.conn.execute("UPDATE config_secrets SET sealed = (SELECT sealed FROM config_secrets WHERE service = 'stt')")
    with job(db) as tx:
        current = tx.config.current("tts")
        assert current is not None
        values = SecretValues(tx, make_call(), "tts")
        with pytest.raises(UnreadableError):
            values.revealed(current.config)


def test_stored_replies_of_others_stay_as_they_are(db: Database) -> None:
    """What looks like the service in the config of another is none of it; differences inside of a secret are."""
    other = {"id": "r", "result": {"service": "tts", "config": {"service": "stt", "config": {"pin": "open"}}}}
    inside = {
        "id": "r",
        "result": {"results": [{"service": "stt", "diff": [{"op": "add", "path": "/pin/a", "new": 7}]}]},
    }
    with job(db) as tx:
        put(tx, {"a": 7})
        for jti, reply in (("other", other), ("inside", inside)):
            payload = strictjson.dumps(reply).encode()
            tx.replies.store("tok_a", jti, StoredReply(b"", payload), "2027-01-01T00:00:00.000Z")
        mark(tx)
        stored = [tx.replies.stored("tok_a", jti) for jti in ("other", "inside")]
    assert stored[0] is not None
    assert strictjson.loads(stored[0].payload) == other
    assert stored[1] is not None
    [difference] = strictjson.loads(stored[1].payload)["result"]["results"][0]["diff"]
    assert (difference["path"], difference["op"]) == ("/pin", "replace")
    assert difference["new"].keys() == {"$secret"}


@pytest.fixture
def traces(data_dir: Path) -> Callable[[bytes], set[str]]:
    """Tell in which files of the store some bytes stand."""
    return lambda value: {path.name for path in data_dir.glob(f"{DATABASE}*") if value in path.read_bytes()}


async def test_what_was_in_clear_leaves_no_trace(
    store: Store, data_dir: Path, traces: Callable[[bytes], set[str]]
) -> None:
    """As soon as nobody reads what was before: a reader that stands in the way puts it off to the next commit."""
    for number in range(50):
        await store.write(STAMP, lambda tx, number=number: put(tx, [b"open-sesame".decode(), "x" * 31 * number]))  # type: ignore[misc]
    assert traces(b"open-sesame")
    with closing(sqlite3.connect(data_dir / DATABASE, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM config_versions").fetchone() == (50,)
        await store.write(STAMP, mark)
        assert traces(b"open-sesame")
        reader.execute("COMMIT")
    await store.write(STAMP, lambda tx: put(tx, 2))
    assert traces(b"open-sesame") == set()


async def test_what_was_not_scrubbed_is_at_the_next_start(data_dir: Path, traces: Callable[[bytes], set[str]]) -> None:
    """The daemon may end between a commit and the emptying of the log: the first commit of the next empties it."""
    store = Store(data_dir)
    await store.write(STAMP, lambda tx: put(tx, "open-sesame"))
    with closing(sqlite3.connect(data_dir / DATABASE, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM config_versions").fetchone() == (1,)
        await store.write(STAMP, mark)
        await store.close()
        assert traces(b"open-sesame")
        reader.execute("COMMIT")
        next_one = Store(data_dir)
        await next_one.write(STAMP, lambda tx: put(tx, 2))
        assert traces(b"open-sesame") == set()
        await next_one.close()
