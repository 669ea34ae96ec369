"""`setpoint doctor`: what it finds, what it says to do, and how it ends."""

import json
import shutil
from typing import Any

from tests.brokers import free_port
from tests.cli.command import Setpoint
from tests.daemon import Daemon, NewDaemon, make_data_dir


def _checks(setpoint: Setpoint, code: int, *options: object, **env: str) -> dict[str, dict[str, Any]]:
    done = setpoint("doctor", "-o", "json", *options, **env)
    assert done.returncode == code, done
    found = json.loads(done.stdout)
    assert found["ok"] == (code == 0)
    assert all(one["todo"] for one in found["checks"] if one["result"] != "ok")
    return {one["check"]: one for one in found["checks"]}


def test_all_is_well(setpoint: Setpoint) -> None:
    """Every check is ok, and the figures are there: time to connect, clock, permissions, round trip, mode."""
    found = _checks(setpoint, 0)
    names = ["settings", "token", "broker", "key", "daemon", "clock", "permissions", "round trip", "mode"]
    assert list(found) == names
    assert {one["result"] for one in found.values()} == {"ok"}
    assert found["permissions"]["found"] == "admin is admin: may read, write, delete, administer"
    assert " ms" in found["round trip"]["found"]
    table = setpoint.ok("doctor").splitlines()
    assert [line.split()[0] for line in table[1:]] == 9 * ["ok"]


def test_a_broker_that_is_not_there(setpoint: Setpoint) -> None:
    """Connection refused is exit code 7, and what comes after it is left out."""
    found = _checks(setpoint, 7, "--broker", f"mqtt://127.0.0.1:{free_port()}", "--timeout", 1)
    assert list(found) == ["settings", "token", "broker"]
    assert "refused" in found["broker"]["found"]


def test_a_port_that_speaks_something_else(setpoint: Setpoint, shared_daemon: Daemon) -> None:
    """Of TLS and WebSocket on a plain port it asks whether the port speaks them."""
    for scheme, spoken in (("mqtts", "TLS"), ("ws", "WebSocket")):
        url = f"{scheme}://{shared_daemon.host}:{shared_daemon.port}"
        found = _checks(setpoint, 7, "--broker", url, "--timeout", 1)
        assert found["broker"]["todo"].startswith(f"does this port speak {spoken}?")


def test_a_daemon_that_is_elsewhere(setpoint: Setpoint) -> None:
    """No daemon below a prefix, and a token of another store, are told apart."""
    nobody = _checks(setpoint, 7, "--prefix", "nobody/", "--timeout", 1)
    assert "--prefix" in nobody["daemon"]["todo"]


def test_a_token_of_another_store(setpoint: Setpoint) -> None:
    """The daemon is online, and keeps silent to who it does not know."""
    other = setpoint.home / "other"
    make_data_dir(other)
    found = _checks(setpoint, 7, "--token", other / "admin.jwk", "--timeout", 1)
    assert found["daemon"]["found"] == "it is online, but does not answer this token"


def test_a_daemon_that_is_stopped(new_daemon: NewDaemon, alone: Setpoint) -> None:
    """Its last words say that it is offline."""
    daemon = new_daemon()
    daemon.stop()
    found = _checks(Setpoint(daemon, alone.home), 7, "--timeout", 1)
    assert found["daemon"]["found"].startswith("it is offline since")


def test_a_daemon_with_another_key(setpoint: Setpoint) -> None:
    """A key that is pinned or given, and is not the daemon's, is exit code 6 with what to remove."""
    stranger = {"kty": "OKP", "crv": "Ed25519", "kid": "x", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    keys = setpoint.home / "keys.json"
    keys.write_text(json.dumps({"keys": [stranger]}), "utf-8")
    assert "SETPOINT_KEYS" in _checks(setpoint, 6, SETPOINT_KEYS=str(keys))["key"]["todo"]
    state = setpoint.home / "state"
    assert "none is pinned" in _checks(setpoint, 0, XDG_STATE_HOME=str(state))["key"]["found"]
    (pinned,) = state.glob("setpoint/*/_keys.json")
    pinned.write_text(json.dumps({"keys": [stranger]}), "utf-8")
    assert f"rm -r {pinned.parent}" in _checks(setpoint, 6, XDG_STATE_HOME=str(state))["key"]["todo"]


def test_tokens_that_are_missing_open_or_over(setpoint: Setpoint, shared_daemon: Daemon) -> None:
    """No token fails, one that others can read warns, one that is revoked fails with 6."""
    assert _checks(setpoint, 6, SETPOINT_TOKEN="")["token"]["found"].startswith("none is given")
    opened = setpoint.home / "open.jwk"
    shutil.copy(shared_daemon.token_path, opened)
    opened.chmod(0o644)
    assert _checks(setpoint, 0, "--token", opened)["token"]["todo"] == f"chmod 600 {opened}"
    kid = setpoint.ok(
        "token", "create", "eve", "--role", "viewer", "--out", "eve.jwk", "--ttl", "1d", "-o", "raw"
    ).strip()
    assert "rotate" in _checks(setpoint, 0, "--token", "eve.jwk")["token"]["todo"]
    setpoint.ok("token", "revoke", kid)
    found = _checks(setpoint, 6, "--token", "eve.jwk")
    assert found["token"]["result"] == "fail"
    assert setpoint("doctor", "--token", "missing.jwk").returncode == 2
