"""`setpoint watch` and `setpoint wait`."""

import asyncio
import json
import os
import signal
import time
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from setpoint import Client
from tests.cli.command import Setpoint
from tests.daemon import Daemon
from tests.waiting import DEADLINE_S, until


class Config(BaseModel):
    """The config of a service that runs what it is told."""

    a: int


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


def test_a_command_runs_at_each_change(setpoint: Setpoint, service: str) -> None:
    """It finds the document on standard input and in the environment, a tombstone as deleted; a failure is said."""
    setpoint.ok("set", service, "a=1", "-q")
    log, inputs = setpoint.home / "log", setpoint.home / "inputs"
    script = (
        f'cat >>{inputs}; echo "$SETPOINT_SERVICE $SETPOINT_VERSION $SETPOINT_DELETED" >>{log};'
        ' test "$SETPOINT_DOCUMENT" && exit 3'
    )
    watch = setpoint.start("watch", service, "--count", 3, "--", "sh", "-c", script)
    until(lambda: len(_lines(log)) == 1, "the current config is handed over")
    setpoint.ok("set", service, "a=2", "-q")
    until(lambda: len(_lines(log)) == 2, "the change is handed over")
    setpoint.ok("delete", service, "-q")
    out, err = watch.communicate(timeout=DEADLINE_S)
    assert (watch.returncode, out) == (0, "")
    assert _lines(log) == [f"{service} 1 0", f"{service} 2 0", f"{service} 3 1"]
    documents = [json.loads(line) for line in _lines(inputs)]
    assert [one.get("config") for one in documents] == [{"a": 1}, {"a": 2}, None]
    assert documents[2]["deleted"] is True
    assert err.count("sh ended with 3") == 3


def test_one_command_runs_at_a_time_and_the_newest_wins(setpoint: Setpoint, service: str) -> None:
    """What is overtaken while a command runs is left out; the newest is handed over when it ends."""
    log, go = setpoint.home / "log", setpoint.home / "go"
    os.mkfifo(go)
    watch = setpoint.start(
        "watch", service, "--count", 2, "--", "sh", "-c", f'echo "$SETPOINT_VERSION" >>{log}; cat {go}'
    )
    setpoint.ok("set", service, "a=1", "-q")
    until(lambda: _lines(log) == ["1"], "the first command runs")
    for value in (2, 3, 4):
        setpoint.ok("set", service, f"a={value}", "-q")
    setpoint.ok("watch", service, "--count", 1)  # so that the newest has been published
    assert _lines(log) == ["1"]
    go.write_text("", "utf-8")
    until(lambda: len(_lines(log)) == 2, "the next command runs")
    go.write_text("", "utf-8")
    watch.communicate(timeout=DEADLINE_S)
    assert _lines(log) == ["1", "4"]


def test_documents_are_printed_as_they_come(setpoint: Setpoint, service: str) -> None:
    """A glob follows all that it matches; each document is a line of JSON at once."""
    setpoint.ok("apply", "-", "-q", stdin=json.dumps({f"{service}-a": {"x": 1}, f"{service}-b": {"x": 2}}))
    watch = setpoint.start("watch", f"{service}-?", "--count", 3, "-o", "json")
    assert watch.stdout is not None
    first = [json.loads(watch.stdout.readline()) for _ in range(2)]
    assert {one["service"] for one in first} == {f"{service}-a", f"{service}-b"}
    setpoint.ok("patch", f"{service}-b", "x=3", "-q")
    assert json.loads(watch.stdout.readline())["config"] == {"x": 3}
    watch.communicate(timeout=DEADLINE_S)
    assert watch.returncode == 0


def test_only_changes_are_told_where_that_is_asked(setpoint: Setpoint, service: str) -> None:
    """What is there already is passed over with --changes-only, and the difference is shown of what follows."""
    setpoint.ok("set", service, "a=1", "-q")
    log = setpoint.home / "log"
    watch = setpoint.start("watch", service, "--changes-only", "--count", 1, "--", "sh", "-c", f"cat >>{log}")
    seen = setpoint.start("watch", service, "--count", 2)
    assert seen.stdout is not None
    assert "version 1" in seen.stdout.readline()
    value = 2
    while watch.poll() is None:  # it begins at some time
        setpoint.ok("set", service, f"a={value}", "-q")
        value += 1
    watch.communicate(timeout=DEADLINE_S)
    assert watch.returncode == 0
    assert json.loads(_lines(log)[0])["config"]["a"] >= 2
    out, _ = seen.communicate(timeout=DEADLINE_S)
    assert "- /a: 1" in out


