"""A file that comes into being line by line: what there is of it stands in FILE.part, until it is whole.

The first line of the part says what it is a part of; the same again goes on behind its last line that is whole and as
it should be. One process at a time writes it. The file at its place is replaced at the end, at once, and is its
owner's alone; what is no regular file (a device, a pipe) is not replaced.
"""

import contextlib
import fcntl
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Self

import click

from setpoint.cli.exits import Exit, Failed

Json = dict[str, Any]


class Part:
    """The lines of FILE.part; for standard output (``-``) of a temporary file."""

    def __init__(self, file: str) -> None:
        self._target = None if file == "-" else Path(file).expanduser()
        self._path = None if self._target is None else self._target.with_name(self._target.name + ".part")
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        if self._path is None or self._target is None:
            self._file = tempfile.TemporaryFile()
        else:
            _check_place(self._target)
            self._file = os.fdopen(_open_alone(self._path), "r+b")
            os.fchmod(self._file.fileno(), 0o600)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def left(self, same: Json, fits: Callable[[Json], bool]) -> Json | None:
        """Return how the part that is there began; None if it is not of the ``same``, or does not fit."""
        self._file.seek(0)
        begun = _object(self._file.readline())
        return begun if begun is not None and same.items() <= begun.items() and fits(begun) else None

    def lines(self, fits: Callable[[Json], bool]) -> Iterator[tuple[int, Json]]:
        """Give the lines behind the first, each with its place, up to one that is not whole or does not fit.

        Taken to the end it cuts the rest off, so that what is added stands behind them.
        """
        self._file.seek(0)
        place = len(self._file.readline())
        for line in iter(self._file.readline, b""):
            one = _object(line)
            if one is None or not fits(one):
                break
            yield place, one
            place += len(line)
        self._file.seek(place)
        self._file.truncate()

    def begin(self, begun: Json) -> None:
        """Begin anew; the first line tells with what."""
        self._file.seek(0)
        self._file.truncate()
        self.add(json.dumps(begun))

    def add(self, line: str) -> int:
        """Write a line; returns its place."""
        place = self._file.tell()
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        return place

    def at(self, place: int) -> bytes:
        """Read the line at a place, with its end."""
        self._file.seek(place)
        return self._file.readline()

    def finish(self, lines: Iterable[bytes]) -> None:
        """Write the file, whole, and put it at its place; the part is gone then."""
        if self._path is None or self._target is None:
            sys.stdout.flush()
            for line in lines:
                sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            return
        with _new_beside(self._target) as out:
            out.writelines(lines)
        self._path.unlink()

    @property
    def path(self) -> Path | None:
        """Where it is; None for standard output."""
        return self._path


def _check_place(target: Path) -> None:
    if target.exists() and not target.is_file():
        raise Failed(f"{target} is no regular file", "name another FILE, or - for standard output", Exit.USAGE)


def _open_alone(path: Path) -> int:
    """Open a part that no other process has open; raises ``Failed`` if one has."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                return handle
        except BlockingIOError:
            os.close(handle)
            raise Failed(
                f"another export writes {path}", "wait for its end, or name another FILE", Exit.USAGE
            ) from None
        os.close(handle)  # another process finished it, and took it away, between the two


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _object(line: bytes) -> Json | None:
    """Parse a line that is whole."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@contextlib.contextmanager
def _new_beside(target: Path) -> Iterator[IO[bytes]]:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # 0600
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def going_on(part: Part, count: int, what: str) -> None:
    """Say that there is something already."""
    if count:
        click.echo(f"going on with {part.path}: {count} {what} are there", err=True)


def tell_scope(services: list[str] | None) -> None:
    """Say that a token does not see all there is, if that is so: ``services`` of ``info``."""
    if services is not None:
        seen = ", ".join(services) or "none"
        click.echo(f"setpoint: this token sees only some services ({seen}), and the file holds no others", err=True)
