"""Secrets of a config: put in by their tags, left out where they are not known, sealed for the cache."""

from typing import Any

from setpoint.revealing import Secrets, tags_in
from setpoint_contracts import Role, Token, seal_for, strictjson
from setpoint_contracts.redaction import shown
from setpoint_contracts.sealing import SECRETS_INFO

TOKEN = Token.new("HS256", "tok_1", "pi", Role.OPERATOR)
OTHER = Token.new("HS256", "tok_2", "pi", Role.OPERATOR)
CONFIG = {
    "user": "pi",
    "password": shown("11111111"),
    "db": {"host": "h", "login": shown("22222222")},
    "peers": [{"name": "a", "key": shown("33333333")}, {"name": "b"}],
    "a/b~": shown("44444444"),
}
VALUES = {"/password": "horse", "/db/login": {"pin": 1}, "/peers/0/key": None, "/a~1b~0": ["x"]}


async def known(token: Token = TOKEN, values: dict[str, Any] | None = None) -> Secrets:
    """Make secrets that were asked for."""

    async def call(command: str, params: Any) -> dict[str, Any]:
        assert (command, params) == ("get", {"service": "stt", "version": 7, "reveal": True})
        sealed = seal_for(token.signing_key(), SECRETS_INFO, strictjson.dumps(values or VALUES).encode())
        return {"config": CONFIG, "secrets_jwe": sealed}

    secrets = Secrets("stt", token, call)
    await secrets.ask(7)
    return secrets


async def test_values_stand_where_their_tags_were() -> None:
    """Each value is put in its place, whatever its type, and nothing else is changed; the places are told."""
    secrets = await known()
    assert secrets.are_known(CONFIG)
    config, places, missing = secrets.put_in(CONFIG)
    assert config == {
        "user": "pi",
        "password": "horse",
        "db": {"host": "h", "login": {"pin": 1}},
        "peers": [{"name": "a", "key": None}, {"name": "b"}],
        "a/b~": ["x"],
    }
    assert places == [("password",), ("db", "login"), ("peers", 0, "key"), ("a/b~",)]
    assert missing == []
    assert "horse" not in repr(secrets)


def test_what_is_not_known_is_left_out() -> None:
    """The member of a secret that may not be seen is not there, and inside a list the whole list; each is named."""
    secrets = Secrets("stt", None, None)
    assert not secrets.may_ask
    assert not secrets.are_known(CONFIG)
    config, places, missing = secrets.put_in(CONFIG)
    assert config == {"user": "pi", "db": {"host": "h"}}
    assert (places, missing) == ([], ["/password", "/db/login", "/peers/0/key", "/a~1b~0"])


async def test_what_is_sealed_for_the_cache_opens_for_the_same_token_and_service() -> None:
    """Another token, another service and a changed text open nothing; an Ed25519 token seals nothing."""
    sealed = (await known()).sealed(CONFIG)
    assert sealed is not None
    assert "horse" not in sealed
    again = Secrets("stt", TOKEN, None)
    assert again.open_cached(sealed)
    assert again.put_in(CONFIG) == (await known()).put_in(CONFIG)
    for token, service, text in ((OTHER, "stt", sealed), (TOKEN, "tts", sealed), (TOKEN, "stt", sealed[:-2] + "AA")):
        refused = Secrets(service, token, None)
        assert not refused.open_cached(text)
        assert not refused.are_known(CONFIG)
    ed25519 = Token.new("Ed25519", "tok_3", "pi", Role.OPERATOR)
    assert not Secrets("stt", ed25519, None).open_cached(sealed)
    assert Secrets("stt", ed25519, None).sealed(CONFIG) is None


async def test_nothing_is_sealed_that_is_not_whole() -> None:
    """A config without secrets, and one of which not all are known, have nothing to seal."""
    assert (await known()).sealed({"user": "pi"}) is None
    assert (await known()).sealed({**CONFIG, "more": shown("55555555")}) is None


async def test_a_value_counts_for_the_tag_that_it_was_asked_with() -> None:
    """What the daemon did not reveal is not known, and tags that no config has any more are forgotten."""
    secrets = await known(values={"/password": "horse"})
    assert secrets.put_in(CONFIG)[2] == ["/db/login", "/peers/0/key", "/a~1b~0"]
    secrets.forget_all_but({"user": "pi"}, None)
    assert "/password" in secrets.put_in(CONFIG)[2]


def test_only_what_stands_for_a_secret_is_one() -> None:
    """An object with more members, or no tag, is a value like any other."""
    assert [*tags_in({"a": {"$secret": "11111111", "b": 1}, "c": {"$secret": "x"}, "d": ["$secret"]})] == []
