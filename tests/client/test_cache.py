"""What a client keeps on disk: who may read and write it, what is believed of it, and processes that share it."""

import errno
import fcntl
import json
import multiprocessing
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from setpoint import cache as cache_module
from setpoint.cache import Cache, Entry, Found, Kept, RefusedError
from setpoint.trust import Jwk
from setpoint_contracts.keys import to_jwk

WRITES = 40


READ: dict[str, Callable[[Cache], object]] = {
    "_keys.json": Cache.keys,
    "_seen.json": Cache.seen,
    "stt.json": lambda cache: cache.read("stt"),
}


def new_jwk(kid: str) -> Jwk:
    """Make a public key."""
    return {**to_jwk(Ed25519PrivateKey.generate().public_key()), "kid": kid}


def kept(n: int, secrets: str | None = None) -> Kept:
    """Make what is kept of a document."""
    return Kept("config/updated/stt", f'{{"n":{n}}}'.encode(), f"head..{n}", secrets)


def entry(n: int, good: Kept | None = None) -> Entry:
    """Make the entry of a document of epoch 1."""
    return Entry("stt", (1, n), kept(n), good)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Make a cache that is empty."""
    return Cache(tmp_path / "state", "broker.example", 1883, "site1/")


def test_nothing_is_made_before_there_is_something(cache: Cache) -> None:
    """Reading an empty cache gives nothing, and leaves nothing on the disk."""
    assert (cache.keys(), cache.seen(), cache.read("stt")) == ([], {}, None)
    assert not cache.directory.exists()


def test_gives_back_what_was_kept(cache: Cache, tmp_path: Path) -> None:
    """A document comes back as it came, with the last good one if that is another; so do the orders of all seen."""
    cache.keep([Entry("stt", (1, 5), kept(5, "a..jwe"), kept(4)), Entry("tts", (1, 2))])
    again = Cache(tmp_path / "state", "broker.example", 1883, "site1/")
    assert again.read("stt") == Found(kept(5, "a..jwe"), kept(4))
    assert again.read("tts") is None
    assert again.seen() == {"stt": (1, 5), "tts": (1, 2)}
    cache.keep([entry(6, good=kept(6))])
    assert again.read("stt") == Found(kept(6))


@pytest.mark.parametrize("good", ["null", "[]", "7", '{"topic":"config/updated/stt"}'])
def test_what_stands_where_the_last_good_one_does_is_told(cache: Cache, good: str) -> None:
    """Where something else stands than a document, the newest is read without it, and what was read says so."""
    cache.keep([entry(5, good=kept(4))])
    path = cache.directory / "stt.json"
    newest = json.dumps(json.loads(path.read_text())["newest"])
    path.write_text(f'{{"newest":{newest},"good":{good}}}')
    refused = f"{path} holds no last good document where one stands"
    assert cache.read("stt") == Found(kept(5), refused=refused)


def test_only_its_owner_may_read_and_write(cache: Cache) -> None:
    """The directory is 0700 and each file 0600, whatever the umask; nothing half written stays behind."""
    before = os.umask(0)
    try:
        cache.pin([new_jwk("key")])
        cache.keep([entry(1)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in cache.directory.iterdir()}
    assert modes == {"_keys.json": 0o600, "_seen.json": 0o600, "_lock": 0o600, "stt.json": 0o600}


def test_brokers_and_prefixes_have_directories_of_their_own(tmp_path: Path) -> None:
    """What one daemon says is never taken for another's; no host or prefix leads out of the cache directory."""
    places = [("a", 1883, ""), ("a", 1884, ""), ("a", 1883, "x/"), ("a", 1883, "x_"), ("::1", 1883, "../../")]
    directories = {Cache(tmp_path, host, port, prefix).directory for host, port, prefix in places}
    assert len(directories) == len(places)
    assert {directory.parent for directory in directories} == {tmp_path}


def test_an_older_document_is_never_written_over_a_newer_one(cache: Cache) -> None:
    """What another process took later stays, and who comes too late is told its order; others of the batch are kept."""
    cache.keep([entry(5)])
    assert cache.keep([entry(4), Entry("tts", (1, 1))]) == {"stt": (1, 5)}
    assert cache.read("stt") == Found(kept(5))
    assert cache.seen() == {"stt": (1, 5), "tts": (1, 1)}
    assert cache.keep([Entry("stt", (0, 9)), Entry("tts", (1, 1))]) == {"stt": (1, 5)}
    assert cache.keep([Entry("stt", (2, 1))]) == {}


def test_what_is_only_watched_is_kept_where_something_was(cache: Cache) -> None:
    """A service's file goes on with what others see of it, beside the last good document; secrets in it stay."""
    cache.keep([Entry("stt", (1, 1), kept(1), bound=False)])
    assert (cache.read("stt"), cache.seen()) == (None, {"stt": (1, 1)})
    cache.keep([Entry("stt", (1, 2), kept(2, "a..jwe"))])
    cache.keep([Entry("stt", (1, 2), kept(2), bound=False)])
    assert cache.read("stt") == Found(kept(2, "a..jwe"))
    for n in (3, 4):
        cache.keep([Entry("stt", (1, n), kept(n), bound=False)])
        assert cache.read("stt") == Found(kept(n), kept(2, "a..jwe"))
    (cache.directory / "stt.json").write_text("{")
    cache.keep([Entry("stt", (1, 5), kept(5), bound=False)])
    assert cache.read("stt") == Found(kept(5))


