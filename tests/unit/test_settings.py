"""Settings: their sources and what they refuse."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from setpointd.errors import OperatorError
from setpointd.settings import SECRETS, Settings, option, variable

PASSWORD = "s3cret/+ü"
ENCODED = "s3cret%2F%2B%C3%BC"


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SETPOINT_"):
            monkeypatch.delenv(name)


def load(config: Path | None = None, /, **given: Any) -> Settings:
    """Load settings with a data directory."""
    return Settings.load({"data_dir": "/data", **given}, config)


def refusal(config: Path | None = None, /, **given: Any) -> str:
    """Return the one line with which settings are refused."""
    with pytest.raises(OperatorError) as caught:
        load(config, **given)
    [line] = str(caught.value.args[0]).splitlines()
    return line


def test_defaults() -> None:
    """With a data directory alone, the daemon looks for a broker on this machine and serves HTTP to it only."""
    settings = load()
    assert (settings.broker_host, settings.broker_port, settings.broker_tls) == ("127.0.0.1", 1883, False)
    assert (settings.broker_user, settings.broker_secret, settings.broker_ca) == (None, None, None)
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8765)
    assert settings.data_dir == Path("/data")
    assert settings.topic_prefix == ""


def test_sources_from_strongest_to_weakest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Command line beats environment, environment beats secret file, secret file beats TOML, TOML beats default."""
    (tmp_path / "broker").write_text("mqtt://from-file\n")
    (tmp_path / "config.toml").write_text('broker = "mqtt://from-toml"\n')
    monkeypatch.setenv("SETPOINT_BROKER", "mqtt://from-env")
    monkeypatch.setenv("SETPOINT_BROKER_FILE", str(tmp_path / "broker"))
    config = tmp_path / "config.toml"

    assert load(config, broker="mqtt://from-line").broker_host == "from-line"
    assert load(config).broker_host == "from-env"
    monkeypatch.delenv("SETPOINT_BROKER")
    assert load(config).broker_host == "from-file"
    monkeypatch.delenv("SETPOINT_BROKER_FILE")
    assert load(config).broker_host == "from-toml"
    assert load().broker_host == "127.0.0.1"


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_from_environment_and_toml(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each setting can be given as a variable and in a TOML file, with the same result."""
    values = {
        "data_dir": "/elsewhere",
        "broker": "mqtts://user@broker.example",
        "broker_password": "secret",
        "broker_ca": "/ca.pem",
        "http": "[::1]:80",
        "topic_prefix": "site1/",
        "client_id": "other",
        "require_expected_version": "true",
        "log_format": "json",
        "log_level": "debug",
    }
    value = values.get(name, "2000")
    (tmp_path / "config.toml").write_text(f'{name} = "{value}"\n')
    beside = {"data_dir": "/data", "broker": values["broker"]}
    beside.pop(name, None)

    from_toml = Settings.load(beside, tmp_path / "config.toml")
    monkeypatch.setenv(variable(name), value)
    assert Settings.load(beside) == from_toml
    assert getattr(from_toml, name) != Settings.model_fields[name].default


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files hand on variables that nobody set as empty ones."""
    for name in ("SETPOINT_BROKER", "SETPOINT_BROKER_PASSWORD", "SETPOINT_BROKER_FILE", "SETPOINT_RECEIVE_MAXIMUM"):
        monkeypatch.setenv(name, "")
    assert load() == load()
    assert load().receive_maximum == 256


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", ("broker", 1883, None, False)),
        ("mqtts://broker", ("broker", 8883, None, True)),
        ("mqtt://broker:1/", ("broker", 1, None, False)),
        ("mqtt://[::1]:1884", ("::1", 1884, None, False)),
        ("mqtts://us%40er@10.0.0.7:99", ("10.0.0.7", 99, "us@er", True)),
    ],
)
def test_broker_url(url: str, expected: tuple[object, ...]) -> None:
    """Host, port, user and encryption come from the URL; the ports have MQTT's defaults."""
    settings = load(broker=url)
    assert (settings.broker_host, settings.broker_port, settings.broker_user, settings.broker_tls) == expected


