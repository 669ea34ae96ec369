"""What instances of services say that they run."""

from setpoint_contracts.applied import Applied, AppliedReport
from setpointd.call import Call
from setpointd.render import Result
from setpointd.store import Snapshot


def list_applied(snapshot: Snapshot, call: Call, command: Applied) -> Result:
    """List the newest report of each instance that the caller sees, with how far it is behind."""
    reports = [report for report in call.daemon.applied(command.service) if call.who.sees(report.service)]
    newest = {service: snapshot.config.newest(service) for service in {report.service for report in reports}}
    return Result(instances=[_with_lag(report, newest[report.service]) for report in reports])


def _with_lag(report: AppliedReport, newest: int | None) -> dict[str, object]:
    return {**report.model_dump(exclude_none=True), "lag": max(0, (newest or 0) - report.version)}
