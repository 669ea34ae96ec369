"""Schemas, tokens, the audit log, and what the daemon tells of itself."""

import json
import stat

from setpoint_contracts import COMMANDS
from tests.cli.command import Setpoint


def test_a_schema_is_set_listed_and_removed(setpoint: Setpoint, service: str) -> None:
    """What does not fit it yet is said; get prints the schema alone."""
    setpoint.ok("set", service, "threads=many", "-q")
    schema = "properties: {threads: {type: integer}}"
    setpoint.refused(5, "schema", "set", service, "-", stdin=schema)
    forced = setpoint("schema", "set", service, "-", "--force", stdin=schema)
    assert forced.returncode == 0
    assert f"{service} does not fit it at /threads" in forced.stderr
    assert json.loads(setpoint.ok("schema", "get", service)) == {"properties": {"threads": {"type": "integer"}}}
    assert service in setpoint.ok("schema", "list", "-o", "raw").split()
    setpoint.ok("schema", "delete", service)
    setpoint.refused(3, "schema", "get", service)


def test_a_token_is_made_used_replaced_and_revoked(setpoint: Setpoint, service: str) -> None:
    """The secret goes to a new file that is its owner's alone; what the token may not do ends with 6."""
    file = setpoint.home / "bob.jwk"
    kid = setpoint.ok(
        *("token", "create", "bob", "--role", "operator", "--services", f"{service}*", "--ttl", "90d"),
        *("--out", file, "-o", "raw"),
    ).strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    setpoint.ok("set", service, "a=1", "-q", "--token", file)
    said = setpoint.refused(6, "set", "another", "a=1", "--token", file)
    assert "do: use another token" in said
    assert "there already" in setpoint.refused(2, "token", "create", "bob", "--role", "viewer", "--out", file)
    new = setpoint.ok("token", "rotate", kid, "--grace", "0s", "--out", "new.jwk", "-o", "raw").strip()
    assert new != kid
    setpoint.ok("get", service, "--token", "new.jwk")
    assert "ask an administrator" in setpoint.refused(6, "get", service, "--token", file)
    setpoint.ok("token", "revoke", new)
    setpoint.refused(6, "get", service, "--token", "new.jwk")
    states = {one["kid"]: one["revoked_at"] for one in json.loads(setpoint.ok("token", "list", "-o", "json"))["tokens"]}
    assert states[new] is not None


def test_a_token_that_cannot_be_made_leaves_no_file(setpoint: Setpoint) -> None:
    """A refused token leaves nothing behind; and a token needs a place for its key."""
    setpoint.refused(5, "token", "create", "Not A Name", "--role", "viewer", "--out", "x.jwk")
    assert not (setpoint.home / "x.jwk").exists()
    setpoint.refused(2, "token", "create", "bob", "--role", "viewer")
    setpoint.refused(2, "token", "create", "bob", "--role", "viewer", "--out", "-")


def test_a_secret_that_cannot_be_written_is_said_to_be_lost(setpoint: Setpoint) -> None:
    """The token is made when its file cannot hold it: its kid is named, and how to revoke it."""
    done = setpoint.shell("ulimit -f 0; setpoint token create eve --role viewer --out eve.jwk")
    assert done.returncode == 2
    kid = done.stderr.split("do: setpoint token revoke ")[1].strip()
    assert f"{kid} was made" in done.stderr
    assert kid in setpoint.ok("token", "list", "-o", "raw").split()
    assert not (setpoint.home / "eve.jwk").exists()


def test_an_ed25519_token_keeps_its_private_key(setpoint: Setpoint) -> None:
    """Only the public half is sent, as PEM or JWK; the owner signs with it, and sees replies that are checked."""
    script = """
        openssl genpkey -algorithm ed25519 -out own.pem && openssl pkey -in own.pem -pubout -out own.pub &&
        setpoint token create carol --role viewer --public-key own.pub -o json
    """
    made = json.loads(setpoint.shell(script).stdout)
    assert (made["alg"], made["name"]) == ("Ed25519", "carol")
    assert "is no Ed25519 public key" in setpoint.refused(
        5, "token", "create", "dan", "--role", "viewer", "--public-key", "own.pem"
    )


def test_the_audit_log_is_read(setpoint: Setpoint, service: str) -> None:
    """Events of a service are listed with their details."""
    setpoint.ok("set", service, "a=1", "-q", "--reason", "because")
    events = json.loads(setpoint.ok("audit", "--service", service, "-o", "json"))["events"]
    assert [(one["action"], one["details"]["reason"]) for one in events] == [("update_config", "because")]
    assert "reason=because" in setpoint.ok("audit", "--service", service, "--since", "1h")


def test_the_daemon_tells_of_itself(setpoint: Setpoint) -> None:
    """`info` and `status` are tables for people, and the whole result for programs."""
    assert json.loads(setpoint.ok("info", "-o", "json"))["limits"]["max_config_keys"] == 1000
    assert "max_config_keys" in setpoint.ok("info")
    assert json.loads(setpoint.ok("status", "-o", "json"))["mode"] == "active"
    assert "mode" in setpoint.ok("status").splitlines()[0]


def test_a_backup_is_made_or_said_to_be_unknown(setpoint: Setpoint) -> None:
    """The command is sent whatever this library knows; a daemon without it is said to have none."""
    done = setpoint("backup")
    if "backup" in COMMANDS:
        assert done.returncode == 0
    else:
        assert (done.returncode, done.stdout) == (8, "")
        assert "the daemon has no such command" in done.stderr
