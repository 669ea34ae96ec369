"""``setpointd verify``: proves that a store is as it was written. It changes nothing, and needs no stopped daemon."""

import re
from pathlib import Path

import click

from setpointd.errors import BrokenStoreError, OperatorError
from setpointd.operator.data_dir import data_dir_option
from setpointd.store.chain import START, BrokenChainError, Link
from setpointd.store.files import reading

# Read in one piece: a daemon that starts waits for no more than that, and one that runs can put its log away behind it.
_PORTION = 10_000
_ANCHOR = re.compile(r"(0|[1-9][0-9]{0,18}):([0-9a-f]{64})")


def _anchor(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Link | None:
    if value is None:
        return None
    found = _ANCHOR.fullmatch(value)
    if found is None:
        raise click.BadParameter("it is ID:HASH, as `setpointd verify` prints it")
    return Link(int(found[1]), bytes.fromhex(found[2]))


@click.command("verify")
@click.option(
    "--anchor",
    callback=_anchor,
    metavar="ID:HASH",
    help="What was printed earlier, or `id` and `hash` of an event of audit/query: it must be in the log still.",
)
@data_dir_option
def command(data_dir: Path, anchor: Link | None) -> None:
    """Prove that the audit log is as it was written, and print its newest ID:HASH.

    Each row of the log carries a hash over itself and the row before it, so a row that was changed, put in, moved, or
    taken out of the middle is found: then the exit code is 65, and the line names the first row that does not fit. The
    hashes alone do not tell when the newest rows were cut off, or when somebody computed all of them anew. An anchor
    that was kept elsewhere tells, for all rows up to it.

    It changes nothing, and works beside a running daemon.
    """
    click.echo(_audit_log(data_dir, anchor))


def _audit_log(data_dir: Path, anchor: Link | None) -> str:
    """Follow the chain of the audit log to its end; say how long it is."""
    last, rows, held = START, 0, anchor in {None, START}
    try:
        while links := _links(data_dir, last):
            last, rows, held = links[-1], rows + len(links), held or anchor in links
    except BrokenChainError as error:
        raise BrokenStoreError(f"audit log: {error.args[0]}") from None
    if not held:
        raise BrokenStoreError(f"audit log: {anchor} is not in it; it ends with {last}")
    return f"audit log: {rows} rows fit, the newest is {last}"


def _links(data_dir: Path, last: Link) -> list[Link]:
    with reading(data_dir) as snapshot:
        if not snapshot.audit.chained():
            text = "is of a format without hashes: this setpointd makes them when it first runs on it"
            raise OperatorError(f"the store in {data_dir} {text}")
        return list(snapshot.audit.chain(last, _PORTION))
