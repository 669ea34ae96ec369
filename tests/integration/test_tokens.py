"""`setpointd token` beside a running daemon: what it changes counts when it returns."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from setpoint_contracts import Role, Token
from tests.caller import calling
from tests.daemon import SETPOINTD, Daemon, NewDaemon
from tests.waiting import DEADLINE_S, eventually

NOT_NOTICED = "has not noticed within 5 s, and goes by the tokens as they were: see its log, or start it again\n"


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    """Start a daemon of the test's own on the shared broker."""
    return new_daemon()


def token_command(data_dir: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `setpointd token` on a store; it must succeed."""
    done = subprocess.run(
        [SETPOINTD, "token", *arguments, "--data-dir", data_dir],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def create(daemon: Daemon, name: str, role: str) -> Token:
    """Run `setpointd token create` beside a daemon."""
    file = daemon.data_dir.with_name(f"{name}.jwk")
    token_command(daemon.data_dir, "create", name, "--role", role, "--out", file)
    return Token.load(file)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep a process from running: it is there, and holds its locks."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.long)])
async def test_create_and_revoke_count_at_once(rounds: int, daemon: Daemon) -> None:
    """Right after `token create` a command is carried out, right after `token revoke` it is refused, every time."""
    for number in range(rounds):
        token = await asyncio.to_thread(create, daemon, f"p{number}", "operator")
        async with calling(daemon, token) as caller:
            assert (await caller.ok("set", {"service": "stt", "config": {"n": number}}))["version"] == number + 1
            await asyncio.to_thread(token_command, daemon.data_dir, "revoke", token.kid)
            assert (await caller.error("set", {"service": "stt", "config": {}}))["code"] == "token_revoked"


async def test_import_counts_at_once(daemon: Daemon, tmp_path: Path) -> None:
    """Sent right after `token import` a command is carried out."""
    for alg in ("HS256", "Ed25519"):
        token = Token.new("HS256" if alg == "HS256" else "Ed25519", f"kid-{alg}", "pi", Role.VIEWER)
        file = tmp_path / f"{alg}.jwk"
        file.touch(mode=0o600)
        file.write_bytes(token.dump())
        done = await asyncio.to_thread(token_command, daemon.data_dir, "import", file)
        assert (done.stdout, done.stderr) == (f"kid-{alg}\n", "")
        async with calling(daemon, token) as caller:
            assert (await caller.ok("info"))["principal"] == "pi"


async def test_changes_that_come_together(daemon: Daemon) -> None:
    """Of several at the same time, each returns when its own counts, and none finds fault with the daemon."""
    made = await asyncio.gather(
        *(asyncio.to_thread(create, daemon, f"p{number}", "viewer") for number in range(6)),
    )
    assert {token.name for token in made} == {f"p{number}" for number in range(6)}
    done = await asyncio.gather(
        *(asyncio.to_thread(token_command, daemon.data_dir, "revoke", token.kid) for token in made),
    )
    assert [one.stderr for one in done] == [""] * 6
    for token in made:
        async with calling(daemon, token) as caller:
            assert (await caller.error("info"))["code"] == "token_revoked"


async def test_a_daemon_that_does_not_notice(daemon: Daemon, tmp_path: Path) -> None:
    """What is changed beside a daemon that hangs is said not to count yet; it does when the daemon goes on."""
    token = daemon.new_token("leaver", "operator")
    # Stopped while it writes, it would hold the store's lock.
    await eventually(lambda: daemon.metric("setpoint_outbox_pending") == 0, "its event is published")
    out = tmp_path / "late.jwk"
    with stopped(daemon.pid):
        made, revoked = await asyncio.gather(
            asyncio.to_thread(token_command, daemon.data_dir, "create", "late", "--role", "viewer", "--out", out),
            asyncio.to_thread(token_command, daemon.data_dir, "revoke", token.kid),
        )
        said = f"setpointd: done, but the daemon on {daemon.data_dir} {NOT_NOTICED}"
        assert (made.stdout, made.stderr) == (f"{Token.load(out).kid}\n", said)
        assert (revoked.stdout, revoked.stderr) == (f"{token.kid} is revoked\n", said)
    # One more change, whose command waits for the daemon, comes after both.
    assert token_command(daemon.data_dir, "revoke", token.kid).stderr == ""
    async with calling(daemon, token) as leaver, calling(daemon, Token.load(out)) as late:
        assert (await leaver.error("info"))["code"] == "token_revoked"
        assert (await late.ok("info"))["principal"] == "late"


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_without_a_daemon(daemon: Daemon, end: str) -> None:
    """Where no daemon runs, or none any more, there is nothing to wait for and nothing to say; the next one knows."""
    before = daemon.new_token("before", "viewer")
    {"stop": daemon.stop, "kill": daemon.kill}[end]()
    done = token_command(daemon.data_dir, "revoke", before.kid)
    assert (done.stdout, done.stderr) == (f"{before.kid} is revoked\n", "")
    daemon.start()
    daemon.wait_ready()
    async with calling(daemon, before) as caller:
        assert (await caller.error("info"))["code"] == "token_revoked"


async def test_listing_leaves_the_store_alone(daemon: Daemon, tmp_path: Path) -> None:
    """`token list` changes nothing in a directory that no daemon uses, and reads what was not yet in the main file."""
    daemon.new_token("second", "viewer")
    for number, end in enumerate((daemon.kill, daemon.stop)):
        end()
        copy = shutil.copytree(daemon.data_dir, tmp_path / f"copy{number}")
        before = {path.name: path.read_bytes() for path in copy.iterdir() if not path.name.endswith("-shm")}
        assert (copy / "setpoint.db-wal").exists() == (end == daemon.kill)
        assert [line.split()[1] for line in token_command(copy, "list").stdout.splitlines()] == [
            "NAME",
            "admin",
            "second",
        ]
        after = {path.name: path.read_bytes() for path in copy.iterdir() if not path.name.endswith("-shm")}
        assert after == before
        if end == daemon.kill:
            daemon.start()
            daemon.wait_ready()
