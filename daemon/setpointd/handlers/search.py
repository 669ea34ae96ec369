"""Searching in configs (wire section 6)."""

from itertools import islice

from setpoint_contracts.search import Search
from setpointd.call import Call
from setpointd.render import Result
from setpointd.store import Snapshot


def search(snapshot: Snapshot, call: Call, command: Search) -> Result:
    """Find keys, of the services that the caller sees."""
    matches = snapshot.search.matches(command.query, command.service, call.who)
    return Result(
        matches=[
            {"service": service, "key": key, "value": value} for service, key, value in islice(matches, command.limit)
        ]
    )
