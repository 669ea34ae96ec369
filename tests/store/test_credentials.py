"""The tokens that a daemon goes by, beside a store that others change."""

from pathlib import Path

import pytest

from setpoint_contracts import Role, Token
from setpoint_contracts.timestamps import rfc3339
from setpointd import loaded
from setpointd.credentials import Credentials
from setpointd.errors import OperatorError
from setpointd.records import Stamp
from setpointd.store import Store
from setpointd.store.files import writing
from tests.calls import KEYS, new_keys
from tests.store.conftest import MADE_AT
from tests.store.jobs import FIRST_MOMENT

STAMP = Stamp(MADE_AT, "setpointd")


def put(data_dir: Path, kid: str) -> None:
    """Add a token from outside, as `setpointd token` does."""
    with writing(data_dir, STAMP) as tx:
        token = Token.new("HS256", kid, "bob", Role.VIEWER)
        tx.tokens.add(token, KEYS.store_form(token))


async def told(data_dir: Path, store: Store) -> bool:
    """Say whether whoever waits learns that the tokens as they are count."""
    stored = await store.read(lambda snapshot: loaded.digest(snapshot.tokens.all()))
    return (data_dir / "tokens.loaded").read_text() == stored


def known(credentials: Credentials, *kids: str) -> list[bool | None]:
    """Say of each token whether it is revoked; None: it is not known."""
    found = [credentials.keyring.find(kid) for kid in kids]
    return [None if entry is None else entry[1].revoked_at is not None for entry in found]


async def test_what_others_change_is_noticed(data_dir: Path, store: Store) -> None:
    """Added, revoked and removed; what is no change is none, and whoever waits is told."""
    put(data_dir, "tok_a")
    credentials = Credentials(data_dir=data_dir, store=store, keys=KEYS)
    await credentials.load()
    assert (known(credentials, "tok_a", "tok_b"), await told(data_dir, store)) == ([False, None], True)
    assert not await credentials.notice()

    put(data_dir, "tok_b")
    with writing(data_dir, STAMP) as tx:
        tx.tokens.revoke("tok_a")
    assert await credentials.notice()
    assert (known(credentials, "tok_a", "tok_b"), await told(data_dir, store)) == ([True, False], True)

    with writing(data_dir, STAMP) as tx:
        tx.tokens.note_use({"tok_b": rfc3339(FIRST_MOMENT)})
    assert not await credentials.notice()

    with writing(data_dir, STAMP) as tx:
        tx.audit._db.conn.execute("DELETE FROM api_tokens WHERE kid = 'tok_a'")  # noqa: SLF001 - by hand
    assert await credentials.notice()
    assert known(credentials, "tok_a", "tok_b") == [None, False]


async def test_what_a_command_changed_counts_at_once(data_dir: Path, store: Store) -> None:
    """With its rows, before anybody looks; the next look tells whoever waits, and mends what was late."""
    put(data_dir, "tok_a")
    credentials = Credentials(data_dir=data_dir, store=store, keys=KEYS)
    await credentials.load()
    before = await store.read(lambda snapshot: snapshot.tokens.all())
    await store.write(STAMP, lambda tx: tx.tokens.revoke("tok_a"))
    credentials.learn(await store.read(lambda snapshot: snapshot.tokens.all()))
    assert known(credentials, "tok_a") == [True]
    assert not await told(data_dir, store)
    assert await credentials.notice()
    assert await told(data_dir, store)

    credentials.learn(before)  # handed over late
    assert known(credentials, "tok_a") == [False]
    assert await credentials.notice()
    assert known(credentials, "tok_a") == [True]


async def test_one_that_cannot_be_opened_does_not_count(data_dir: Path, store: Store) -> None:
    """It is left out and the others go on; when none can be, the daemon does not start, or goes by those it had."""
    put(data_dir, "tok_a")
    credentials = Credentials(data_dir=data_dir, store=store, keys=KEYS)
    await credentials.load()
    stranger = Token.new("HS256", "tok_s", "bob", Role.VIEWER)
    with writing(data_dir, STAMP) as tx:
        tx.tokens.add(stranger, new_keys().store_form(stranger))
    assert await credentials.notice()
    assert known(credentials, "tok_a", "tok_s") == [False, None]
    with writing(data_dir, STAMP) as tx:
        tx.audit._db.conn.execute("DELETE FROM api_tokens WHERE kid = 'tok_a'")  # noqa: SLF001 - by hand
    assert await credentials.notice()
    assert known(credentials, "tok_a", "tok_s") == [False, None]
    with pytest.raises(OperatorError, match="does not open token tok_s"):
        await Credentials(data_dir=data_dir, store=store, keys=KEYS).load()
