"""The stable error codes of the wire (section 4)."""

from collections.abc import Collection
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Details:
    """Which members the ``details`` of an error have: one of ``always``, all of it, and perhaps some of ``perhaps``."""

    always: tuple[frozenset[str], ...] = (frozenset(),)
    perhaps: frozenset[str] = frozenset()

    @property
    def members(self) -> frozenset[str]:
        """All that there may be."""
        return self.perhaps.union(*self.always)

    def fit(self, found: Collection[str]) -> bool:
        """Whether these are the members of such an error."""
        return any(always <= set(found) <= always | self.perhaps for always in self.always)


def _always(*members: str, perhaps: Collection[str] = ()) -> Details:
    return Details((frozenset(members),), frozenset(perhaps))


INDEX = "index"
"""Beside what its code has, an error of one of the changes of ``apply`` has the place of that change."""

DETAILS: dict[Code, Details] = dict.fromkeys(Code, Details()) | {
    Code.BAD_REQUEST: _always("errors", perhaps=("epoch", "revision", "profiles", "max_profiles")),
    Code.EXPIRED: _always("server_time"),
    Code.CLOCK_SKEW: _always("server_time"),
    Code.UNKNOWN_COMMAND: _always("known"),
    Code.FORBIDDEN: _always("needs", perhaps=("service",)),
    Code.RATE_LIMITED: _always("retry_after_s"),
    Code.READ_ONLY: _always("reason"),
    Code.NOT_FOUND: Details((frozenset(), frozenset({"service", "pruned"})), frozenset({"current", "service"})),
    Code.ALREADY_EXISTS: Details((frozenset({"current"}), frozenset({"kid"}))),
    Code.VERSION_CONFLICT: _always("current"),
    Code.SCHEMA_INVALID: _always("service", "errors"),
    Code.TOO_LARGE: Details(
        (frozenset({"bytes", "max_bytes"}), frozenset({"keys", "max_keys"}), frozenset({"secrets", "max_secrets"})),
        frozenset({"applied", "service"}),
    ),
}
"""What stands in ``details``, by code; the table of contracts/README.md says what it means."""
