"""`bind` of configs with secrets: who sees them, where they are kept, and that nothing shows them."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from setpoint import Client
from tests.brokers import Broker
from tests.client.conftest import ClientOf
from tests.daemon import Daemon
from tests.waiting import eventually, soon

SECRET = {"type": "string", "writeOnly": True}
SCHEMA = {
    "properties": {
        "password": SECRET,
        "key": SECRET,
        "db": {"properties": {"login": {"type": "object", "writeOnly": True}, "pin": SECRET}},
    }
}
CONFIG = {
    "user": "pi",
    "password": "correct horse",
    "key": "battery staple",
    "db": {"login": {"name": "root-name"}, "pin": "90210-pin"},
}
WORDS = ("correct horse", "battery staple", "root-name", "90210-pin", "tr0ub4dor")


class Db(BaseModel):
    """A part of a model."""

    login: dict[str, str] = {}
    pin: str = ""


class Stt(BaseModel):
    """A model with a secret of each kind."""

    user: str = ""
    password: SecretStr = SecretStr("none")
    key: str = "none"
    db: Db = Db()


ALL = Stt.model_validate(CONFIG)
MISSING = ("/password", "/key", "/db/login", "/db/pin")


async def with_secrets(client: Client, service: str) -> None:
    """Set a schema that marks secrets, and a config that has some."""
    await client.schema_set(service, SCHEMA)
    await client.set(service, CONFIG)


def shown(*things: object) -> str:
    """Return all that `repr` and `str` show."""
    return "\n".join([*map(repr, things), *map(str, things)])


async def test_secrets_are_in_the_value_and_shown_nowhere(
    client: Client, service: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They stand in `SecretStr`, plain text and nested models; `repr`, changes, logs and files show none of them."""
    caplog.set_level(logging.DEBUG)
    await with_secrets(client, service)
    live = await client.bind(service, Stt)
    assert live.value == ALL
    assert (live.value.password.get_secret_value(), live.value.key) == ("correct horse", "battery staple")
    assert (live.missing, live.source, live.stale) == ((), "live", False)
    changes = live.changes()
    await client.patch(service, {"password": "tr0ub4dor", "db": {"pin": None}})
    change = await soon(anext(changes))
    assert change.new.password.get_secret_value() == "tr0ub4dor"
    assert (change.old, change.new.db) == (ALL, Db(login={"name": "root-name"}))
    assert [one.path for one in change.diff] == ["/db/pin", "/password"]
    value = live.value
    texts = [shown(live, change, *change.diff, change.document, value, value.db, change.old.db), caplog.text]
    texts += [path.read_text() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [word for word in WORDS if any(word in text for text in texts)] == []
    assert "user='pi'" in repr(value)


async def test_a_misfit_at_a_secret_does_not_tell_it(client: Client, service: str) -> None:
    """Why a secret does not fit is told by its place; its value is not."""

    class Strict(BaseModel):
        key: int = 0

    await with_secrets(client, service)
    live = await client.bind(service, Strict)
    assert live.error == "key: does not fit (int_parsing)"


class Word(BaseModel):
    """One of two parts, whose validator tells what it was given."""

    kind: Literal["word"]
    password: str

    @field_validator("password")
    @classmethod
    def _check(cls, password: str) -> str:
        msg = f"{password!r} is too short"
        raise ValueError(msg)


class Pin(BaseModel):
    """The other."""

    kind: Literal["pin"]
    pin: str = ""


class Either(BaseModel):
    """A model with a union, where pydantic's places have more steps than the config."""

    auth: Annotated[Word | Pin, Field(discriminator="kind")] = Pin(kind="pin")


async def test_a_validators_words_about_a_secret_are_told_nowhere(
    client: Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the error, the log nor the retained report has them, wherever the model puts the secret."""
    caplog.set_level(logging.DEBUG)
    await client.schema_set(service, {"properties": {"auth": {"properties": {"password": SECRET}}}})
    await client.set(service, {"auth": {"kind": "word", "password": "correct horse"}})
    live = await client.bind(service, Either)
    assert live.error == "auth.word.password: does not fit (value_error)"
    found = await client.applied(service)
    while not found.instances:
        found = await client.applied(service)
    assert [report.error for report in found.instances] == [live.error]
    assert "horse" not in caplog.text


async def test_a_secret_that_a_validator_moved_is_masked(client: Client, service: str) -> None:
    """A model may take a config apart: what stands in a secret's place is known by its text, wherever it went."""

    class Flat(BaseModel):
        user: str = ""
        word: str = ""

        @model_validator(mode="before")
        @classmethod
        def _flatten(cls, config: dict[str, Any]) -> dict[str, Any]:
            return {"user": config.pop("user", ""), "word": config.pop("key", "")}

    await with_secrets(client, service)
    live = await client.bind(service, Flat)
    assert live.value.word == "battery staple"
    assert repr(live.value) == "Flat(user='pi', word=**********)"


async def test_cached_secrets_open_again_without_the_broker(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf, tmp_path: Path
) -> None:
    """They are in the cache, sealed: the same token has them with the broker down; another one misses them, and why."""
    async with client_of(daemon) as client:
        await with_secrets(client, "stt")
        await client.bind("stt", Stt)
        (path,) = (tmp_path / "cache").rglob("stt.json")
        await eventually(lambda: '"secrets"' in path.read_text(), "the secrets are kept")
    other = daemon.new_token("other", "operator")
    own_broker.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value, live.source, live.missing) == (ALL, "cache", ())
        assert [word for word in WORDS if word in shown(live, live.value, live.value.db)] == []
    async with client_of(daemon, token=other) as client:
        live = await client.bind("stt", Stt)
        assert (live.value, live.source, live.missing) == (Stt(user="pi"), "cache", MISSING)
        assert "sealed for another token" in str(live.refused)
        own_broker.start()
        await eventually(lambda: not live.stale, "it is live")
        assert (live.value, live.missing) == (ALL, ())


@pytest.mark.parametrize("kind", ["viewer", "ed25519", "tokenless"])
async def test_who_may_not_see_them_has_the_defaults_there(
    kind: str, shared_daemon: Daemon, client: Client, client_of: ClientOf, service: str, tmp_path: Path
) -> None:
    """Without the right, with an Ed25519 token or without any, `missing` names the secrets, and the rest is applied."""
    await with_secrets(client, service)
    other = _other(kind, shared_daemon, client_of, tmp_path)
    async with other:
        live = await other.bind(service, Stt)
        assert (live.value, live.source, live.missing) == (Stt(user="pi"), "live", MISSING)
        assert (live.stale, live.error) == (False, None)
        changes = live.changes()
        await client.patch(service, {"user": "root"})
        assert (await soon(anext(changes))).new == Stt(user="root")


def _other(kind: str, daemon: Daemon, client_of: ClientOf, tmp_path: Path) -> Client:
    if kind == "tokenless":
        url = f"mqtt://{daemon.host}:{daemon.port}"
        return Client(url, topic_prefix=daemon.prefix, cache_dir=tmp_path / "tokenless")
    options = ("viewer",) if kind == "viewer" else ("admin", "--alg", "Ed25519")
    return client_of(daemon, token=daemon.new_token(kind, *options))


async def test_an_ed25519_token_commands_and_binds(
    shared_daemon: Daemon, client: Client, client_of: ClientOf, service: str, tmp_path: Path
) -> None:
    """Its replies are checked with the pinned key of the daemon, also the first one of all."""
    await client.set(service, {"user": "pi"})
    async with _other("ed25519", shared_daemon, client_of, tmp_path) as other:
        assert (await other.get(service)).config == {"user": "pi"}
        live = await other.bind(service, Stt)
        changes = live.changes()
        await other.patch(service, {"user": "root"})
        assert (await soon(anext(changes))).new.user == "root"


async def test_secrets_that_cannot_be_asked_for_yet_are_waited_for(
    daemon: Daemon, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    """While the daemon is down the value stays, and is stale; once it answers, the newer document is applied."""
    caplog.set_level(logging.INFO)
    async with client_of(daemon, timeout=1.0) as client:
        await with_secrets(client, "stt")
        live = await client.bind("stt", Stt)
        topic = daemon.topics.updated("stt")
        await client._link.unsubscribe(topic)  # noqa: SLF001 - as if it were away
        await client.patch("stt", {"password": "tr0ub4dor"})
        daemon.stop()
        await client._link.subscribe(topic)  # noqa: SLF001
        await eventually(lambda: live.waits_for_secrets, "the newer document has come")
        await eventually(lambda: "cannot be asked for" in caplog.text, "the daemon did not answer")
        assert (live.value, live.version, live.stale) == (ALL, 1, True)
        daemon.start()
        await eventually(lambda: live.version == 2, "the secrets are there")
        assert live.value.password.get_secret_value() == "tr0ub4dor"
        assert not live.stale


async def test_a_start_prefers_a_config_whose_secrets_it_has(
    daemon: Daemon, own_broker: Broker, client_of: ClientOf, tmp_path: Path
) -> None:
    """A newer document that only a watcher kept, with another secret, does not replace the last good one in a start."""
    async with client_of(daemon) as client:
        await with_secrets(client, "stt")
        await client.bind("stt", Stt)
        (path,) = (tmp_path / "cache").rglob("stt.json")
        await eventually(lambda: '"secrets"' in path.read_text(), "they are kept")
    async with client_of(daemon) as client:
        await client.patch("stt", {"key": "tr0ub4dor"})
        assert (await soon(anext(client.watch("*")))).version == 2
    own_broker.stop()
    async with client_of(daemon) as client:
        live = await client.bind("stt", Stt)
        assert (live.value, live.version, live.source, live.missing) == (ALL, 1, "cache", ())


async def test_says_why_secrets_cannot_be_asked_for(
    shared_daemon: Daemon,
    client: Client,
    client_of: ClientOf,
    service: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a token that the daemon does not know the defaults are in force, and the error and the log say why."""
    await with_secrets(client, service)
    token = json.loads(shared_daemon.token_path.read_text())
    path = tmp_path / "unknown.jwk"
    path.touch(0o600)
    path.write_text(json.dumps({**token, "kid": "unknown"}))
    async with client_of(shared_daemon, token=path, timeout=0.3, cache_dir=tmp_path / "other") as stranger:
        live = await stranger.bind(service, Stt, timeout=0)
        assert (live.value, live.source, live.stale) == (Stt(), "defaults", True)
        await eventually(lambda: "no answer" in str(live.error), "it says why")
        assert str(live.error).startswith("its secrets cannot be asked for: ")
        later = await stranger.bind(service, Stt, timeout=1)
        assert str(later.error).startswith("its secrets cannot be asked for: ")
    warnings = [record.getMessage() for record in caplog.records if "secrets" in record.getMessage()]
    assert len(warnings) == 2
    assert warnings[0].startswith(f"the secrets of {service} cannot be asked for: ")
