"""A text in a person's editor: what it became, however the editor ends."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import click

from setpoint.cli.exits import Failed

_EDITORS = ("sensible-editor", "nano", "vi")
_POLITE_S = 5.0


def edited(editor: str | None, name: str, text: str, leave: Callable[[bytes], None]) -> str:
    """Open a text in the editor, in a file that is its owner's alone, and return what it became.

    ``leave`` gets what the file holds in the end, also when it raises: ``Failed``, or ``Exit`` after SIGTERM or SIGHUP.
    """
    words = _words(editor)
    with tempfile.TemporaryDirectory(prefix="setpoint-") as directory:  # 0700
        file = Path(directory) / f"{name}.yaml"
        file.touch(mode=0o600)
        file.write_text(text, "utf-8")
        try:
            code = _run([*words, str(file)])
        finally:
            with contextlib.suppress(OSError):
                leave(file.read_bytes())
        if code:
            raise Failed(f"the editor {words[0]} ended with {code}, so nothing was written")
        try:
            return file.read_text("utf-8")
        except OSError as error:
            raise Failed(f"the editor {words[0]} left no text: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Failed("what the editor saved is not UTF-8, so nothing was written") from None


def _run(words: Sequence[str]) -> int:
    with _signals_are_ours():
        try:
            process = subprocess.Popen(words)  # noqa: S603 - the user's own editor
        except OSError as error:
            raise Failed(
                f"the editor {words[0]} cannot be run: {error.strerror}", "set EDITOR, or give --editor"
            ) from None
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLITE_S)


@contextlib.contextmanager
def _signals_are_ours() -> Iterator[None]:
    """Leave Ctrl-C to the editor, and let SIGTERM and SIGHUP end this with the text in hand."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise click.exceptions.Exit(128 + number)

    def leave_to_editor(_number: int, _frame: FrameType | None) -> None:
        """Do nothing; and the editor does not inherit that, as it would SIG_IGN."""

    wanted = {signal.SIGINT: leave_to_editor, signal.SIGTERM: end, signal.SIGHUP: end}
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in wanted.items():
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, kept in before.items():
            signal.signal(number, kept)


def _words(given: str | None) -> Sequence[str]:
    """Return the command of the editor that was given, that the environment names, or that there is."""
    for chosen in (given, os.environ.get("VISUAL"), os.environ.get("EDITOR")):
        try:
            if chosen and (words := shlex.split(chosen)):
                return words
        except ValueError as error:
            raise Failed(f"the editor {chosen!r} is no command: {error}", "set EDITOR, or give --editor") from None
    for name in _EDITORS:
        if shutil.which(name):
            return [name]
    raise Failed("there is no editor", "set EDITOR, or give --editor")
