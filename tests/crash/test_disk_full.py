"""A disk that takes no more: what cannot be written is refused, nothing half, and work goes on when there is room."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.caller import calling
from tests.daemon import Daemon, NewDaemon
from tests.waiting import eventually

pytestmark = pytest.mark.crash


@contextmanager
def full(daemon: Daemon, above: int = 1) -> Iterator[None]:
    """Let every write of the daemon beyond the first bytes of a file fail in the kernel, as on a full disk.

    With so few of them as by default neither its store nor its log can be written.
    """
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (above, hard))
    yield
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (hard, hard))


async def test_a_full_disk(new_daemon: NewDaemon) -> None:
    """Writes are `unavailable` and may be sent again, reads go on, the probes tell; with room again all is well."""
    daemon = new_daemon()
    daemon.may_log.add("store_failed")
    async with calling(daemon) as admin:
        topic = admin.topics.command("set")
        before = await admin.ok("set", {"service": "stt", "config": {"n": 1}})
        config = {"n": 2, "text": "x" * 100_000}
        large = admin.sign("set", {"service": "stt", "config": config}, lifetime_s=600)
        with full(daemon):
            for _ in range(3):
                reply = await admin.exchange(topic, large)
                assert reply.error is not None
                assert (reply.error.code, reply.error.retryable) == ("unavailable", True)
            assert await admin.ok("get", {"service": "stt"}) == {
                name: value for name, value in before.items() if name not in {"changed", "diff"}
            }
            await eventually(lambda: not daemon.ready(), "the probe tells of it")
            assert daemon.probe("/livez")[0] == 200
        reply = await admin.exchange(topic, large)
        assert reply.result is not None
        assert (reply.result["version"], reply.result["config"]) == (2, config)
        await eventually(daemon.ready, "the probe tells of that, too")
        assert await admin.exchange(topic, large) == reply


async def test_the_log_names_the_error(new_daemon: NewDaemon) -> None:
    """Where the log can be written, it has SQLite's own name of what went wrong, and nothing of the command."""
    daemon = new_daemon()
    daemon.may_log.add("store_failed")
    async with calling(daemon) as admin:
        with full(daemon, above=65_536):
            error = await admin.error("set", {"service": "stt", "config": {"text": "hunter2" * 15_000}})
        assert error["code"] == "unavailable"
        failures = [event for event in daemon.events("store_failed") if event["sqlite"]]
        # What a disk has no room for is SQLITE_FULL; a file that may not grow is this.
        assert {failure["sqlite"] for failure in failures} == {"SQLITE_IOERR_WRITE"}
        assert "hunter" not in "".join(daemon.log)
        await admin.ok("set", {"service": "stt", "config": {}})
        await eventually(daemon.ready, "all is well")
