"""What was done to the daemon and what it said, with times: made by a run, read by the checker.

Times are seconds of one monotonic clock. An invocation is noted before its first byte leaves, an answer after its last
byte has come, so an operation took effect, if it did, between the two.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from setpoint_contracts import Code

Document = dict[str, Any]
"""A config document of wire section 5."""


class Place(NamedTuple):
    """A point in the store's order of everything: what the wire orders by (section 5)."""

    epoch: int
    revision: int

    @classmethod
    def of(cls, said: dict[str, Any]) -> "Place":
        """The place that a document was made at, or that a reply was judged at."""
        return cls(said["epoch"], said["revision"])


@dataclass
class Received:
    """One reply to an operation, byte for byte as it came."""

    at: float
    payload: str

    @cached_property
    def reply(self) -> dict[str, Any]:
        """The reply, read."""
        reply: dict[str, Any] = json.loads(self.payload)
        return reply

    @property
    def code(self) -> str:
        """Either `ok` or the error's code."""
        return "ok" if self.reply["ok"] else str(self.reply["error"]["code"])

    @property
    def final(self) -> bool:
        """Whether the command cannot run any more; after a retryable error it may."""
        return self.code == "ok" or not Code(self.code).retryable


@dataclass
class Operation:
    """One command, signed once; it may have been sent several times, and answered as often, or never.

    ``silent``: it asks for no reply.
    """

    id: str
    principal: str
    command: str
    service: str
    params: dict[str, Any]
    invoked: float
    silent: bool = False
    sent: int = 0
    received: list[Received] = field(default_factory=list)

    @property
    def mutation(self) -> bool:
        """Whether it can change anything."""
        return self.command != "get"

    def answers(self) -> list[Received]:
        """The replies that say what became of it: of a mutation the first final one, of a read every one."""
        final = [received for received in self.received if received.final]
        return final[:1] if self.mutation else final

    def __str__(self) -> str:
        return f"{self.id} ({self.command} {self.service})"


@dataclass
class Update:
    """An update document that an observer got. ``live``: not because it was retained when the connection began."""

    at: float
    connection: int
    live: bool
    document: Document


@dataclass
class History:
    """A whole run. ``versions`` and ``retained`` were read when all was over: every version, and the newest outside."""

    operations: list[Operation] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    versions: dict[str, list[Document]] = field(default_factory=dict)
    retained: dict[str, Document] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Say in some lines how much happened."""
        codes = Counter(answer.code for operation in self.operations for answer in operation.answers())
        codes["silent"] = sum(operation.silent for operation in self.operations)
        codes["unknown"] = -codes["silent"] + sum(not operation.answers() for operation in self.operations)
        kinds = {
            "operations": Counter(operation.command for operation in self.operations),
            "outcomes": codes,
            "sent again": Counter(times=sum(max(0, operation.sent - 1) for operation in self.operations)),
            "replies": Counter(all=sum(len(operation.received) for operation in self.operations)),
            "versions": Counter({service: len(versions) for service, versions in self.versions.items()}),
            "updates": Counter("live" if update.live else "retained" for update in self.updates),
            "faults": Counter(self.faults),
        }
        return "\n".join(
            f"{kind}: " + (", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none")
            for kind, counts in kinds.items()
        )

    def save(self, path: Path) -> None:
        """Write it down as JSON, for people."""
        path.write_text(json.dumps(asdict(self), indent=1), "utf-8")
