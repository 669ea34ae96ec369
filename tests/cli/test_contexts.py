"""`setpoint context`: which broker and token a command uses."""

import json
import stat
from typing import Any

from tests.cli.command import Setpoint


def _used(alone: Setpoint, *options: str, **env: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(alone.ok("context", "show", "-o", "json", *options, **env))
    return {name: value for name, value in found.items() if value is not None}


def test_contexts_are_kept_and_used(alone: Setpoint) -> None:
    """The first one is used at once; the file is its owner's alone, and no password is shown."""
    alone.ok(
        "context", "add", "pi", "--broker", "mqtts://me:hunter2@pi.local:8883", "--token", "pi.jwk", "--ca", "ca.pem"
    )
    alone.ok("context", "add", "lab", "--broker", "mqtt://10.0.0.9", "--prefix", "lab/")
    file = alone.home / ".config/setpoint/contexts.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "hunter2" in file.read_text("utf-8")
    shown = alone.ok("context", "list") + alone.ok("context", "show", "pi", "-o", "json") + alone.ok("context", "show")
    assert "hunter2" not in shown
    assert "mqtts://me:***@pi.local:8883" in shown
    assert _used(alone)["context"] == "pi"
    assert _used(alone)["token"] == str(alone.home / "pi.jwk")
    alone.ok("context", "use", "lab")
    assert _used(alone) == {"context": "lab", "broker": "mqtt://10.0.0.9", "prefix": "lab/"}
    alone.ok("context", "remove", "lab")
    assert _used(alone) == {}
    assert alone.ok("context", "list", "-o", "raw") == "pi\n"


def test_what_is_nearer_counts(alone: Setpoint) -> None:
    """An option beats a context that is named, that the environment, and that the context in use."""
    alone.ok("context", "add", "one", "--broker", "mqtt://one", "--prefix", "one/")
    alone.ok("context", "add", "two", "--broker", "mqtt://two")
    outside = {"SETPOINT_BROKER_URL": "mqtt://outside"}
    assert _used(alone, **outside)["broker"] == "mqtt://outside"
    assert _used(alone, **outside)["prefix"] == "one/"
    assert _used(alone, "--context", "two", **outside)["broker"] == "mqtt://two"
    assert _used(alone, SETPOINT_CONTEXT="two", **outside)["broker"] == "mqtt://two"
    assert _used(alone, "--context", "two", "--broker", "mqtt://given", **outside)["broker"] == "mqtt://given"


def test_what_cannot_be_is_said(alone: Setpoint) -> None:
    """A context that is not there, one that says nothing, and a file that is broken."""
    assert "`setpoint context list`" in alone.refused(3, "context", "use", "none")
    alone.refused(2, "list", "--context", "none")
    alone.refused(2, "context", "add", "empty")
    alone.refused(2, "context", "add", "bad/name", "--broker", "mqtt://x")
    said = alone.refused(2, "context", "add", "bad", "--broker", "me:hunter2@pi.local")
    assert "no URL of a broker" in said
    assert "hunter2" not in said
    file = alone.home / ".config/setpoint/contexts.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    for broken in ("current = [", "current = 1\n", "[contexts.x]\nbroker = 1\n", "[contexts.x]\nunknown = '1'\n"):
        file.write_text(broken, "utf-8")
        assert "contexts.toml" in alone.refused(2, "list")
    assert alone.ok("context", "list", HOME="/dev/null") == ""


def test_odd_values_are_kept_as_they_are(alone: Setpoint) -> None:
    """Quotes, backslashes and letters of any script come back."""
    odd = 'a"\\é道\x7f/'
    alone.ok("context", "add", "odd", "--prefix", odd, "--broker", "mqtt://host")
    assert _used(alone, "--context", "odd")["prefix"] == odd
    assert "道" in (alone.home / ".config/setpoint/contexts.toml").read_text("utf-8")
