"""Commands about the daemon itself."""

from setpoint_contracts import COMMANDS
from setpoint_contracts.system import PRODUCT, PROTOCOL, Info, Status
from setpointd.registry import Call, Result, handles
from setpointd.snapshot import Snapshot


@handles(Info)
def info(_snapshot: Snapshot, call: Call, _command: Info) -> Result:
    """Say what the daemon is, and who the caller is to it."""
    services = call.who.services
    return {
        "product": PRODUCT,
        "version": call.daemon.version,
        "protocol": PROTOCOL,
        "server_time": call.at,
        "commands": sorted(COMMANDS),
        "limits": call.daemon.limits.model_dump(),
        "principal": call.who.name,
        "role": call.who.role,
        "services": None if services is None else list(services),
    }


@handles(Status)
def status(snapshot: Snapshot, call: Call, _command: Status) -> Result:
    """Say how the daemon does."""
    claim = snapshot.claim()
    return {
        "mode": call.daemon.mode,
        "reason": call.daemon.reason,
        "store_id": claim.store_id,
        "epoch": claim.epoch,
        "revision": claim.revision,
        "instance": call.daemon.instance,
        "uptime_s": call.daemon.uptime(),
        "services": snapshot.count_services(),
        "outbox_pending": snapshot.outbox_pending(),
        "store_bytes": snapshot.store_bytes(),
        "last_backup": None,
    }
