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
def full(daemon: Daemon) -> Iterator[None]:
    """Let every write of the daemon to a file fail in the kernel: to its store as on a full disk, and to its log."""
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1, hard))
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
