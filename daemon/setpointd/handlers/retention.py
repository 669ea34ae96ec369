"""Removing what is old from the history."""

from setpoint_contracts.retention import HistoryPrune
from setpoint_contracts.timestamps import rfc3339
from setpointd.call import Call
from setpointd.records import Keep, Pruning
from setpointd.render import Result
from setpointd.store import Tx

MAX_SLICES = 200
"""How many slices one command does: until it is answered, the acknowledgements of later commands wait behind it."""
DAY_S = 86_400


def prune(tx: Tx, call: Call, command: HistoryPrune, so_far: Pruning | None) -> Result | Pruning:
    """Remove one slice after another; what one command does not get done is left to the background."""
    since = None if command.keep_days is None else rfc3339(call.now - command.keep_days * DAY_S)
    keep = Keep(since, command.keep_versions)
    done = tx.pruning.slice(keep, so_far or Pruning())
    if not done.over and done.slices < MAX_SLICES:
        return done
    if not done.over:
        tx.pruning.leave(keep)
    tx.pruning.record(keep, done)
    return Result(versions=done.versions, history=done.history, complete=done.over)
