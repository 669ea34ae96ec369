"""The two shapes of a reply (wire section 4)."""

from dataclasses import dataclass
from typing import Any, Self

from setpoint_contracts import Code, strictjson
from setpointd.errors import Rejected
from setpointd.records import Claim
from setpointd.request import Request

OK = "ok"
REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to a caller, byte for byte; ``code`` is ``ok``, ``repeated`` or the error's for the log."""

    code: str
    payload: bytes

    @classmethod
    def accepted(cls, request: Request, result: dict[str, Any], claim: Claim, at: str) -> Self:
        """Answer with a result."""
        return cls(OK, _dump(request, claim, at, ok=True, result=result))

    @classmethod
    def refused(cls, request: Request, refusal: Rejected, claim: Claim, at: str) -> Self:
        """Answer with an error."""
        error: dict[str, Any] = {
            "code": refusal.code,
            "message": refusal.message,
            "retryable": refusal.code.retryable,
        }
        if refusal.details:
            error["details"] = refusal.details
        return cls(refusal.code.value, _dump(request, claim, at, ok=False, error=error))

    @classmethod
    def repeated(cls, stored: tuple[bytes, bytes], request: Request) -> Self:
        """Answer with the stored reply; ``Rejected`` when it was another command that ran under this jti."""
        digest, payload = stored
        if digest != request.digest:
            message = "this jti was used for another command; sign this one with a new jti"
            raise Rejected(Code.IDEMPOTENCY_CONFLICT, message)
        return cls(REPEATED, payload)


def _dump(request: Request, claim: Claim, at: str, **outcome: Any) -> bytes:
    reply = {
        "id": request.jti,
        "command": request.command,
        **outcome,
        "revision": claim.revision,
        "epoch": claim.epoch,
        "ts": at,
    }
    return strictjson.dumps(reply).encode()