def test_changes_are_what_comes_after_the_beginning(setpoint: Setpoint, service: str) -> None:
    """With --changes-only tombstones are passed over, too, and what a scoped token's list would not tell of."""
    setpoint.ok("set", service, "a=1", "-q")
    setpoint.ok("set", f"{service}-b", "a=1", "-q")
    setpoint.ok("delete", f"{service}-b", "-q")
    watch = setpoint.start("watch", f"{service}*", "--changes-only", "--count", 1, "-o", "json")
    while watch.poll() is None:  # it begins at some time
        setpoint.ok("set", f"{service}-c", f"a={time.monotonic()}", "-q")
    out, _ = watch.communicate(timeout=DEADLINE_S)
    assert json.loads(out)["service"] == f"{service}-c"


def test_a_service_that_is_not_there_is_told_of(setpoint: Setpoint, service: str) -> None:
    """Who watches what there is not learns it, and watching goes on."""
    watch = setpoint.start("watch", service, "--count", 1, "-o", "json")
    assert watch.stderr is not None
    assert watch.stderr.readline() == f"setpoint: there is no service {service} yet; waiting\n"
    setpoint.ok("set", service, "a=1", "-q")
    out, _ = watch.communicate(timeout=DEADLINE_S)
    assert json.loads(out)["config"] == {"a": 1}


def test_a_watch_is_ended_by_signals(setpoint: Setpoint, service: str) -> None:
    """Ctrl-C ends it with 130, SIGTERM with 143, and the command that runs with it."""
    setpoint.ok("set", service, "a=1", "-q")
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        pid = setpoint.home / f"pid-{number}"
        watch = setpoint.start("watch", service, "--", "sh", "-c", f"echo $$ >{pid}; exec sleep 1000")
        child = int(until(partial(_lines, pid), "the command runs")[0])
        watch.send_signal(number)
        _, err = watch.communicate(timeout=DEADLINE_S)
        assert (watch.returncode, err.strip()) == (code, "")
        assert not Path(f"/proc/{child}").exists()


def test_a_command_that_cannot_be_run_is_said(setpoint: Setpoint, service: str) -> None:
    """There is no use in watching for it: exit code 2."""
    setpoint.ok("set", service, "a=1", "-q")
    assert "no-such-command" in setpoint.refused(2, "watch", service, "--", "no-such-command")


async def test_wait_returns_when_all_run_the_version(shared_daemon: Daemon, setpoint: Setpoint, service: str) -> None:
    """Instances that report the newest version end the wait; one that does not has it end with 7 and its name."""
    setpoint.ok("set", service, "a=1", "-q")
    said = setpoint.refused(7, "wait", service, "--version", 2, "--timeout", 1)
    assert said.splitlines() == [
        f"setpoint: {service} is at version 1; waiting for version 2 all the same",
        f"setpoint: nobody reports for {service} after 1 s",
        "  do: is it running, and does it use `bind`?",
    ]
    assert "answer. [30]" in setpoint.ok("wait", "--help")
    url, prefix = setpoint.env["SETPOINT_BROKER_URL"], shared_daemon.prefix
    async with Client(
        url, shared_daemon.token_path, topic_prefix=prefix, cache_dir=setpoint.home / "c", instance="kitchen"
    ) as client:
        live = await client.bind(service, Config)
        assert live.version == 1
        shown = await asyncio.to_thread(setpoint.ok, "wait", service, "--applied", "100%", "-o", "json")
        assert [(one["instance"], one["version"]) for one in json.loads(shown)["instances"]] == [("kitchen", 1)]
        lagging = await asyncio.to_thread(setpoint.refused, 7, "wait", service, "--version", 9, "--timeout", 1)
        assert "kitchen" in lagging
        assert "or wait longer" in lagging
    setpoint.refused(2, "wait", service, "--applied", "150%")
