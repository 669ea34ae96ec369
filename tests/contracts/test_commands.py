"""Commands, their parameters, and the envelope around them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from setpoint_contracts import COMMANDS, Change, Claims, Code, Permission
from setpoint_contracts.envelope import readable_claims, usable_jti

PUBLIC_JWK = {"kty": "OKP", "crv": "Ed25519", "x": "bndheRw35ZNLZjZQDAdJhrFI6QEQgSHgxaa-NOEWW-I"}
PRIVATE_JWK = {**PUBLIC_JWK, "d": "aa4zfabRCrS5BK2e9l09uCOlEmrFbvP0aoDczvvW5Og"}
CLAIMS = {"jti": "a", "aud": "config/cmd/info", "iat": 1, "exp": 2}


def test_the_commands_are_those_of_the_wire() -> None:
    """Each command has the permission that the wire gives it, and `reason` and `dry_run` where it says so."""
    assert {name: command.needs for name, command in COMMANDS.items()} == {
        "info": Permission.READ,
        "status": Permission.READ,
        "get": Permission.READ,
        "list": Permission.READ,
        "set": Permission.WRITE,
        "patch": Permission.WRITE,
        "delete": Permission.DELETE,
        "apply": Permission.WRITE,
        "profile/save": Permission.WRITE,
        "profile/list": Permission.READ,
        "profile/get": Permission.READ,
        "profile/delete": Permission.DELETE,
        "profile/load": Permission.WRITE,
        "schema/set": Permission.MANAGE,
        "schema/get": Permission.READ,
        "schema/list": Permission.READ,
        "schema/delete": Permission.MANAGE,
        "search": Permission.READ,
        "diff": Permission.READ,
        "history/query": Permission.READ,
        "history/versions": Permission.READ,
        "history/restore": Permission.WRITE,
        "audit/query": Permission.MANAGE,
        "token/create": Permission.MANAGE,
        "token/list": Permission.MANAGE,
        "token/revoke": Permission.MANAGE,
        "token/rotate": Permission.MANAGE,
        "applied": Permission.READ,
        "history/prune": Permission.MANAGE,
        "epoch/advance": Permission.MANAGE,
    }
    assert {name for name, command in COMMANDS.items() if issubclass(command, Change)} == {
        "set",
        "patch",
        "delete",
        "apply",
        "profile/load",
        "history/restore",
    }


@pytest.mark.parametrize(
    ("command", "params"),
    [
        ("info", {}),
        ("get", {"service": "stt"}),
        ("get", {"service": "stt", "version": 1, "key": "model"}),
        ("get", {"service": "stt", "revision": 0}),
        ("get", {"service": "stt", "time": "2026-11-23T10:00:00+01:00"}),
        ("list", {"prefix": "t", "limit": 1000, "after": "stt"}),
        ("set", {"service": "stt", "config": {}, "expected_version": 0}),
        ("set", {"service": "stt", "config": {"a": None}, "reason": "x" * 500, "dry_run": True}),
        ("patch", {"service": "stt", "patch": {"a": None}}),
        ("delete", {"service": "stt", "expected_version": 2**53 - 1}),
        ("get", {"service": "stt", "version": 1.0}),
        ("set", {"service": "stt", "config": {}, "expected_version": 3.0}),
        ("profile/save", {"name": "evening / \N{CRESCENT MOON}"}),
        ("profile/save", {"name": "x" * 100, "description": "é" * 500, "services": None, "overwrite": True}),
        ("profile/list", {}),
        ("profile/get", {"name": " "}),
        ("profile/delete", {"name": "a"}),
        ("profile/load", {"name": "a", "exact": True, "reason": "why", "dry_run": True}),
        ("schema/set", {"service": "stt", "schema": {}, "force": True}),
        ("schema/get", {"service": "stt"}),
        ("schema/list", {"limit": 1000, "after": "stt"}),
        ("schema/delete", {"service": "stt"}),
        ("history/prune", {"keep_days": 0}),
        ("history/prune", {"keep_days": 30.0, "keep_versions": 1}),
        ("applied", {}),
        ("applied", {"service": "stt"}),
        ("epoch/advance", {}),
        ("epoch/advance", {"expected_epoch": 1767225600}),
        ("audit/query", {}),
        ("audit/query", {"action": "auth_failure", "user": "alice", "service": "stt", "limit": 1000, "before": 0}),
        ("audit/query", {"since": "2026-11-23T10:00:00+01:00", "until": "2026-11-23T10:00:00.123456Z"}),
        ("token/create", {"name": "pi", "role": "viewer"}),
        ("token/create", {"name": "pi", "role": "operator", "services": ["s*", "t"], "ttl_s": 60.0, "alg": "HS256"}),
        ("token/create", {"name": "pi", "role": "admin", "alg": "Ed25519", "public_jwk": PUBLIC_JWK}),
        ("token/create", {"name": "pi", "role": "admin", "alg": "Ed25519", "public_jwk": {**PUBLIC_JWK, "kid": "k"}}),
        ("token/revoke", {"kid": "tok_1"}),
        ("token/rotate", {"kid": "tok_1"}),
        ("token/rotate", {"kid": "tok_1", "grace_s": 0, "public_jwk": PUBLIC_JWK}),
        ("search", {"query": "x" * 200, "service": "stt", "limit": 1000}),
        ("search", {"query": " "}),
        ("diff", {"service": "stt", "from": {"version": 1}, "to": {"revision": 0}}),
        ("diff", {"service": "stt", "from": {"time": "2026-11-23T10:00:00Z"}, "to": {"version": 2.0}}),
        ("diff", {"service": "stt", "from": {"profile": "at night"}, "to": {"version": 1}}),
        ("history/query", {}),
        ("history/query", {"service": "stt", "key": "a", "user": "admin", "limit": 1000, "before": 7}),
        ("history/query", {"since": "2026-11-23T10:00:00Z", "until": "2026-11-23T10:00:00.5+01:00"}),
        ("history/versions", {"service": "stt", "limit": 1, "before": 2}),
        ("history/restore", {"revision": 0, "reason": "why", "dry_run": True}),
        ("history/restore", {"time": "2026-11-23T10:00:00Z"}),
    ],
)
def test_takes_parameters_that_fit(command: str, params: dict[str, Any]) -> None:
    """Parameters within their bounds are taken, and a command names the service that it touches."""
    parsed = COMMANDS[command].model_validate(params)
    assert parsed.asks() == ((parsed.needs, params.get("service")),)


def test_a_restore_asks_for_every_service_that_it_names() -> None:
    """To write each; when it names none, to write at all, and more shows when it runs."""
    restore = COMMANDS["history/restore"].model_validate
    assert restore({"services": ["a", "b"], "revision": 1}).asks() == tuple((Permission.WRITE, name) for name in "ab")
    assert restore({"revision": 1}).asks() == ((Permission.WRITE, None),)


@pytest.mark.parametrize(
    ("command", "params", "field"),
    [
        ("info", {"x": 1}, "x"),
        ("get", {}, "service"),
        ("get", {"service": "+"}, "service"),
        ("get", {"service": "stt", "version": 0}, "version"),
        ("get", {"service": "stt", "version": 1.5}, "version"),
        ("get", {"service": "stt", "version": 1e400}, "version"),
        ("get", {"service": "stt", "version": 2.0**53}, "version"),
        ("list", {"limit": True}, "limit"),
        ("epoch/advance", {"expected_epoch": True}, "expected_epoch"),
        ("epoch/advance", {"reason": "why"}, "reason"),
        ("epoch/advance", {"dry_run": True}, "dry_run"),
        ("get", {"service": "stt", "version": "1"}, "version"),
        ("get", {"service": "stt", "version": True}, "version"),
        ("get", {"service": "stt", "version": 2**53}, "version"),
        ("get", {"service": "stt", "revision": 10**400}, "revision"),
        ("get", {"service": "stt", "time": 1795428000}, "time"),
        ("get", {"service": "stt", "version": 1, "time": "2026-11-23T10:00:00Z"}, "time"),
        ("get", {"service": "stt", "version": 1, "revision": 1}, "revision"),
        ("list", {"limit": 0}, "limit"),
        ("list", {"limit": 1001}, "limit"),
        ("set", {"service": "stt"}, "config"),
        ("set", {"service": "stt", "config": [1]}, "config"),
        ("set", {"service": "stt", "config": {"9": 1}}, "config"),
        ("set", {"service": "stt", "config": {"a\n": 1}}, "config"),
        ("set", {"service": "stt", "config": {}, "expected_version": -1}, "expected_version"),
        ("set", {"service": "stt", "config": {}, "expected_version": 2**63}, "expected_version"),
        ("set", {"service": "stt", "config": {}, "dry_run": "yes"}, "dry_run"),
        ("set", {"service": "stt", "config": {}, "dry_run": 1}, "dry_run"),
        ("set", {"service": "stt", "config": {}, "reason": "x" * 501}, "reason"),
        ("patch", {"service": "stt", "config": {}}, "patch"),
        ("delete", {"service": ["stt"]}, "service"),
        ("profile/save", {}, "name"),
        ("profile/save", {"profile": "a"}, "name"),
        ("profile/save", {"name": "a", "services": []}, "services"),
        ("profile/save", {"name": "a", "overwrite": 1}, "overwrite"),
        ("profile/save", {"name": "a", "reason": "why"}, "reason"),
        ("profile/list", {"name": "a"}, "name"),
        ("profile/get", {"name": "a\n"}, "name"),
        ("profile/delete", {"name": ""}, "name"),
        ("profile/delete", {"name": "a", "dry_run": True}, "dry_run"),
        ("profile/load", {"name": "x" * 101}, "name"),
        ("profile/load", {"name": "a", "exact": "yes"}, "exact"),
        ("schema/set", {"service": "stt"}, "schema"),
        ("schema/set", {"service": "stt", "schema": True}, "schema"),
        ("schema/set", {"service": "stt", "schema": {}, "force": 1}, "force"),
        ("schema/set", {"service": "stt", "content": {}}, "schema"),
        ("schema/set", {"service": "stt", "schema": {}, "dry_run": True}, "dry_run"),
        ("schema/list", {"limit": 0}, "limit"),
        ("audit/query", {"action": "explode"}, "action"),
        ("audit/query", {"user": "Alice"}, "user"),
        ("audit/query", {"since": "yesterday"}, "since"),
        ("audit/query", {"until": 1795428000}, "until"),
        ("audit/query", {"limit": 1001}, "limit"),
        ("audit/query", {"before": -1}, "before"),
        ("audit/query", {"before": 2**53}, "before"),
        ("audit/query", {"after": 1}, "after"),
        ("token/create", {"role": "viewer"}, "name"),
        ("token/create", {"principal": "pi", "name": "pi", "role": "viewer"}, "principal"),
        ("token/create", {"name": "Pi", "role": "viewer"}, "name"),
        ("token/create", {"name": "pi", "role": "root"}, "role"),
        ("token/create", {"name": "pi", "role": "viewer", "services": []}, "services"),
        ("token/create", {"name": "pi", "role": "viewer", "services": ["a/b"]}, "services"),
        ("token/create", {"name": "pi", "role": "viewer", "services": ["s"] * 101}, "services"),
        ("token/create", {"name": "pi", "role": "viewer", "ttl_s": 0}, "ttl_s"),
        ("token/create", {"name": "pi", "role": "viewer", "ttl_s": 100 * 365 * 86_400 + 1}, "ttl_s"),
        ("token/create", {"name": "pi", "role": "viewer", "ttl_s": True}, "ttl_s"),
        ("token/create", {"name": "pi", "role": "viewer", "alg": "EdDSA"}, "alg"),
        ("token/create", {"name": "pi", "role": "viewer", "alg": "Ed25519"}, "public_jwk"),
        ("token/create", {"name": "pi", "role": "viewer", "public_jwk": PUBLIC_JWK}, "public_jwk"),
        ("token/create", {"name": "pi", "role": "viewer", "alg": "Ed25519", "public_jwk": PRIVATE_JWK}, "public_jwk"),
        ("token/create", {"name": "pi", "role": "viewer", "dry_run": True}, "dry_run"),
        ("token/revoke", {}, "kid"),
        ("token/revoke", {"kid": "a b"}, "kid"),
        ("token/rotate", {"kid": "tok_1", "grace_s": -1}, "grace_s"),
        ("token/rotate", {"kid": "tok_1", "public_jwk": PRIVATE_JWK}, "public_jwk"),
        ("applied", {"service": "+"}, "service"),
        ("history/prune", {}, ""),
        ("history/prune", {"keep_days": -1}, "keep_days"),
        ("history/prune", {"keep_days": 36_501}, "keep_days"),
        ("history/prune", {"keep_days": True}, "keep_days"),
        ("history/prune", {"keep_versions": 0}, "keep_versions"),
        ("history/prune", {"keep_versions": 1.5}, "keep_versions"),
        ("history/prune", {"keep_versions": 1_000_001}, "keep_versions"),
        ("history/prune", {"keep_days": 1, "service": "stt"}, "service"),
        ("history/prune", {"keep_days": 1, "dry_run": True}, "dry_run"),
        ("applied", {"instance": "pi-1"}, "instance"),
        ("search", {}, "query"),
        ("search", {"query": ""}, "query"),
        ("search", {"query": "x" * 201}, "query"),
        ("search", {"query": 1}, "query"),
        ("diff", {"service": "stt", "to": {"version": 1}}, "from"),
        ("diff", {"service": "stt", "from": {}, "to": {"version": 1}}, "from"),
        ("diff", {"service": "stt", "from": {"version": 1, "revision": 1}, "to": {"version": 1}}, "from"),
        ("diff", {"service": "stt", "from": {"version": 0}, "to": {"version": 1}}, "from"),
        ("diff", {"service": "stt", "from": {"version": 1}, "to": 1}, "to"),
        ("diff", {"service": "stt", "from": {"version": 1}, "to": {"profile": ""}}, "to"),
        ("diff", {"service": "stt", "from_": {"version": 1}, "to": {"version": 1}}, "from"),
        ("history/query", {"before": -1}, "before"),
        ("history/query", {"since": "yesterday"}, "since"),
        ("history/query", {"until": "2026-02-30T00:00:00Z"}, "until"),
        ("history/query", {"user": "A"}, "user"),
        ("history/query", {"key": ""}, "key"),
        ("history/query", {"limit": 0}, "limit"),
        ("history/versions", {}, "service"),
        ("history/restore", {}, ""),
        ("history/restore", {"version": 1}, "services"),
        ("history/restore", {"version": 1, "services": ["a", "b"]}, "services"),
        ("history/restore", {"revision": 1, "time": "2026-11-23T10:00:00Z"}, "time"),
        ("history/restore", {"revision": 1, "services": []}, "services"),
        ("history/restore", {"revision": 1, "services": ["a", "a"]}, "services"),
        ("history/restore", {"revision": 1, "services": ["A"]}, "services"),
        ("history/restore", {"revision": 1, "services": [f"s{n}" for n in range(1001)]}, "services"),
    ],
)
def test_refuses_parameters_that_do_not_fit(command: str, params: dict[str, Any], field: str) -> None:
    """Nothing is coerced and nothing extra is taken; the error names the field, and shows nothing of the input."""
    with pytest.raises(ValidationError) as caught:
        COMMANDS[command].model_validate(params)
    first = caught.value.errors(include_url=False)[0]
    assert str(first["loc"][0] if first["loc"] else "") == field
    assert "input_value" not in str(caught.value)
    assert PRIVATE_JWK["d"] not in str(caught.value)


def test_saving_services_asks_for_each_of_them() -> None:
    """Those that are named, so that a refusal may name one."""
    command = COMMANDS["profile/save"].model_validate({"name": "a", "services": ["stt", "tts"]})
    assert command.asks() == ((Permission.WRITE, "stt"), (Permission.WRITE, "tts"))


def test_claims_tell_no_reply_from_the_default_one() -> None:
    """`reply_to` null and `reply_to` left out are two things."""
    assert "reply_to" not in Claims.model_validate(CLAIMS).model_fields_set
    assert "reply_to" in Claims.model_validate({**CLAIMS, "reply_to": None}).model_fields_set


@pytest.mark.parametrize(
    "change",
    [
        {"jti": ""},
        {"jti": "a/b"},
        {"jti": 1},
        {"iat": "1"},
        {"iat": True},
        {"exp": -1},
        {"exp": 10**400},
        {"exp": None},
        {"aud": None},
        {"params": []},
        {"params": None},
        {"reply_to": 1},
        {"nbf": "1"},
        {"admin": True},
    ],
)
def test_claims_that_do_not_fit(change: dict[str, Any]) -> None:
    """A claim of another type, beyond its bounds, or unknown, is refused."""
    with pytest.raises(ValidationError):
        Claims.model_validate({**CLAIMS, **change})


@pytest.mark.parametrize("missing", CLAIMS)
def test_claims_that_must_be_there(missing: str) -> None:
    """Without its id, topic or times a command is nothing."""
    with pytest.raises(ValidationError):
        Claims.model_validate({name: value for name, value in CLAIMS.items() if name != missing})


@pytest.mark.parametrize(
    ("claims", "jti"),
    [
        (b'{"jti":"a","exp":NaN}', "a"),
        (b'{"jti":"a","x":1,"x":2}', "a"),
        (b'{"jti":"a","x":"\\ud800"}', "a"),
        (b'{"jti":"a","x":' + b"1" * 5000 + b"}", "a"),
        (b'{"jti":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "a"),
        (b'{"jti":"a","jti":"b"}', "b"),
        (b'{"params":{"jti":"nested"}}', None),
        (b'{"params":{"jti":"nested"},"jti":"a",,}', None),
        (b'{"jti":"a","x":"\xff"}', None),
        (b'{"jti":"a","x":' + b"[" * 100_000, None),
        (b'{ "jti" : "a"', None),
        (b'{"jti":"a/b"}', None),
        (b'{"jti":"a\\n"}', None),
        (b'{"jti":1}', None),
        (b'{"jti":"' + b"x" * 65 + b'"}', None),
        (b"{}", None),
        (b"[]", None),
        (b"1", None),
        (b"", None),
    ],
)
def test_a_signed_sender_gets_an_answer_to_claims_that_fail(claims: bytes, jti: str | None) -> None:
    """The request id of claims that are refused is known, when any reader can read them and it can stand in a topic."""
    assert usable_jti(readable_claims(claims)) == jti


def test_claims_that_are_refused_are_answered_where_they_ask() -> None:
    """The reply topic is known like the request id, null too, and nothing else of the claims is."""
    assert readable_claims(b'{"jti":"a","reply_to":"t","exp":NaN}') == {"jti": "a", "reply_to": "t"}
    assert readable_claims(b'{"reply_to":null,"reply_to":null,"params":{"reply_to":"x"}}') == {"reply_to": None}


@given(st.binary())
def test_any_claims_can_be_looked_at(claims: bytes) -> None:
    """Whatever was signed, looking for the request id never fails."""
    assert isinstance(readable_claims(claims), dict)


def test_retryable_codes() -> None:
    """Only these four say that the same command may still run."""
    assert {code.value for code in Code if code.retryable} == {"rate_limited", "read_only", "unavailable", "internal"}
