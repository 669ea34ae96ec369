"""``setpointd init``: a new store with its keys and its first token, all or nothing."""

import contextlib
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import click

from setpoint_contracts import Role, Token
from setpointd import locks
from setpointd.errors import OperatorError
from setpointd.keys import Keys
from setpointd.operator.tokens import issue, new_kid, stamp
from setpointd.store.files import DATABASE, create

ADMIN_TOKEN = "admin.jwk"  # noqa: S105 - the name of a file
_LEFT_BY_MKFS = "lost+found"


def make_store(data_dir: Path, admin_token: Path) -> None:
    """Make keys and store in a new or empty directory, and a first token for ``admin`` in a file of its own.

    Raises ``OperatorError`` or ``OSError``; then nothing is left of it.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be undone then, as after Ctrl-C
    with _empty_directory(data_dir):
        Keys.create(data_dir)
        create(data_dir, stamp(), str(uuid.uuid4()))
        issue(data_dir, Token.new("HS256", new_kid(), "admin", Role.ADMIN), admin_token)


@contextlib.contextmanager
def _empty_directory(path: Path) -> Iterator[None]:
    """Make a directory that only its owner can enter, or take one that is empty; undo all when what follows fails."""
    missing = [part for part in (path, *path.parents) if not part.exists()]
    with contextlib.ExitStack() as undo:
        for part in reversed(missing):
            part.mkdir(mode=0o700)
            undo.callback(part.rmdir)
        with locks.holding(path, wait_s=None):  # one `init` at a time looks at a directory and fills it
            _check_empty(path)
            path.chmod(0o700)
            undo.callback(_remove_files, path)
            yield
        undo.pop_all()


def _check_empty(directory: Path) -> None:
    if (directory / DATABASE).exists():
        raise OperatorError(f"{directory} holds a store already, and is not overwritten")
    if any(entry.name != _LEFT_BY_MKFS for entry in directory.iterdir()):
        raise OperatorError(f"{directory} is not empty: a store is made in a new or empty directory")


def _remove_files(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_file():
            entry.unlink()


@click.command("init")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="SETPOINT_DATA_DIR",
    show_envvar=True,
    required=True,
    help="Directory for the store: a new or an empty one. Only its owner will be able to enter it.",
)
@click.option(
    "--admin-token",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"File for the first token, which may do everything.  [default: {ADMIN_TOKEN} in the data directory]",
)
def command(data_dir: Path, admin_token: Path | None) -> None:
    """Make a new store with its keys and a first admin token.

    Nothing that exists is overwritten; when something fails, nothing is left behind.
    """
    token_file = admin_token or data_dir / ADMIN_TOKEN
    make_store(data_dir, token_file)
    click.echo(f"store: {click.format_filename(data_dir)}\nadmin token: {click.format_filename(token_file)}")
