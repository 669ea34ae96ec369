"""`setpointd verify`: proves the audit log of a store, whether its daemon runs or not, and changes nothing."""

import asyncio
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.caller import calling
from tests.daemon import SETPOINTD, Daemon, NewDaemon
from tests.waiting import DEADLINE_S

BROKEN = 65


def verify(data_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `setpointd verify` to its end."""
    command: list[str | Path] = [SETPOINTD, "verify", "--data-dir", data_dir, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def holds(data_dir: Path, *options: str) -> tuple[int, str]:
    """Verify a store that must be whole: how many rows it has, and its newest as ID:HASH."""
    done = verify(data_dir, *options)
    assert (done.returncode, done.stderr) == (0, "")
    words = done.stdout.split()
    assert done.stdout == f"audit log: {words[2]} rows fit, the newest is {words[-1]}\n"
    return int(words[2]), words[-1]


def broken(data_dir: Path, *options: str) -> str:
    """Verify a store that must not be whole: the one line that says where."""
    done = verify(data_dir, *options)
    assert (done.returncode, done.stdout) == (BROKEN, "")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("setpointd: ").strip()


def change(data_dir: Path, script: str) -> None:
    """Write to the store's file behind everybody's back."""
    with closing(sqlite3.connect(data_dir / "setpoint.db")) as db:
        db.executescript(script)


def content(data_dir: Path) -> dict[str, bytes]:
    """Read all files of a store."""
    return {path.name: path.read_bytes() for path in data_dir.iterdir()}


@pytest.fixture
def data_dir(fresh_store: Path, tmp_path: Path) -> Path:
    """Copy a new store, and make some tokens in it."""
    place = shutil.copytree(fresh_store, tmp_path / "store")
    for name in ("alice", "bob", "carol"):
        out = ("--out", tmp_path / f"{name}.jwk", "--data-dir", place)
        subprocess.run([SETPOINTD, "token", "create", name, "--role", "viewer", *out], check=True, capture_output=True)
    return place


def test_a_store_as_it_was_written(data_dir: Path) -> None:
    """One line says how many rows there are and what the newest is, and not a byte of the store has changed."""
    before = content(data_dir)
    rows, newest = holds(data_dir)
    assert (rows, newest.partition(":")[0]) == (4, "4")
    assert content(data_dir) == before


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("UPDATE audit_log SET user = 'x' WHERE id = 2", "row 2 does not fit: its hash is that of other content"),
        ("DELETE FROM audit_log WHERE id = 3", "row 4 does not fit: it does not follow on row 2"),
        ("DELETE FROM audit_log WHERE id = 1", "row 2 does not fit: it is not the first one that was written"),
        ("UPDATE audit_log SET user = CAST(x'ff' AS TEXT) WHERE id = 2", "the row after row 1 cannot be read"),
    ],
)
def test_a_store_that_was_changed(data_dir: Path, script: str, line: str) -> None:
    """The exit code says so, and one line names the first row that does not fit."""
    change(data_dir, script)
    assert broken(data_dir) == f"audit log: {line}"


def test_an_anchor(data_dir: Path) -> None:
    """What was printed earlier is found in a log that went on, and missed in one that was cut or computed anew."""
    _, early = holds(data_dir)
    change(data_dir, "DELETE FROM api_tokens WHERE name = 'alice'")
    [*_, bob, carol] = subprocess.run(
        [SETPOINTD, "token", "list", "--data-dir", data_dir], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for line in (bob, carol):
        subprocess.run([SETPOINTD, "token", "revoke", line.split()[0], "--data-dir", data_dir], check=True, stdout=-1)
    rows, late = holds(data_dir, "--anchor", early)
    assert (rows, late.partition(":")[0]) == (6, "6")
    change(data_dir, "DELETE FROM audit_log WHERE id > 3")
    _, cut = holds(data_dir)  # the chain alone does not tell
    assert broken(data_dir, "--anchor", early) == f"audit log: {early} is not in it; it ends with {cut}"
    assert holds(data_dir, "--anchor", "0:" + "00" * 32)[0] == 3
    change(data_dir, "DELETE FROM audit_log")
    assert holds(data_dir) == (0, "0:" + "00" * 32)
    assert broken(data_dir, "--anchor", cut).startswith(f"audit log: {cut} is not in it")


@pytest.mark.parametrize("anchor", ["", "1", ":", "1:", "1:xy", "x:00", "01:" + "00" * 32, "0:00", "1:" + "AB" * 32])
def test_an_anchor_that_is_none(data_dir: Path, anchor: str) -> None:
    """It is a command line that does not fit."""
    done = verify(data_dir, "--anchor", anchor)
    assert (done.returncode, done.stdout) == (2, "")
    assert "it is ID:HASH" in done.stderr


def test_an_older_store(data_dir: Path) -> None:
    """Without hashes there is nothing to prove; the line says when there will be, and the store stays as it is."""
    change(
        data_dir,
        """
        ALTER TABLE audit_log DROP COLUMN hash;
        ALTER TABLE audit_log DROP COLUMN prev_hash;
        DELETE FROM _sqlite_migrations WHERE name = 'chained_audit_log';
        """,
    )
    before = content(data_dir)
    done = verify(data_dir)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is of a format without hashes: this setpointd makes them when it first runs on it" in done.stderr
    assert content(data_dir) == before
    subprocess.run([SETPOINTD, "token", "revoke", "nobody", "--data-dir", data_dir], check=False, capture_output=True)
    assert holds(data_dir)[0] == 4


async def test_beside_a_daemon_that_writes(new_daemon: NewDaemon) -> None:
    """It holds at every moment, whoever writes meanwhile, and keeps nobody from writing."""
    daemon = new_daemon()
    anchor = holds(daemon.data_dir)[1]
    async with calling(daemon) as admin:

        async def work() -> None:
            for n in range(300):
                await admin.ok("set", {"service": f"s{n % 7}", "config": {"n": n}})

        working = asyncio.create_task(work())
        seen = []
        while not working.done():
            rows, anchor = await asyncio.to_thread(holds, daemon.data_dir, "--anchor", anchor)
            seen.append(rows)
        await working
    assert seen == sorted(seen)
    assert holds(daemon.data_dir, "--anchor", anchor)[0] == 301
    assert daemon.stop() == 0
    assert holds(daemon.data_dir, "--anchor", anchor)[0] == 301


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    """Start a daemon of the test's own on the shared broker."""
    return new_daemon()


async def test_what_every_writer_adds_follows_on(daemon: Daemon) -> None:
    """Commands, tries, refusals, failures to sign, and tokens made from the command line, one after the other."""
    async with calling(daemon, None, daemon.topics.audit("auth_failure")) as admin:
        for n in range(3):
            await admin.ok("set", {"service": "stt", "config": {"n": n, "m": 1}})
            token = daemon.new_token(f"viewer{n}", "viewer")
            await admin.ok("patch", {"service": "stt", "patch": {"m": None}, "dry_run": True})
            await admin.ok("patch", {"service": "stt", "patch": {"m": None}})
            await admin.error("delete", {"service": "stt", "expected_version": 99})
            changes = [{"op": "set", "service": name, "config": {"n": n}} for name in ("a", "b")]
            await admin.error("apply", {"changes": [*changes, {"op": "delete", "service": "none"}]})
            await admin.ok("apply", {"changes": changes})
            async with calling(daemon, token) as viewer:
                await viewer.error("delete", {"service": "stt"})
            await admin.mqtt.publish(daemon.topics.command("set"), b"garbage", qos=1)
            await admin.event(daemon.topics.audit("auth_failure"))
            await admin.ok("delete", {"service": "stt"})
            daemon.command("token", "revoke", token.kid)
    # The admin's token, and in each round: set, create, patch, twice apply, denied, forged, delete, revoke.
    assert holds(daemon.data_dir)[0] == 1 + 3 * 9
