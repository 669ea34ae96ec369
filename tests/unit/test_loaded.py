"""How `setpointd token` learns that a change of tokens counts."""

import threading
from pathlib import Path

from setpointd.loaded import DAEMON_LOCK, digest, is_running, tell, wait
from setpointd.locks import holding
from tests.waiting import DEADLINE_S

TOKEN = {"kid": "tok_a", "name": "bob", "key": "sealed", "revoked_at": None, "last_used_at": None}


def test_what_counts_is_what_decides() -> None:
    """A revocation makes another state of the tokens, a use does not."""
    assert digest([TOKEN]) == digest([{**TOKEN, "last_used_at": "2026-01-01T00:00:00.000Z"}])
    assert digest([TOKEN]) != digest([{**TOKEN, "revoked_at": "2026-01-01T00:00:00.000Z"}])
    assert digest([TOKEN]) != digest([])
    assert "sealed" not in digest([TOKEN])


def test_without_a_daemon_nothing_is_waited_for(tmp_path: Path) -> None:
    """Neither where none ever ran, nor where one has ended, whatever it said last."""
    assert wait(tmp_path, lambda: "now", DEADLINE_S) == "no daemon"
    with holding(tmp_path / DAEMON_LOCK):
        tell(tmp_path, "now")
    assert not is_running(tmp_path)
    assert wait(tmp_path, lambda: "now", DEADLINE_S) == "no daemon"


def test_asking_whether_a_daemon_runs_leaves_nothing(tmp_path: Path) -> None:
    """No lock file is made on the way."""
    assert not is_running(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_that_says_nothing_is_told_of(tmp_path: Path) -> None:
    """At the deadline, also when it goes by other tokens or its word cannot be read."""
    with holding(tmp_path / DAEMON_LOCK):
        assert wait(tmp_path, lambda: "now", 0.05) == "not noticed"
        tell(tmp_path, "before")
        assert wait(tmp_path, lambda: "now", 0.05) == "not noticed"
        (tmp_path / "tokens.loaded").write_bytes(b"\xff")
        assert wait(tmp_path, lambda: "now", 0.05) == "not noticed"


def test_a_daemon_that_says_so_is_believed(tmp_path: Path) -> None:
    """At once, and within the deadline."""
    with holding(tmp_path / DAEMON_LOCK):
        tell(tmp_path, "now")
        assert wait(tmp_path, lambda: "now", 0) == "loaded"
        later = threading.Timer(0.05, tell, (tmp_path, "then"))
        later.start()
        assert wait(tmp_path, lambda: "then", DEADLINE_S) == "loaded"
        later.join()


def test_its_word_is_never_half_written(tmp_path: Path) -> None:
    """The file is replaced as a whole."""
    tell(tmp_path, "one")
    with (tmp_path / "tokens.loaded").open() as opened:
        tell(tmp_path, "two")
        assert opened.read() == "one"
    assert (tmp_path / "tokens.loaded").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.loaded"]
