"""The commands on tokens, on a store without a daemon: who may be revoked, how long a successor lives."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlite_utils import Database

from setpoint_contracts import Role, Token, open_sealed
from setpoint_contracts.access import TokenCreate, TokenRevoke, TokenRotate
from setpoint_contracts.sealing import TOKEN_INFO
from setpoint_contracts.signing import VerifyingKey
from setpoint_contracts.timestamps import rfc3339
from setpointd.auth import principal_of
from setpointd.call import Call
from setpointd.errors import Rejected
from setpointd.handlers import access
from tests.calls import ALICES_KEY, KEYS, NOW, lend, make_call
from tests.store.jobs import FIRST_MOMENT, job

HOUR, DAY = 3600, 86_400


def public_jwk(token: Token) -> dict[str, Any]:
    """Return the public key alone, as Node exports it."""
    return {"kty": "OKP", "crv": "Ed25519", "x": token.x}


def add(db: Database, token: Token, at_s: float = 0) -> Token:
    """Add a token, `at_s` seconds after the first moment."""
    with job(db, at_s) as tx:
        tx.tokens.add(token, KEYS.store_form(token.public()))
    return token


def make(db: Database, kid: str, role: Role = Role.ADMIN, ends_s: float | None = None, **more: Any) -> Token:
    """Add an HS256 token that ends so many seconds after the first moment; None: never."""
    expires_at = None if ends_s is None else rfc3339(FIRST_MOMENT + ends_s)
    return add(db, Token.new("HS256", kid, "bob", role, expires_at=expires_at, **more))


def create(db: Database, call: Call | None = None, **params: Any) -> dict[str, Any]:
    """Carry out `token/create` and return its result."""
    with job(db) as tx:
        return access.create(tx, call or make_call(), TokenCreate.model_validate(params)).members


def revoke(db: Database, kid: str, at_s: float = 0) -> dict[str, Any]:
    """Carry out `token/revoke` and return its result."""
    with job(db, at_s) as tx:
        return access.revoke(tx, make_call(now=NOW + at_s), TokenRevoke(kid=kid)).members


def rotate(db: Database, kid: str, at_s: float = 0, call: Call | None = None, **params: Any) -> dict[str, Any]:
    """Carry out `token/rotate` and return its result."""
    with job(db, at_s) as tx:
        command = TokenRotate.model_validate({"kid": kid, **params})
        return access.rotate(tx, call or make_call(now=NOW + at_s), command).members


def opened(found: dict[str, Any]) -> Token:
    """Read a new token as its maker does."""
    return Token.parse(open_sealed(ALICES_KEY.key, TOKEN_INFO, found["token_jwe"]))


def refusal(caught: pytest.ExceptionInfo[Rejected]) -> tuple[str, str, str]:
    """Name the code, the field and the type of a refusal."""
    error = caught.value.details.get("errors", [{"field": "", "type": ""}])[0]
    return caught.value.code.value, error["field"], error["type"]


def test_a_new_secret_goes_to_its_maker_only(db: Database) -> None:
    """The whole token file comes encrypted for the caller; the store has what it seals, and both are one token."""
    found = create(db, name="pi", role="operator", services=["s*"], ttl_s=60)
    token = opened(found)
    about = {"kid": "tok_0123456789abcdef", "name": "pi", "role": "operator", "services": ["s*"], "alg": "HS256"}
    times = {"created_at": rfc3339(NOW), "expires_at": rfc3339(NOW + 60), "revoked_at": None, "last_used_at": None}
    assert {**about, **times, "created_by": "alice"} == {k: v for k, v in found.items() if k != "token_jwe"}
    with job(db) as tx:
        [row] = tx.tokens.all()
        event = json.dumps([tx.audit.event(waiting.ref) for waiting in tx.outbox.first("events", 9)])
    assert KEYS.restore(row) == token
    assert str(token.k) not in f"{row} {event} {found}"


def test_who_has_no_secret_gets_none(db: Database) -> None:
    """An Ed25519 caller is told what to do instead; for a public key it needs none."""
    pair = Token.new("Ed25519", "tok_e", "eve", Role.ADMIN)
    caller = make_call(who=principal_of(pair), key=VerifyingKey("Ed25519", pair.signing_key()))
    make(db, "tok_b")
    with pytest.raises(Rejected, match="setpointd token create") as caught:
        create(db, caller, name="pi", role="viewer")
    assert refusal(caught) == ("bad_request", "alg", "needs_hs256_caller")
    with pytest.raises(Rejected, match="setpointd token create") as caught:
        rotate(db, "tok_b", call=caller)
    assert refusal(caught) == ("bad_request", "kid", "needs_hs256_caller")
    made = create(db, caller, name="pi", role="viewer", alg="Ed25519", public_jwk=public_jwk(pair))
    assert (made["alg"], "token_jwe" in made) == ("Ed25519", False)


def test_a_public_key_has_one_kid(db: Database) -> None:
    """Also when its token was revoked; and a kid that is taken is refused, whatever the key."""
    pair = Token.new("Ed25519", "tok_e", "eve", Role.VIEWER)
    other = Token.new("Ed25519", "tok_f", "eve", Role.VIEWER)
    ask: dict[str, Any] = {"name": "eve", "role": "viewer", "alg": "Ed25519"}
    assert create(db, **ask, public_jwk={**public_jwk(pair), "kid": "own", "use": "sig"})["kid"] == "own"
    revoke(db, "own")
    for key in (public_jwk(pair), {**public_jwk(other), "kid": "own"}):
        with pytest.raises(Rejected) as caught:
            create(db, **ask, public_jwk=key)
        assert refusal(caught)[0] == "already_exists"


def test_the_daemon_goes_by_it_once_it_is_committed(db: Database) -> None:
    """What was changed is handed over after the commit, all of it, and nothing before."""
    learnt: list[dict[str, Any]] = []

    def learn(rows: Iterable[dict[str, Any]]) -> None:
        learnt.extend(rows)

    make(db, "tok_b")
    call = make_call(lend(learn=learn))
    rotate(db, "tok_b", call=call)
    assert learnt == []
    call.committed()
    assert [(row["kid"], row["expires_at"]) for row in learnt] == [
        ("tok_0123456789abcdef", None),
        ("tok_b", rfc3339(NOW + 300)),
    ]


@pytest.mark.parametrize(
    ("revoked", "others", "refused"),
    [
        (None, [], True),
        (None, [("admin", None)], False),
        (None, [("operator", None), ("viewer", None)], True),
        (None, [("admin", -1)], True),
        (None, [("admin", HOUR - 1)], True),
        (None, [("admin", HOUR)], False),
        (HOUR / 4, [("admin", HOUR / 4)], False),
        (HOUR / 4, [("admin", HOUR / 4 - 1)], True),
        (HOUR / 4, [("admin", DAY)], False),
        (DAY, [("admin", HOUR)], False),
        (-1, [], False),
    ],
)
def test_the_last_admin_token_stays(
    db: Database, revoked: float | None, others: list[tuple[str, float | None]], *, refused: bool
) -> None:
    """Beside an admin token that is revoked there is one that works as long, or for an hour; one that ended may go."""
    make(db, "tok_last", ends_s=revoked)
    for number, (role, ends_s) in enumerate(others):
        make(db, f"tok_{number}", Role(role), ends_s)
    if refused:
        with pytest.raises(Rejected, match="make another first") as caught:
            revoke(db, "tok_last")
        assert refusal(caught) == ("bad_request", "kid", "last_admin")
    else:
        assert revoke(db, "tok_last")["revoked_at"] == rfc3339(NOW)


def test_an_admin_token_with_a_scope_is_one(db: Database) -> None:
    """A scope does not narrow the right to manage, so its holder can make others; a revoked one cannot."""
    make(db, "tok_a")
    make(db, "tok_scoped", services=["stt"])
    revoke(db, "tok_a")
    with pytest.raises(Rejected):
        revoke(db, "tok_scoped")
    make(db, "tok_other", Role.OPERATOR)
    assert revoke(db, "tok_other")["kid"] == "tok_other"


def test_revoking_again_changes_nothing(db: Database) -> None:
    """It is answered with the token as it is, the time of the first revocation included, and leaves no event."""
    make(db, "tok_v", Role.VIEWER)
    first = revoke(db, "tok_v")
    assert revoke(db, "tok_v", at_s=9) == first
    assert first["revoked_at"] == rfc3339(NOW)
    with job(db) as tx:
        assert len(tx.outbox.first("events", 9)) == 2


@pytest.mark.parametrize("act", [revoke, rotate])
def test_what_is_not_there(db: Database, act: Any) -> None:
    """A kid that nobody has is `not_found`."""
    with pytest.raises(Rejected) as caught:
        act(db, "tok_nobody")
    assert refusal(caught)[0] == "not_found"


def test_a_successor_is_like_the_old_one(db: Database) -> None:
    """Name, role, services and algorithm are the same, the kid and the secret are not; the old one has its grace."""
    old = make(db, "tok_b", Role.OPERATOR, services=["s*", "t"])
    found = rotate(db, "tok_b", at_s=10, grace_s=60)
    new = opened(found)
    assert (new.name, new.role, new.services, new.alg) == (old.name, old.role, old.services, old.alg)
    assert (new.kid, new.k) != (old.kid, old.k)
    assert (found["kid"], found["expires_at"]) == (new.kid, None)
    assert (found["replaced"]["kid"], found["replaced"]["expires_at"]) == ("tok_b", rfc3339(NOW + 70))


@pytest.mark.parametrize(
    ("ends_s", "at_s", "grace_s", "old_ends_s", "new_ends_s"),
    [
        (None, DAY, 0, DAY, None),
        (30 * DAY, 29 * DAY, 300, 29 * DAY + 300, 59 * DAY),
        (30 * DAY, 29 * DAY, 2 * DAY, 30 * DAY, 59 * DAY),
        (30 * DAY, -DAY, 300, 300 - DAY, 30 * DAY),
    ],
    ids=["without an end", "with one", "a grace beyond it", "a clock set back"],
)
def test_how_long_both_live(
    db: Database, ends_s: float | None, at_s: float, grace_s: int, old_ends_s: float, new_ends_s: float | None
) -> None:
    """The successor as long as the old one was to, counted anew; the old one never longer than before."""
    make(db, "tok_b", ends_s=ends_s)
    found = rotate(db, "tok_b", at_s=at_s, grace_s=grace_s)
    assert found["replaced"]["expires_at"] == rfc3339(NOW + old_ends_s)
    assert found["expires_at"] == (None if new_ends_s is None else rfc3339(NOW + new_ends_s))


def test_a_pair_is_rotated_to_another_public_key(db: Database) -> None:
    """The owner makes it; without one, with the same one, or with one for an HS256 token, it is refused."""
    old, new = (Token.new("Ed25519", kid, "eve", Role.VIEWER) for kid in ("tok_e", "tok_n"))
    add(db, old)
    make(db, "tok_b")
    attempts: list[tuple[str, dict[str, Any], tuple[str, str, str]]] = [
        ("tok_e", {}, ("bad_request", "public_jwk", "missing")),
        ("tok_e", {"public_jwk": public_jwk(old)}, ("already_exists", "", "")),
        ("tok_b", {"public_jwk": public_jwk(new)}, ("bad_request", "public_jwk", "not_for_hs256")),
    ]
    for kid, params, expected in attempts:
        with pytest.raises(Rejected) as caught:
            rotate(db, kid, **params)
        assert refusal(caught) == expected
    found = rotate(db, "tok_e", public_jwk=public_jwk(new))
    assert (found["alg"], found["name"], "token_jwe" in found) == ("Ed25519", "eve", False)
    with job(db) as tx:
        restored = KEYS.restore(tx.tokens.one(found["kid"]) or {})
    assert restored.x == new.x
    assert isinstance(restored.signing_key(), Ed25519PublicKey)


@pytest.mark.parametrize(("ends_s", "kind"), [(None, "revoked"), (-1, "expired")])
def test_what_has_ended_is_not_renewed(db: Database, ends_s: float | None, kind: str) -> None:
    """Neither a revoked token nor an expired one gets a successor."""
    make(db, "tok_v", Role.VIEWER, ends_s)
    if kind == "revoked":
        revoke(db, "tok_v")
    with pytest.raises(Rejected, match="token/create") as caught:
        rotate(db, "tok_v")
    assert refusal(caught) == ("bad_request", "kid", kind)
