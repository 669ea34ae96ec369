"""Everything that can go wrong, at one glance.

``Rejected`` is a reply to a command and carries its wire code. ``OperatorError`` ends a ``setpointd`` command with
one line on stderr and its exit code. The rest is caught inside the daemon.
"""

from typing import Any

from setpoint_contracts import Code
from setpoint_contracts.misfits import Misfit, line
from setpointd.records import Document


class SetpointdError(Exception):
    """The root of the daemon's own errors."""


class Rejected(SetpointdError):  # noqa: N818 - a refusal is an ordinary outcome of a command, not a fault
    """A command is refused. ``message`` is for people and says what to do; ``details`` are for programs.

    A ``Document`` among the details is rendered with the reply.
    """

    def __init__(self, code: Code, message: str, **details: Any) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.details = details


class BadRequest(Rejected):
    """One thing of a command does not fit: ``field`` says where, ``kind`` what, for programs."""

    def __init__(self, field: str, message: str, kind: str, **details: Any) -> None:
        misfit = Misfit(field=field, message=message, type=kind)
        super().__init__(Code.BAD_REQUEST, line(misfit), errors=[misfit], **details)


class VersionConflict(Rejected):
    """A service is not at the version that the writer expected; ``details.current`` says where it is."""

    def __init__(self, service: str, expected: int, current: Document | None) -> None:
        at = current or Document.absent(service)
        where = f"at version {at.version}"
        if at.deleted:
            where = "deleted" if at.version else "absent"
        hope = f"version {expected}" if expected else "absent"
        message = f"{service} is {where}, not {hope}; read it again, then write with the version you read"
        super().__init__(Code.VERSION_CONFLICT, message, current=at)


class HistoryPruned(Rejected):
    """What a service was then has been removed from the history; ``when`` says of which moment it was asked."""

    def __init__(self, service: str, version: int, when: str) -> None:
        message = f"the history of {service} was pruned up to version {version}: what there was{when} is not kept"
        super().__init__(Code.NOT_FOUND, message, service=service, pruned=True)


class StoreError(SetpointdError):
    """A transaction failed; nothing of it shows."""


class TakesLongError(SetpointdError):
    """A job that was to be quick is not: it begins anew where it may take long."""


class UnreadableError(SetpointdError):
    """What the store holds in one place cannot be read: the file was damaged, or somebody wrote to it."""


class BrokerLostError(SetpointdError):
    """There is no connection to the broker (any more); a later one will do."""


class PublishRefusedError(SetpointdError):
    """The broker took a message and refused it; ``args[0]`` is its reason."""


class PacketTooLargeError(PublishRefusedError):
    """A message is larger than the broker takes (CONNACK's Maximum Packet Size), so it was not sent."""


class OperatorError(SetpointdError):
    """Something that whoever started ``setpointd`` can mend; ``args[0]`` is one line that says what."""

    exit_code = 1


class BrokenStoreError(OperatorError):
    """A store is not as it was written."""

    exit_code = 65  # EX_DATAERR of sysexits.h


class SessionTakenOverError(OperatorError):
    """Another client took the daemon's session (MQTT 5 reason 0x8E). Coming back would push that one out in turn."""

    exit_code = 78  # EX_CONFIG of sysexits.h: a service manager is told not to start it again