def test_the_key_of_a_faster_process_stays(cache: Cache) -> None:
    """Who pins second gets what was pinned first."""
    first, second = new_jwk("first"), new_jwk("second")
    assert cache.pin([first]) == [first]
    assert cache.pin([second]) == [first]
    assert cache.keys() == [first]


def _write_rising(directory: Path, start: int) -> None:
    cache = Cache(directory, "h", 1)
    for n in range(start, 2 * WRITES, 2):
        cache.keep([entry(n)])


def test_processes_share_a_cache(tmp_path: Path) -> None:
    """Two processes that write at once leave the newest of all, and files that are whole."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_rising, args=(tmp_path, start)) for start in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(50)
    assert [writer.exitcode for writer in writers] == [0, 0]
    cache = Cache(tmp_path, "h", 1)
    assert cache.read("stt") == Found(kept(2 * WRITES - 1))
    assert cache.seen() == {"stt": (1, 2 * WRITES - 1)}


def test_a_process_that_stands_still_holds_up_nobody(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another holds the lock, reading goes on without it after a while, and writing fails."""
    monkeypatch.setattr(cache_module, "_LOCK_PATIENCE_S", 0.05)
    cache.keep([entry(1)])
    with (cache.directory / "_lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cache.seen() == {"stt": (1, 1)}
        with pytest.raises(TimeoutError, match="another process holds the lock"):
            cache.keep([entry(2)])
    cache.keep([entry(2)])
    assert cache.read("stt") == Found(kept(2))


@pytest.mark.parametrize("name", READ)
def test_a_directory_that_cannot_be_entered_is_told(cache: Cache, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system lets nobody in, e.g. below another user's home, reading is refused with the system's reason."""

    def refuse(*_: object, **_more: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for function in ("stat", "open", "mkdir"):  # root, as whom tests may run, is let in everywhere
        monkeypatch.setattr(os, function, refuse)
    with pytest.raises(RefusedError, match=r"cannot be read \(Permission denied\)"):
        READ[name](cache)


def test_a_rest_of_a_crash_is_in_nobodys_way(cache: Cache) -> None:
    """A file that was left half written is written over."""
    cache.keep([entry(1)])
    (cache.directory / "_new0").write_text("half")
    cache.keep([entry(2)])
    assert cache.read("stt") == Found(kept(2))


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-3]), "is not whole"),
    "emptied": (lambda path: path.write_bytes(b""), "is not whole"),
    "another-text": (lambda path: path.write_text('{"keys":[],"stt":[1],"newest":7}'), "holds no"),
    "writable": (lambda path: path.chmod(0o620), "can be written by others"),
    "directory": (lambda path: path.parent.chmod(0o777), "can be written by others"),
    "link": (_link, "cannot be read"),
    "fifo": (_fifo, "is no plain file"),
    "folder": (_folder, "is no plain file"),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("harm", HARM)
def test_what_others_may_have_changed_is_refused(cache: Cache, name: str, harm: str) -> None:
    """A file that is not whole, not plain, or in others' reach is refused with its path and the reason."""
    cache.pin([new_jwk("key")])
    cache.keep([entry(1)])
    path = cache.directory / name
    do, reason = HARM[harm]
    do(path)
    opened = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(RefusedError) as refused:
        READ[name](cache)
    assert str(refused.value).startswith(f"{path} {reason}")
    assert len([*Path("/proc/self/fd").iterdir()]) == opened


def test_what_belongs_to_another_user_is_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user believes only what is his own."""
    cache.pin([new_jwk("key")])
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(RefusedError, match="belongs to another user"):
        cache.keys()


def test_what_is_damaged_is_written_anew(cache: Cache) -> None:
    """A damaged document, and damaged orders, do not stand in the way of what is taken next."""
    cache.keep([entry(1)])
    for name in ("_seen.json", "stt.json"):
        (cache.directory / name).write_text("{")
    cache.keep([entry(2)])
    assert (cache.seen(), cache.read("stt")) == ({"stt": (1, 2)}, Found(kept(2)))


@pytest.mark.parametrize("harm", HARM)
def test_no_key_is_pinned_in_the_place_of_one_that_is_refused(cache: Cache, harm: str) -> None:
    """Whatever was done to the pinned key, another one does not take its place: a person decides."""
    cache.pin([new_jwk("key")])
    do, reason = HARM[harm]
    do(cache.directory / "_keys.json")
    with pytest.raises(RefusedError, match=reason):
        cache.pin([new_jwk("other")])


@pytest.mark.parametrize("harm", ["writable", "directory", "link", "fifo", "folder"])
def test_what_was_seen_is_not_forgotten(cache: Cache, harm: str) -> None:
    """Orders that may be there and cannot be believed are not replaced by what comes next: it is not kept."""
    cache.keep([entry(5)])
    do, reason = HARM[harm]
    do(cache.directory / "_seen.json")
    with pytest.raises(OSError, match=f"_seen.json {reason}"):
        cache.keep([entry(4)])
    assert json.loads(json.loads((cache.directory / "stt.json").read_text())["newest"]["payload"]) == {"n": 5}