@pytest.mark.parametrize(
    "url",
    [
        "broker.example",
        "http://broker.example",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://a..b",
        f"mqtt://user:{PASSWORD}@broker",
        f"mqtt://user:{ENCODED}@broker:port",
        f"mqtt://user:{ENCODED}@broker:70000",
        f"mqtt://user:{ENCODED}@broker:0",
        f"mqtt://user:{ENCODED}@[::1",
        f"mqtt://user:{ENCODED}@broker/topic",
        f"mqtt://user:{ENCODED}@broker?x",
        f"mqtt://user:{ENCODED}%ff@broker",
        f"mqtt://user:{ENCODED}%zz@broker",
        f"mqtt://user:{ENCODED}@bro ker",
        f"mqtt://user:{ENCODED}@broker\n",
        "",
    ],
)
def test_broker_url_that_does_not_fit(url: str) -> None:
    """A URL that is none is refused with how to write one, and without the password in it."""
    line = refusal(broker=url)
    assert line.startswith("broker: write mqtt://host, ")
    assert "--broker, SETPOINT_BROKER, SETPOINT_BROKER_FILE" in line
    assert "s3cret" not in line


@pytest.mark.parametrize(
    "given",
    [
        {"broker": f"mqtt://user:{ENCODED}@broker"},
        {"broker": "mqtt://user@broker", "broker_password": PASSWORD},
    ],
)
def test_password(given: dict[str, str]) -> None:
    """The password may be in the URL, percent-encoded, or apart, as it is; either way it shows nowhere."""
    settings = load(**given)
    assert settings.broker_secret == SecretStr(PASSWORD)
    assert "s3cret" not in f"{settings!r} {settings} {settings.broker_secret!r}"


def test_password_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret file's last line break does not belong to the secret; its spaces do."""
    (tmp_path / "password").write_text(" pass word \n")
    monkeypatch.setenv("SETPOINT_BROKER_PASSWORD_FILE", str(tmp_path / "password"))
    assert load(broker="mqtt://user@broker").broker_secret == SecretStr(" pass word ")


@pytest.mark.parametrize("name", SECRETS)
def test_secret_file_that_cannot_be_read(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret file that is missing, or not text, is named with its variable."""
    monkeypatch.setenv(f"{variable(name)}_FILE", str(tmp_path / "missing"))
    assert refusal() == f"{variable(name)}_FILE: {tmp_path}/missing cannot be read: No such file or directory"
    (tmp_path / "missing").write_bytes(b"\xff")
    assert refusal() == f"{variable(name)}_FILE: {tmp_path}/missing is not UTF-8 text"


def test_settings_that_contradict_each_other() -> None:
    """Two passwords, a password without a user, and authorities for a connection in clear are refused."""
    twice = refusal(broker=f"mqtt://user:{ENCODED}@broker", broker_password="s3cret-2")
    assert twice == "there is a password in broker and one in broker_password: give one of them"
    assert refusal(broker_password="s3cret") == "broker_password needs a user in broker: mqtt://user@host"
    assert "mqtts://" in refusal(broker_ca="/ca.pem")


@pytest.mark.parametrize(
    ("address", "expected"),
    [("localhost:0", ("localhost", 0)), ("[::1]:80", ("::1", 80)), ("192.0.2.1:9", ("192.0.2.1", 9))],
)
def test_http_address(address: str, expected: tuple[str, int]) -> None:
    """HTTP listens on a name or an address, IPv6 in brackets."""
    settings = load(http=address)
    assert (settings.http_host, settings.http_port) == expected


@pytest.mark.parametrize(
    "address", ["", "8765", ":8765", "host", "host:", "host:x", "host:65536", "::1:80", "h:1/x", "a b:1"]
)
def test_http_address_that_does_not_fit(address: str) -> None:
    """Anything else than HOST:PORT is refused with an example."""
    assert refusal(http=address).startswith("http: write HOST:PORT, e.g. 127.0.0.1:8765")


@pytest.mark.parametrize("prefix", ["", "site1/", "/a/b/", "größe/"])
def test_topic_prefix(prefix: str) -> None:
    """A prefix is whole topic levels, or nothing."""
    assert load(topic_prefix=prefix).topic_prefix == prefix


@pytest.mark.parametrize("prefix", ["site1", "a/+/", "#/", "a\n/", "$SYS/", "a" * 100 + "/", "a/" * 17, "\ud800/"])
def test_topic_prefix_that_does_not_fit(prefix: str) -> None:
    """Wildcards, control characters, the broker's own topics, and what would leave no room are refused."""
    assert refusal(topic_prefix=prefix).startswith("topic_prefix: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("session_expiry_s", 0),
        ("session_expiry_s", 2**32),
        ("receive_maximum", 0),
        ("receive_maximum", 65_536),
        ("max_command_bytes", "many"),
        ("max_clock_skew_s", -1),
        ("client_id", "two words"),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("require_expected_version", "perhaps"),
        ("history_keep_days", 0),
        ("history_keep_days", 36_501),
        ("history_keep_days", True),
        ("history_keep_versions", "all"),
        ("history_keep_versions", 1_000_001),
    ],
)
def test_value_that_does_not_fit(name: str, value: object) -> None:
    """A refusal names the setting and all the ways to give it."""
    line = refusal(**{name: value})
    assert line.startswith(f"{name}: ")
    assert line.endswith(f"(give it as {option(name)}, {variable(name)}, or as {name} in a --config file)")


