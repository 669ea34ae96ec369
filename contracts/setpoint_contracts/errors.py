"""The stable error codes of the wire (section 4)."""

from enum import StrEnum


class Code(StrEnum):
    """What went wrong with a command, for programs; the message beside it is for people and may change."""

    BAD_REQUEST = "bad_request"
    WRONG_TOPIC = "wrong_topic"
    EXPIRED = "expired"
    CLOCK_SKEW = "clock_skew"
    BAD_REPLY_TOPIC = "bad_reply_topic"
    UNKNOWN_COMMAND = "unknown_command"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a code
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - a code
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    READ_ONLY = "read_only"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    VERSION_CONFLICT = "version_conflict"
    SCHEMA_INVALID = "schema_invalid"
    TOO_LARGE = "too_large"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        """Whether the same command, sent again, may still run: the outcome was not final and not stored."""
        return self in _RETRYABLE


GENERAL = frozenset(Code) - {
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.VERSION_CONFLICT,
    Code.SCHEMA_INVALID,
    Code.TOO_LARGE,
}
"""What any command can be answered with (wire section 3, rows 1 to 14), and ``too_large`` when its reply is that."""

_RETRYABLE = frozenset({Code.RATE_LIMITED, Code.READ_ONLY, Code.UNAVAILABLE, Code.INTERNAL})
