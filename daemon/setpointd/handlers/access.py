"""Commands on tokens."""

from setpoint_contracts.access import TokenInfo, TokenList
from setpointd.registry import Call, Result, handles
from setpointd.snapshot import Snapshot


@handles(TokenList)
def list_tokens(snapshot: Snapshot, _call: Call, _command: TokenList) -> Result:
    """List all tokens, without their keys."""
    return {"tokens": [{field: row[field] for field in TokenInfo.model_fields} for row in snapshot.tokens()]}
