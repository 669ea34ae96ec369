"""What is found in configs, and what is not."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from setpoint_contracts import Role, Token, strictjson
from setpointd.auth import Principal, principal_of
from setpointd.store.migrations import migrations
from setpointd.store.search import SearchReads, _text
from tests.calls import ALICE
from tests.store.jobs import job, write


def found(db: Database, query: str, service: str | None = None, who: Principal = ALICE) -> list[str]:
    """Search, and name what was found."""
    with job(db) as tx:
        return [f"{service}.{key}" for service, key, _ in tx.search.matches(query, service, who)]


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("VOICE", "a voice"),
        ("voice", {"deep": [{"Voice": None}]}),
        ("1.5", [1.5]),
        ("TRUE", True),
        ("null", None),
        ("strasse", "Straße"),
        ("STRAẞE", "Strasse"),
        ("κόσμος", "ΚΌΣΜΟΣ"),
        ("\u212a", "k"),
        ("k", "\u212a"),
        ("100%", "100% sure"),
        ("a_b", "xa_by"),
        ("~", "~"),
        ("\\d", "\\d+"),
        ('say "hi"', 'Say "Hi" to them'),
        ("two\nlines", "two\nlines"),
        ("\x01", "\x01"),
        ("a/b", "a/b"),
        ('"n":1', {"n": 1}),
        ('["small","large"]', ["small", "large"]),
        ('say "hi', ['Say "Hi" to them']),
        ('"ärger"', 'Say "ÄRGER"'),
        ("\U0001f600", ["\U0001f600"]),
    ],
)
def test_a_value_is_found_by_its_text(query: str, value: Any, db: Database) -> None:
    """Whatever the case, however deep, in any script; strings as they are."""
    write(db, "stt", {"it": value, "other": "x"})
    assert found(db, query) == ["stt.it"]
    assert found(db, query, "stt") == ["stt.it"]
    assert found(db, query, "tts") == []


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("a%c", "abc"),
        ("a_c", "abc"),
        ("arger", "Ärger"),
        ("\\n", "two\nlines"),
        ("u0001", "\x01"),
        ("\\\\", "one \\ only"),
        ("[ab]", "a"),
        ("*", "a"),
        ('"ärger"', '"Ärger'),
        ('"ärger"', "Ärger"),
        ('"', "a"),
        ("small,large", ["small", "large"]),
    ],
)
def test_what_is_no_part_of_it_is_not_found(query: str, value: Any, db: Database) -> None:
    """A pattern means its characters; escapes and the quotes of a string are no text; accents count."""
    write(db, "stt", {"it": value})
    assert found(db, query) == []


def test_keys_are_found_by_their_names(db: Database) -> None:
    """In any case, by service and key, of living services as they are now."""
    write(db, "tts", {"Voice": 1, "invoice_no": 2})
    write(db, "stt", {"voice": 1})
    write(db, "gone", {"voice": 1})
    write(db, "gone", None)
    write(db, "was", {"voice": 1})
    write(db, "was", {"other": 1})
    assert found(db, "VOICE") == ["stt.voice", "tts.Voice", "tts.invoice_no"]
    assert found(db, "stt") == []


def test_a_scope_narrows_it(db: Database) -> None:
    """A principal with services finds in those, whatever its patterns are made of."""
    for service in ("stt", "tts", "tts-de", "vision"):
        write(db, service, {"a": 1})
    for patterns, expected in (
        (["stt", "tts*"], ["stt.a", "tts.a", "tts-de.a"]),
        (["[st]t?"], ["stt.a", "tts.a"]),
        (["[!st]*"], ["vision.a"]),
        (["["], []),
    ):
        who = principal_of(Token.new("HS256", "tok_s", "sam", Role.VIEWER, services=patterns))
        assert sorted(found(db, "1", None, who)) == sorted(expected)


def test_matches_hold_so_many_bytes_and_no_more(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come first are given; what is found beyond that is not read on to."""
    monkeypatch.setattr("setpointd.store.search.MAX_BYTES", 100)
    write(db, "stt", dict.fromkeys("abc", "x" * 40))
    assert found(db, "xx") == ["stt.a", "stt.b"]


def test_a_sealed_value_is_not_found_by_what_is_stored(db: Database) -> None:
    """Where a secret stands, what a reader is shown is searched, and not what the file holds."""
    write(db, "stt", {"plain": "sesame"})
    db.conn.execute("INSERT INTO config_kv VALUES ('stt', 'pin', ?)", ('{"$secret":"0a1b2c3d"}',))
    assert found(db, "0A1B") == ["stt.pin"]
    assert found(db, "sesame") == ["stt.plain"]


@given(st.text(max_size=5), st.recursive(st.text(max_size=5) | st.integers() | st.none(), st.lists, max_leaves=4))
def test_the_text_of_a_value_has_its_strings_as_they_are(text: str, value: Any) -> None:
    """Of a string it is the string; in a list that stands in quotes; of others without escapes it is their JSON."""
    assert _text(text) == text
    assert _text([text]) == f'["{text}"]'
    if not isinstance(value, str) and "\\" not in json.dumps(value, ensure_ascii=False):
        assert _text(value) == strictjson.dumps(value)


CURIOUS = 'aAß\u017fsSkK\u212aÄäİi\u0131Σ\u03c3ς"\\\n%_~{'
"""Letters that fold to others, and what means something in JSON or to LIKE."""


@given(st.text(CURIOUS, min_size=1, max_size=4), st.text(CURIOUS, max_size=8))
def test_sqlite_leaves_out_nothing_that_matches(query: str, value: str) -> None:
    """What SQLite is asked for first never loses what case folding finds."""
    with closing(Database(memory=True, execute_plugins=False)) as db:
        db.conn.row_factory = sqlite3.Row
        migrations.apply(db)
        db.conn.execute("INSERT INTO config_kv VALUES ('stt', 'x', ?)", (strictjson.canonical(value),))
        matching = list(SearchReads(db).matches(query, None, ALICE))
    assert bool(matching) == (query.casefold() in value.casefold())
