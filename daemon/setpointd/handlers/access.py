"""Commands on tokens."""

from setpoint_contracts.access import TokenInfo, TokenList
from setpointd.call import Call
from setpointd.render import Result
from setpointd.store import Snapshot


def list_tokens(snapshot: Snapshot, _call: Call, _command: TokenList) -> Result:
    """List all tokens, without their keys."""
    return Result(tokens=[{field: row[field] for field in TokenInfo.model_fields} for row in snapshot.tokens.all()])
