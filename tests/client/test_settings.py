"""What a client goes by: arguments, environment, and what is usual."""

import json
import os
import ssl
from pathlib import Path

import pytest

from setpoint import ConfigurationError, Token
from setpoint.settings import Settings, settle
from setpoint_contracts import Role

TOKEN = Token.new("HS256", "tok_1", "alice", Role.OPERATOR)
PUBLIC = {"kty": "OKP", "crv": "Ed25519", "kid": "key_1", "x": "me3Z26cwlWghlYXknOIkcAQNxrm8ewEVfJQpUcxH-so"}


def settled(url: str | None = None, token: Token | Path | None = None, env: dict[str, str] | None = None) -> Settings:
    """Settle with nothing in the environment but what is given."""
    return settle(url, token, environment=env or {})


@pytest.mark.parametrize(
    ("url", "host", "port", "transport", "path"),
    [
        ("mqtt://pi", "pi", 1883, "tcp", None),
        ("mqtts://pi.local", "pi.local", 8883, "tcp", None),
        ("mqtt://[::1]:2883", "::1", 2883, "tcp", None),
        ("ws://pi", "pi", 80, "websockets", "/mqtt"),
        ("wss://pi:9443/broker", "pi", 9443, "websockets", "/broker"),
    ],
)
def test_a_url_says_where_the_broker_is(url: str, host: str, port: int, transport: str, path: str | None) -> None:
    """Scheme, host, port and path of each form are read, and what is left out is what is usual."""
    broker = settled(url).broker

    assert (broker.host, broker.port, broker.transport, broker.path) == (host, port, transport, path)
    assert (broker.tls is not None) == url.startswith(("mqtts", "wss"))


def test_user_and_password_are_decoded_and_not_shown() -> None:
    """Percent-encoded user and password are what the broker gets, and no text shows the password."""
    settings = settled("mqtt://al%40home:p%2Fw@pi")

    assert (settings.broker.user, settings.broker.password) == ("al@home", "p/w")
    assert "p/w" not in repr(settings) + str(settings.broker)


@pytest.mark.parametrize(
    "url",
    [
        "pi",
        "http://pi",
        "mqtt://",
        "mqtt://pi:99999",
        "mqtt://u:sec%ret@pi",
        "mqtt://u:secret@pi/x",
        "mqtt://pi?a=secret",
    ],
)
def test_what_is_no_url_is_refused_without_being_repeated(url: str) -> None:
    """The error says how to write a URL, and holds nothing of the one that was given."""
    with pytest.raises(ConfigurationError, match="mqtt://user:password@host") as refusal:
        settled(url)

    assert "secret" not in str(refusal.value)
    assert refusal.value.code == "configuration"


def test_the_environment_says_what_arguments_leave_out(tmp_path: Path) -> None:
    """Each setting can stand in the environment, and an argument wins over it."""
    (tmp_path / "a.jwk").write_bytes(TOKEN.dump())
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [PUBLIC]}))
    env = {
        "SETPOINT_BROKER_URL": "mqtt://pi:2883",
        "SETPOINT_TOKEN": str(tmp_path / "a.jwk"),
        "SETPOINT_CACHE_DIR": "/somewhere",
        "SETPOINT_INSTANCE": "pi-1",
        "SETPOINT_TOPIC_PREFIX": "site1/",
        "SETPOINT_KEYS": str(tmp_path / "keys.json"),
    }
    settings = settled(env=env)

    assert (settings.broker.host, settings.broker.port) == ("pi", 2883)
    assert settings.token == TOKEN
    assert settings.cache_dir == Path("/somewhere")
    assert (settings.instance, settings.topics.prefix) == ("pi-1", "site1/")
    assert settings.keys == (PUBLIC,)
    assert settled("mqtt://other", env=env).broker.host == "other"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/stt:/var/lib/more", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/var/lib/stt"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/setpoint"),
        ({"HOME": "/h"}, "/h/.local/state/setpoint"),
    ],
)
def test_the_cache_is_where_such_files_are_usual(env: dict[str, str], expected: str) -> None:
    """Systemd's directory comes first, then that of the desktop standard, then its default."""
    assert settled(env=env).cache_dir == Path(expected)


def test_an_instance_is_named_after_its_host() -> None:
    """Whatever a host is called, its name becomes one that an instance may have."""
    assert settled().instance.replace(".", "").replace("-", "").replace("_", "").isalnum()
    with pytest.raises(ConfigurationError, match="1 to 64"):
        settle(None, None, instance="a/b", environment={})


def test_a_token_file_that_is_none_is_refused_without_its_content(tmp_path: Path) -> None:
    """A missing file, one that is no token, and a token that cannot sign each get a line that says so."""
    with pytest.raises(ConfigurationError, match=r"absent\.jwk cannot be read: No such file"):
        settled(token=tmp_path / "absent.jwk")
    (tmp_path / "a.jwk").write_text('{"kty":"oct","k":"secret-secret"}')
    with pytest.raises(ConfigurationError, match=r"a\.jwk is no token file") as refusal:
        settled(token=tmp_path / "a.jwk")
    assert "secret-secret" not in str(refusal.value)
    with pytest.raises(ConfigurationError, match="no private key"):
        settled(token=Token.new("Ed25519", "tok_2", "alice", Role.VIEWER).public())


@pytest.mark.parametrize("keys", [{"kty": "oct"}, [], {"keys": [{**PUBLIC, "x": "short"}]}, {"keys": "no"}])
def test_keys_are_public_ed25519_keys(keys: object) -> None:
    """Anything else is refused, and the error says what to give."""
    with pytest.raises(ConfigurationError, match="public Ed25519 JWK"):
        settle(None, None, keys=keys, environment={})  # type: ignore[arg-type] # what a caller may get wrong


def test_tls_files_are_read_at_once(tmp_path: Path, certificate: Path) -> None:
    """A CA file and a client certificate are loaded when the client is made; a bad one is named."""
    env = {"SETPOINT_BROKER_CA": str(certificate), "SETPOINT_BROKER_CERT": str(certificate)}
    env["SETPOINT_BROKER_KEY"] = str(certificate.parent / "broker.key")
    assert isinstance(settled("mqtts://pi", env=env).broker.tls, ssl.SSLContext)
    for name in ("SETPOINT_BROKER_CA", "SETPOINT_BROKER_CERT"):
        with pytest.raises(ConfigurationError, match=r"absent\.pem cannot be used"):
            settled("mqtts://pi", env={**env, name: str(tmp_path / "absent.pem")})
    with pytest.raises(ConfigurationError, match="SETPOINT_BROKER_CERT"):
        settled("mqtts://pi", env={"SETPOINT_BROKER_KEY": env["SETPOINT_BROKER_KEY"]})
    with pytest.raises(ConfigurationError, match="mqtts://"):
        settle("mqtt://pi", None, tls=ssl.create_default_context(), environment={})


def test_the_real_environment_counts() -> None:
    """Without another environment the process's own is asked."""
    assert settle(None, None, instance="x").cache_dir.is_absolute() or "SETPOINT_CACHE_DIR" in os.environ
