"""The command on the audit log."""

from setpoint_contracts.audit_log import AuditQuery
from setpointd.call import Call
from setpointd.render import Result
from setpointd.store import Snapshot
from setpointd.store.audit import AuditFilter


def query(snapshot: Snapshot, call: Call, command: AuditQuery) -> Result:
    """Read a page of the audit log, without the events of services that the caller does not see."""
    wanted = AuditFilter(
        command.action, command.user, command.service, command.since, command.until, sees=call.who.sees
    )
    events, following = snapshot.audit.page(wanted, command.before, command.limit)
    return Result(events=events, next=following)
