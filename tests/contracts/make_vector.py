"""Make vectors: sign what a table on stdin says, and add it to a file of vectors.

    python tests/contracts/make_vector.py contracts/vectors/commands/config.json < table

One vector a line, as JSON; empty lines and lines that begin with # are passed over:

    {"name": "patch-version", "why": "only at the version that is expected", "command": "patch",
     "before": [["set", {"service": "stt", "config": {}}]],
     "params": {"service": "stt", "patch": {"a": 1}, "expected_version": 7},
     "expect": {"code": "version_conflict", "details": {"current": {"version": 1}}}}

(in one line). ``token`` is ``tok_admin`` unless told, ``params`` is ``{}``, and ``expect`` that it is ok; a command in
``before`` may name its own token as a third item. A name that any vector has already is refused, and then nothing is
written: a vector is made once, by hand, and what it expects is what the wire says, never what the daemon answered. So
this knows nothing of the product: it is HMAC, Ed25519, base64 and JSON, with the keys of ``signed-commands.json``.
"""

import base64
import hashlib
import hmac
import json
import re
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VECTORS = Path(__file__).parents[2] / "contracts" / "vectors"
GIVEN = json.loads((VECTORS / "signed-commands.json").read_text("utf-8"))
TOKENS: dict[str, dict[str, Any]] = {token["kid"]: token for token in GIVEN["tokens"]}
MEMBERS = {"name", "why", "command", "token", "params", "before", "expect"}
EXPECTED = {"code", "result", "details"}
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,50}")


def sign(command: str, params: Any, kid: str, jti: str) -> dict[str, str]:
    """Sign one command: its topic and its payload."""
    token, topic = TOKENS[kid], f"config/cmd/{command}"
    issued, expires = GIVEN["now"] - 1, GIVEN["now"] + 60
    claims = {"jti": jti, "aud": topic, "iat": issued, "exp": expires, "params": params}
    said = f"{_encode(_json({'alg': token['alg'], 'kid': kid}))}.{_encode(_json(claims))}"
    return {"topic": topic, "payload": f"{said}.{_encode(_signature(token, said.encode()))}"}


def vector(line: dict[str, Any]) -> dict[str, Any]:
    """Make a vector of one line of the table."""
    name, kid = line["name"], line.get("token", "tok_admin")
    unknown = (line.keys() - MEMBERS) | (line.get("expect", {}).keys() - EXPECTED)
    if unknown or not NAME.fullmatch(name):
        raise ValueError(f"{name}: {sorted(unknown) or 'no name for a vector'}")
    before = [_before(step, f"v-{name}-{place}") for place, step in enumerate(line.get("before", []), 1)]
    expected = {"code": None, "reply_topic": f"config/reply/{TOKENS[kid]['name']}/v-{name}", **line.get("expect", {})}
    signed = sign(line["command"], line.get("params", {}), kid, f"v-{name}")
    return {
        "name": name,
        "why": line["why"],
        **({"before": before} if before else {}),
        "topic": signed["topic"],
        "retain": False,
        "properties": {},
        "payload": signed["payload"],
        "expect": {"outcome": "reply", **expected},
    }


def add(path: Path, lines: list[dict[str, Any]]) -> None:
    """Add the vectors of a table to a file; ``ValueError`` when a name is taken, and then to none."""
    given = {"now": GIVEN["now"], "tokens": GIVEN["tokens"], "vectors": []}
    file = json.loads(path.read_text("utf-8")) if path.exists() else given
    taken = {vector["name"] for found in (*_files(), file) for vector in found["vectors"]}
    for line in lines:
        if line["name"] in taken:
            raise ValueError(f"{line['name']}: there is a vector of this name")
        taken.add(line["name"])
        file["vectors"].append(vector(line))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(file, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _files() -> list[dict[str, Any]]:
    paths = [*VECTORS.rglob("signed-commands.json"), *VECTORS.glob("commands/*.json")]
    return [json.loads(path.read_text("utf-8")) for path in paths]


def _before(step: list[Any], jti: str) -> dict[str, str]:
    command, params, kid = [*step, "tok_admin"][:3]
    return sign(command, params, kid, jti)


def _signature(token: dict[str, Any], said: bytes) -> bytes:
    if token["alg"] == "HS256":
        return hmac.digest(_decode(token["k"]), said, hashlib.sha256)
    return Ed25519PrivateKey.from_private_bytes(_decode(token["d"])).sign(said)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=")


if __name__ == "__main__":
    rows = [row for row in sys.stdin.read().splitlines() if row.strip() and not row.startswith("#")]
    try:
        add(Path(sys.argv[1]), [json.loads(row) for row in rows])
    except ValueError as error:
        sys.exit(f"make_vector.py: {error}")
