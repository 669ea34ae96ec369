"""Last known good, on disk: for a start without the broker, and so that no old document counts after a restart.

Rules:

- One directory for each broker and topic prefix, 0700. ``_keys.json``: the key pinned at first use. ``_seen.json``: the
  (epoch, revision) of the newest document taken of every service. ``stt.json``: that document of a bound service, as it
  came, and the last one that was good if the newest is not. No service begins with an underscore.
- A file is written beside its place, 0600, synced, and renamed into it; then the directory is synced. Under a lock, so
  that processes can share it: an older document is never written over a newer one.
- A file is read only when it is a plain file of our own that nobody else can write, and JSON as a whole. What it says
  is not believed for that: whoever reads a document checks its signature and its order (``setpoint.following``).
- What is refused is no reason to begin anew, except where its content is damaged: no key is pinned in the place of one
  that is there, and what was seen is not forgotten.
- All of it blocks, for the time of a few disk writes; the event loop leaves it to threads.
"""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from setpoint.follower import Order
from setpoint.trust import Jwk, is_public_key
from setpoint_contracts import strictjson

_KEYS, _SEEN, _LOCK, _NEW = "_keys.json", "_seen.json", "_lock", "_new"
_MAX_BYTES = 16_777_216  # more than the orders of 200,000 services
_LOCK_PATIENCE_S = 2.0  # a process that stands still must not hold up another's start
_LOCK_PAUSE_S = 0.005
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class RefusedError(Exception):
    """A file of the cache is not believed; the text says which and why, in a line for people.

    ``damaged``: it is ours alone and was read, and its content is none.
    """

    def __init__(self, text: str, *, damaged: bool = False) -> None:
        super().__init__(text)
        self.damaged = damaged


