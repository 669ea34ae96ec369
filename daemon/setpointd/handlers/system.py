"""Commands about the daemon itself."""

from setpoint_contracts import COMMANDS
from setpoint_contracts.system import PRODUCT, PROTOCOL, Info, Status
from setpointd.call import Call
from setpointd.render import Result
from setpointd.store import Snapshot


def info(_snapshot: Snapshot, call: Call, _command: Info) -> Result:
    """Say what the daemon is, and who the caller is to it."""
    services = call.who.services
    return Result(
        product=PRODUCT,
        version=call.daemon.runtime.version,
        protocol=PROTOCOL,
        server_time=call.at,
        commands=sorted(COMMANDS),
        limits=call.limits.model_dump() | {"max_packet_bytes": call.daemon.runtime.max_packet_bytes},
        principal=call.who.name,
        role=call.who.role,
        services=None if services is None else list(services),
    )


def status(snapshot: Snapshot, call: Call, _command: Status) -> Result:
    """Say how the daemon does."""
    identity, runtime = snapshot.identity.now(), call.daemon.runtime
    return Result(
        mode=runtime.mode,
        reason=runtime.reason,
        store_id=identity.store_id,
        epoch=identity.epoch,
        revision=identity.revision,
        instance=runtime.instance,
        uptime_s=runtime.uptime(),
        services=snapshot.config.count(),
        outbox_pending=snapshot.outbox.pending(),
        oldest_job_s=round(runtime.oldest_job_s(), 3),
        oversized_documents=len(runtime.oversized),
        store_bytes=snapshot.identity.store_bytes(),
        last_backup=None,
    )
