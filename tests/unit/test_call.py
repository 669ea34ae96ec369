"""What a handler may use: typed, small, and with no clock, chance or network of its own."""

import json

from setpoint_contracts import Role, Token
from setpointd.records import Sighting
from tests.calls import ALICE, KEYS, NOW, lend, make_call, new_runtime
from tests.limits import LIMITS


def test_who_when_and_how_much() -> None:
    """The caller, the time both as a number and as the wire writes it, and the limits in force."""
    call = make_call(lend(new_runtime(LIMITS)))
    assert (call.who, call.now, call.at, call.limits) == (ALICE, NOW, "2026-01-01T00:00:00.000Z", LIMITS)


def test_fresh_ids_come_from_outside() -> None:
    """A token id is what chance gave, in the form of one."""
    assert make_call().fresh_kid() == "tok_0123456789abcdef"


def test_a_secret_is_sealed_and_a_public_key_is_kept() -> None:
    """What is to be stored of a token: nothing that opens without the daemon's key, and no private half."""
    secret = Token.new("HS256", "tok_s", "bob", Role.VIEWER)
    pair = Token.new("Ed25519", "tok_p", "bob", Role.VIEWER)
    assert secret.k is not None
    sealed = make_call().seal(secret)
    assert secret.k not in sealed
    row = {"kid": "tok_s", "name": "bob", "role": "viewer", "services": None, "alg": "HS256", "key": sealed}
    assert KEYS.restore({**row, "expires_at": None, "revoked_at": None}).k == secret.k
    assert json.loads(make_call().seal(pair)) == pair.public().jwk()


def test_what_the_broker_has_shown() -> None:
    """It is the daemon's to say."""
    assert make_call(lend(seen=Sighting(epoch=7))).sighting().epoch == 7


def test_what_is_put_off_happens_once_committed_in_order() -> None:
    """And not before."""
    done: list[int] = []
    call = make_call()
    for number in range(3):
        call.after_commit(lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == []
    call.committed()
    assert done == [0, 1, 2]


def test_what_is_undone_puts_nothing_off() -> None:
    """A dry run or a refusal leaves nothing to do after the commit, and nothing of it to the next call."""
    done: list[int] = []
    call = make_call()
    call.after_commit(lambda: done.append(1))
    call.undone()
    call.committed()
    make_call().committed()
    assert done == []
