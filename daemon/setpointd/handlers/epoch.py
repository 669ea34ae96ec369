"""Making a store the truth (wire section 7)."""

from setpoint_contracts.audit import Action
from setpoint_contracts.system import EpochAdvance
from setpointd.call import Call
from setpointd.errors import BadRequest
from setpointd.records import Sighting
from setpointd.render import Result
from setpointd.store import Tx


def advance(tx: Tx, call: Call, command: EpochAdvance) -> Result:
    """Make this store the truth, and this daemon the writer."""
    own = tx.identity.now()
    if command.expected_epoch not in {None, own.epoch}:
        text = f"the epoch is {own.epoch}, not {command.expected_epoch}; look at status, then decide again"
        raise BadRequest("expected_epoch", text, "epoch_mismatch", epoch=own.epoch)
    # Two copies of a store that are both on the broker both get the command. They must not share an epoch, and the one
    # that is the writer goes on.
    further = 1 if call.daemon.runtime.mode == "active" else 0
    result = make_truth(tx, call.sighting(), call.now, further=further)
    call.after_commit(call.daemon.activate)
    return result


def make_truth(tx: Tx, seen: Sighting, now: float, *, further: int = 0) -> Result:
    """Begin an epoch and a revision above all that was seen, and in them a new version of every service.

    Each is numbered above the highest that the store or a signed retained document names, so that no number is used
    twice and every follower takes it. A service that only a signed retained document knows gets a tombstone.
    """
    identity = tx.identity.advance(seen.epoch, seen.revision, now, further=further)
    documents = list(tx.config.all())
    for document in documents:
        tx.config.advance(document.service, document, seen.versions.get(document.service, 0))
    unknown = sorted(seen.versions.keys() - {document.service for document in documents})
    for service in unknown:
        tx.config.advance(service, None, seen.versions[service])
    result = Result(
        epoch=identity.epoch,
        revision=identity.revision,
        services=len(documents),
        tombstones=len(unknown),
    )
    tx.audit.record(Action.ADVANCE_EPOCH, **result.members)
    return result
