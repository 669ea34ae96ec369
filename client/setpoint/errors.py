"""Everything that a client raises, at one glance: one class per code of the wire (section 4), and the client's own.

Every one of them is a ``SetpointError``. Programs go by the class or by ``code``; the text is for people and may
change. None holds a secret, a token or the value of a secret.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from setpoint.signed import SignedCommand
from setpoint_contracts.applied import ReportedInstance
from setpoint_contracts.config import ConfigDocument
from setpoint_contracts.errors import Code

Details = Mapping[str, Any]


class SetpointError(Exception):
    """What a command was refused with, or why it got no answer.

    ``code`` is stable; ``retryable``: sent again as it is, it may still run; ``details`` is what the wire says besides
    (contracts/README.md, section 4). A code that this version does not know is raised as this class itself.
    """

    wire: ClassVar[Code | None] = None

    def __init__(
        self, message: str, *, code: str = "", retryable: bool = False, details: Details | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or (self.wire.value if self.wire else "error")
        self.retryable = retryable
        self.details: Details = details or {}

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @cached_property
    def current(self) -> ConfigDocument | None:
        """The config document as it is now, where the answer has it: of ``version_conflict`` always."""
        found = self.details.get("current")
        return _document(found) if isinstance(found, Mapping) and "service" in found else None

    @property
    def index(self) -> int | None:
        """Which of the changes of ``apply`` it was; None for another command."""
        return self.details.get("index")


class BadRequest(SetpointError):
    """The parameters do not fit; ``errors`` says where and why."""

    wire = Code.BAD_REQUEST

    @property
    def errors(self) -> list[dict[str, str]]:
        """``[{"field", "message", "type"}]``, at most 100; no value is repeated there."""
        return list(self.details.get("errors", ()))


class WrongTopic(SetpointError):
    """The command was signed for another topic."""

    wire = Code.WRONG_TOPIC


class Expired(SetpointError):
    """The command came after its ``exp``, or this machine's clock is behind; ``server_time`` is the daemon's."""

    wire = Code.EXPIRED

    @property
    def server_time(self) -> str | None:
        """The daemon's time when it judged the command (RFC 3339)."""
        return self.details.get("server_time")


class ClockSkew(Expired):
    """The clock of this machine is ahead of the daemon's; ``server_time`` is the daemon's."""

    wire = Code.CLOCK_SKEW


class BadReplyTopic(SetpointError):
    """The reply topic is not one of the principal's."""

    wire = Code.BAD_REPLY_TOPIC


class UnknownCommand(SetpointError):
    """The daemon has no command of that name."""

    wire = Code.UNKNOWN_COMMAND

    @property
    def known(self) -> list[str]:
        """The names of all commands that it has."""
        return list(self.details.get("known", ()))


class TokenExpired(SetpointError):
    """The token's time is over: ask for a new one."""

    wire = Code.TOKEN_EXPIRED


class TokenRevoked(SetpointError):
    """The token was revoked: ask for a new one."""

    wire = Code.TOKEN_REVOKED


class Forbidden(SetpointError):
    """The token's role or its services do not allow it."""

    wire = Code.FORBIDDEN

    @property
    def needs(self) -> str | None:
        """The permission that it lacks, e.g. ``config.write``."""
        return self.details.get("needs")

    @property
    def service(self) -> str | None:
        """The service that is not the token's, if one is named."""
        return self.details.get("service")


class RateLimited(SetpointError):
    """More commands than a principal may send, and no room for this one before its deadline."""

    wire = Code.RATE_LIMITED

    @property
    def retry_after_s(self) -> float:
        """When there is room for one, in seconds."""
        return float(self.details.get("retry_after_s", 1.0))


class IdempotencyConflict(SetpointError):
    """The ``jti`` was used for another command already."""

    wire = Code.IDEMPOTENCY_CONFLICT


class ReadOnly(SetpointError):
    """The daemon does not write now; a person decides (README, "Running it for good")."""

    wire = Code.READ_ONLY

    @property
    def reason(self) -> str | None:
        """Why, in one word: ``stale_store``, ``foreign_store``, ``superseded`` or another."""
        return self.details.get("reason")


class NotFound(SetpointError):
    """No such service, version, key, profile, schema or token; ``current`` is the tombstone of a deleted service."""

    wire = Code.NOT_FOUND


class AlreadyExists(SetpointError):
    """There is a profile of that name, or a token with that key."""

    wire = Code.ALREADY_EXISTS


class VersionConflict(SetpointError):
    """The service is not at the version that was expected; ``current`` is its document now."""

    wire = Code.VERSION_CONFLICT


class SchemaInvalid(SetpointError):
    """The config does not fit the schema of its service."""

    wire = Code.SCHEMA_INVALID

    @property
    def service(self) -> str | None:
        """Whose schema it is."""
        return self.details.get("service")

    @property
    def errors(self) -> list[dict[str, str]]:
        """``[{"pointer", "message", "keyword"}]``, at most 100; ``pointer`` is a JSON Pointer into the config."""
        return list(self.details.get("errors", ()))


class TooLarge(SetpointError):
    """More than the daemon or the broker takes; ``details`` has what it is and what is the most."""

    wire = Code.TOO_LARGE

    @property
    def applied(self) -> bool:
        """Whether the change took effect all the same, and only the answer was too large. Then do not send it again."""
        return bool(self.details.get("applied", False))


class Unavailable(SetpointError):
    """The write could not be made durable, until the deadline."""

    wire = Code.UNAVAILABLE


class Internal(SetpointError):
    """A fault of the daemon, until the deadline; its log says more."""

    wire = Code.INTERNAL


class Unreachable(SetpointError):
    """There is no connection to the broker, or no answer came in time.

    ``command`` is what was sent, if anything was: whether it took effect is not known, and ``Client.resend`` sends the
    same bytes again, so that it takes effect once at most.
    """

    def __init__(self, message: str, command: SignedCommand | None = None) -> None:
        super().__init__(message, code="unreachable", retryable=True)
        self.command = command


class NotApplied(SetpointError):
    """Not enough instances reported in time that they run a version; ``instances`` is what they reported last."""

    def __init__(self, message: str, instances: list[ReportedInstance]) -> None:
        super().__init__(message, code="not_applied", retryable=True)
        self.instances = instances


class NoConfig(SetpointError):
    """A bound service has no config: nothing came in time, nothing is in the cache, and the model lacks a default."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="no_config", retryable=True)


class ConfigurationError(SetpointError):
    """The client was told something that cannot be: a URL, a token file, a key file. The text says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="configuration")


_CLASSES = {kind.wire.value: kind for kind in SetpointError.__subclasses__() if kind.wire is not None} | {
    Code.CLOCK_SKEW.value: ClockSkew
}


def error_of(body: Mapping[str, Any]) -> SetpointError:
    """Make the exception of the ``error`` of a reply, whatever it holds."""
    code, details = str(body.get("code", "")), body.get("details")
    return _CLASSES.get(code, SetpointError)(
        str(body.get("message", "")),
        code=code,
        retryable=body.get("retryable") is True,
        details=details if isinstance(details, Mapping) else {},
    )


def _document(found: Mapping[str, Any]) -> ConfigDocument:
    return ConfigDocument.model_validate(dict(found), extra="ignore")