@dataclass(frozen=True, slots=True)
class Kept:
    """A document as it came on its topic. ``secrets``: the values of its secrets, sealed, if they are known."""

    topic: str
    payload: bytes
    jws: str
    secrets: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be kept of a service: the order of its newest document, and of a bound one the document itself.

    ``good`` is the last document that could be applied, where that is another one. One that is not ``bound`` is kept
    where there is one of its service already, so that this one can be read back: an older one than was seen cannot.
    """

    service: str
    order: Order
    newest: Kept | None = None
    good: Kept | None = None
    bound: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """What a file has of a bound service. ``good`` is the last good document, if that is another than the newest.

    ``refused`` says why what stands in its place is none.
    """

    newest: Kept
    good: Kept | None = None
    refused: str | None = None


class Cache:
    """The files of one daemon's configs below a cache directory. Nothing is made there before there is something."""

    def __init__(self, cache_dir: Path, host: str, port: int, prefix: str = "") -> None:
        names = (quote(host, safe=""), str(port), *([quote(prefix, safe="")] if prefix else []))
        self.directory = cache_dir / "_".join(names)

    def keys(self) -> list[Jwk]:
        """Read the pinned keys; none before first use. Raises ``RefusedError``."""
        with self._locked_if_possible():
            return self._keys()

    def pin(self, keys: list[Jwk]) -> list[Jwk]:
        """Keep keys that are pinned at first use; returns those of another process if it was faster.

        Raises ``RefusedError`` when there are some that are not believed: others are not put in their place. Raises
        ``OSError`` when they cannot be written.
        """
        with self._locked():
            if pinned := self._keys():
                return pinned
            self._write({_KEYS: {"keys": [dict(jwk) for jwk in keys]}})
        return keys

    def seen(self) -> dict[str, Order]:
        """Read the order of the newest document that was taken of every service. Raises ``RefusedError``."""
        with self._locked_if_possible():
            return self._seen()

    def read(self, service: str) -> Found | None:
        """Read what is kept of a bound service; None: nothing is. Raises ``RefusedError``."""
        name = f"{service}.json"
        found = self._read(name)
        if found is None:
            return None
        newest = _kept(found.get("newest")) if isinstance(found, dict) else None
        if newest is None:
            raise self._refused(name, "holds no document")
        good = _kept(found.get("good"))
        if good is None and "good" in found:
            return Found(newest, refused=str(self._refused(name, "holds no last good document where one stands")))
        return Found(newest, good)

    def keep(self, entries: Sequence[Entry]) -> dict[str, Order]:
        """Write what was taken, all of it or nothing newer than what stands there already.

        Returns the orders of the services of which a newer document was taken by another process: what was to be kept
        of them is a replay here. Raises ``OSError``, also when what was seen may be there and cannot be read: it would
        be lost.
        """
        with self._locked():
            try:
                seen = self._seen()
            except RefusedError as error:
                if not error.damaged:
                    raise OSError(str(error)) from None
                seen = {}
            newer = {one.service: seen[one.service] for one in entries if one.order < seen.get(one.service, one.order)}
            fresh = [one for one in entries if one.service not in newer]
            files = {f"{one.service}.json": found for one in fresh if (found := self._file(one)) is not None}
            if any(seen.get(one.service) != one.order for one in fresh):
                # Behind the documents: one that is newer than what was seen is believed, an older one is not.
                files[_SEEN] = {**seen, **{one.service: one.order for one in fresh}}
            self._write(files)
        return newer

    def _file(self, entry: Entry) -> dict[str, Any] | None:
        """Make the content of a service's file; None: as it is."""
        if entry.newest is None:
            return None
        good = entry.good
        if not entry.bound:
            try:
                found = self.read(entry.service)
            except RefusedError:
                return _document(entry.newest, None)
            if found is None or found.newest.payload == entry.newest.payload:
                return None
            good = found.good or found.newest
        return _document(entry.newest, good)

    def _keys(self) -> list[Jwk]:
        found = self._read(_KEYS)
        if found is None:
            return []
        keys = found.get("keys") if isinstance(found, dict) else None
        if not isinstance(keys, list) or not keys or not all(map(is_public_key, keys)):
            raise self._refused(_KEYS, "holds no public keys")
        return keys

    def _seen(self) -> dict[str, Order]:
        found = self._read(_SEEN)
        if not (found is None or (isinstance(found, dict) and all(map(_is_order, found.values())))):
            raise self._refused(_SEEN, "holds no orders of documents", damaged=True)
        return {service: (epoch, revision) for service, (epoch, revision) in (found or {}).items()}

    def _read(self, name: str) -> Any:
        """Read a file as JSON; None when there is none. Raises ``RefusedError``."""
        try:
            handle = os.open(self.directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._refused(name, f"cannot be read ({error.strerror})") from None
        try:
            self._check(name, os.fstat(handle))
            with os.fdopen(handle, "rb", closefd=False) as file:
                return strictjson.loads(file.read(_MAX_BYTES))
        except strictjson.InvalidJsonError:
            raise self._refused(name, "is not whole", damaged=True) from None
        except OSError as error:
            raise self._refused(name, f"cannot be read ({error.strerror})") from None
        finally:
            os.close(handle)

    def _check(self, name: str, its: os.stat_result) -> None:
        if not stat.S_ISREG(its.st_mode):
            raise self._refused(name, "is no plain file")
        directory = self.directory.stat()
        if {its.st_uid, directory.st_uid} != {os.geteuid()}:
            raise self._refused(name, "belongs to another user")
        if (its.st_mode | directory.st_mode) & _OTHERS_WRITE:
            raise self._refused(name, "can be written by others")

    def _refused(self, name: str, why: str, *, damaged: bool = False) -> RefusedError:
        return RefusedError(f"{self.directory / name} {why}", damaged=damaged)

    def _write(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Write files, in this order: all beside their places first, since each sync takes as long as many."""
        beside = [self.directory / f"{_NEW}{n}" for n in range(len(files))]
        with contextlib.ExitStack() as stack:
            written = []
            for new, content in zip(beside, files.values(), strict=True):
                new.unlink(missing_ok=True)  # the lock is ours, so this is too; one may be left of a crash
                handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                written.append(stack.enter_context(os.fdopen(handle, "wb")))
                written[-1].write(strictjson.dumps(content).encode())
                written[-1].flush()
            for file in written:
                os.fsync(file.fileno())
        for new, name in zip(beside, files, strict=True):
            new.replace(self.directory / name)
        if files:
            self._sync()

    def _sync(self) -> None:
        handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the directory's lock, and make the directory; raises ``OSError``."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self.directory / _LOCK, flags, 0o600)
        try:
            _wait_for(lambda: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB))
            yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _locked_if_possible(self) -> Iterator[None]:
        """Hold the lock for reading, unless there is nothing to read or it cannot be had: a file is whole anyway."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                if self.directory.exists():
                    stack.enter_context(self._locked())
            yield


def _wait_for(lock: Callable[[], None]) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            return lock()
        except BlockingIOError:
            if time.monotonic() > deadline:
                msg = "another process holds the lock of the cache"
                raise TimeoutError(msg) from None
            time.sleep(_LOCK_PAUSE_S)


def _document(newest: Kept, good: Kept | None) -> dict[str, Any]:
    found = {"newest": newest} if good is None or good == newest else {"newest": newest, "good": good}
    return {name: _members(kept) for name, kept in found.items()}


def _members(kept: Kept) -> dict[str, str]:
    members = {"topic": kept.topic, "payload": kept.payload.decode(), "jws": kept.jws}
    return members if kept.secrets is None else {**members, "secrets": kept.secrets}


def _kept(found: Any) -> Kept | None:
    if not isinstance(found, dict):
        return None
    texts = [found.get(name) for name in ("topic", "payload", "jws")]
    secrets = found.get("secrets")
    if not all(isinstance(text, str) for text in texts) or not isinstance(secrets, str | None):
        return None
    topic, payload, jws = (str(text) for text in texts)
    return Kept(topic, payload.encode(), jws, secrets)


def _is_order(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 2 and all(type(part) is int for part in found)  # noqa: PLR2004