def test_missing_data_directory() -> None:
    """The only setting without a default is asked for."""
    with pytest.raises(OperatorError) as caught:
        Settings.load({})
    assert caught.value.args[0] == (
        "data_dir is missing: give it as --data-dir, SETPOINT_DATA_DIR, or as data_dir in a --config file"
    )


def test_toml_file(tmp_path: Path) -> None:
    """A file that is missing, no file, no TOML, or has an unknown setting is named, and so is the setting."""
    config = tmp_path / "config.toml"
    assert refusal(config) == f"{config} is not there, or not a file"
    assert refusal(tmp_path) == f"{tmp_path} is not there, or not a file"
    config.write_text("broker = ")
    assert refusal(config).startswith(f"{config} is not a TOML file: ")
    config.write_bytes(b"\xff")
    assert refusal(config).startswith(f"{config} is not a TOML file: ")
    config.write_text('brokr = "s3cret"')
    assert refusal(config) == f"{config}: there is no setting 'brokr'"
    config.write_text('[broker]\nhost = "s3cret"')
    assert refusal(config).startswith("broker: Input should be a valid string (give it as --broker")


def test_limits() -> None:
    """What `info` tells of the limits is what was set."""
    limits = load(max_command_bytes=5000, require_expected_version=True).limits
    assert (limits.max_command_bytes, limits.require_expected_version) == (5000, True)
    assert (limits.max_config_keys, limits.max_json_levels) == (1000, 32)


def test_a_truth_value_is_no_number(tmp_path: Path) -> None:
    """TOML has true and false; where a number belongs they are refused, not taken for 1 and 0."""
    config = tmp_path / "config.toml"
    config.write_text("max_clock_skew_s = true\n")
    assert refusal(config).startswith("max_clock_skew_s: give a number")


def test_an_empty_secret_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that should hold a password and holds nothing is a mistake, not an empty password."""
    (tmp_path / "password").write_text("\n")
    monkeypatch.setenv("SETPOINT_BROKER_PASSWORD_FILE", str(tmp_path / "password"))
    assert refusal(broker="mqtt://user@broker").endswith("is empty")


def test_daemons_with_different_prefixes_have_different_sessions() -> None:
    """A prefix becomes part of the default client id; one that was chosen is taken as it is."""
    assert load().session_id == "setpoint-config-manager"
    assert load(topic_prefix="site1/").session_id == "setpoint-config-manager:site1"
    assert load(topic_prefix="site1/", client_id="mine").session_id == "mine"
