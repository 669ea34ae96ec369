"""A file that comes into being line by line: what there is of it stands in FILE.part, until it is whole.

The first line of the part says what it is a part of; the same again goes on behind its last whole line. The file at
its place is replaced at the end, at once, and is its owner's alone.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Self

import click

Json = dict[str, Any]


class Part:
    """The lines of FILE.part; for standard output (``-``) of a temporary file."""

    def __init__(self, file: str) -> None:
        self._target = None if file == "-" else Path(file).expanduser()
        self._path = None if self._target is None else self._target.with_name(self._target.name + ".part")
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        if self._path is None:
            self._file = tempfile.TemporaryFile()
        else:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.fdopen(os.open(self._path, flags, 0o600), "r+b")
            os.fchmod(self._file.fileno(), 0o600)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def begin(self, same: Json, new: Json) -> tuple[Json, list[tuple[int, bytes]]]:
        """Go on if the part that is there is of the ``same``, else begin anew with that and what is ``new``.

        Returns how it began, and the lines that are there, each with its place.
        """
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        first, *lines = whole.split(b"\n")[:-1] or [b""]
        begun = _object(first)
        if begun is not None and {name: begun.get(name) for name in same} == same:
            self._file.truncate(len(whole))
            self._file.seek(0, os.SEEK_END)
            return begun, _placed(lines, len(first) + 1)
        begun = {**same, **new}
        self._file.seek(0)
        self._file.truncate()
        self.add(json.dumps(begun))
        return begun, []

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


def _placed(lines: list[bytes], place: int) -> list[tuple[int, bytes]]:
    found = []
    for line in lines:
        found.append((place, line))
        place += len(line) + 1
    return found


def _object(line: bytes) -> Json | None:
    try:
        found = json.loads(line)
    except ValueError:
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
