"""The vectors of signed commands, as the tests go through them."""

import json
from pathlib import Path
from typing import Any

from setpoint_contracts import Token
from setpointd.keys import Keys
from setpointd.records import Stamp
from setpointd.store import Tx

VECTORS = Path(__file__).parents[1] / "contracts" / "vectors"
FILES: list[dict[str, Any]] = [
    json.loads(path.read_text("utf-8"))
    for path in [*sorted(VECTORS.rglob("signed-commands.json")), *sorted(VECTORS.glob("commands/*.json"))]
]
TOKENS = {jwk["kid"]: Token.parse(json.dumps(jwk).encode()) for file in FILES for jwk in file["tokens"]}
ALL: list[dict[str, Any]] = [vector for file in FILES for vector in file["vectors"]]
(NOW,) = {file["now"] for file in FILES}
MADE = Stamp("2025-12-31T23:00:00.000Z", "setpointd")
"""When the tokens were made, and by whom."""


def know(tx: Tx, keys: Keys) -> None:
    """Put the vectors' tokens into a store."""
    for token in TOKENS.values():
        tx.tokens.add(token.public(), keys.store_form(token.public()))
        if token.revoked_at is not None:
            tx.tokens.revoke(token.kid)


def fits(expected: Any, found: Any) -> bool:
    """Say whether a JSON value is what a vector expects: of an object the members that it names, the rest as it is."""
    if isinstance(expected, dict):
        known = isinstance(found, dict) and expected.keys() <= found.keys()
        return known and all(fits(value, found[name]) for name, value in expected.items())
    if isinstance(expected, list):
        same = isinstance(found, list) and len(expected) == len(found)
        return same and all(map(fits, expected, found))
    return isinstance(expected, bool) == isinstance(found, bool) and bool(expected == found)
