"""What a handler may use beside its command and the store. No clock, no chance and no network: ``app`` puts them in."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from setpoint_contracts import Permission, Token, seal_for
from setpoint_contracts.applied import AppliedReport
from setpoint_contracts.keys import Secret
from setpoint_contracts.signing import VerifyingKey
from setpoint_contracts.system import Limits
from setpointd.auth import Principal, check_right, check_rights
from setpointd.keys import Keys
from setpointd.records import Sighting
from setpointd.runtime import Runtime
from setpointd.schema import Schemas


@dataclass(frozen=True, slots=True)
class Daemon:
    """What the daemon lends to its handlers, made once in ``app``.

    ``fresh_id`` gives a random id, ``fresh_secret`` 32 random bytes, ``sighting`` what the broker showed of this store.
    ``activate`` makes this daemon the writer, ``learn`` has it go by tokens as these rows of the store have them.
    ``applied`` lists what the instances of a service, or of all, report. ``schemas`` are those that are compiled (for
    writes only, of which there is one at a time).
    """

    runtime: Runtime
    keys: Keys
    fresh_id: Callable[[], str]
    fresh_secret: Callable[[], bytes]
    sighting: Callable[[], Sighting]
    activate: Callable[[], None]
    learn: Callable[[Iterable[dict[str, Any]]], None]
    applied: Callable[[str | None], Iterable[AppliedReport]]
    schemas: Schemas = field(default_factory=Schemas)


@dataclass(slots=True)
class Call:
    """One command on its way: who asks, and when (``at`` is ``now``, POSIX seconds, as the wire writes it).

    ``key`` is the one that it was signed with.
    """

    command: str
    who: Principal
    key: VerifyingKey
    now: float
    at: str
    daemon: Daemon
    _after: list[Callable[[], None]] = field(default_factory=list)

    @property
    def limits(self) -> Limits:
        """What the daemon takes at most."""
        return self.daemon.runtime.limits

    def needs(self, permission: Permission, service: str) -> None:
        """Refuse it unless the caller has a permission for a service; for what parameters alone do not tell."""
        check_right(self.who, self.command, permission, service)

    def needs_all(self, permission: Permission, services: Collection[str]) -> None:
        """Refuse it unless the caller has a permission for all of some services, which it need not know of."""
        check_rights(self.who, self.command, permission, services)

    def fresh_kid(self) -> str:
        """Make up a token id."""
        return f"tok_{self.daemon.fresh_id()}"

    def fresh_secret(self) -> bytes:
        """Make up the secret of an HS256 token."""
        return self.daemon.fresh_secret()

    def seal_for_caller(self, info: str, plaintext: bytes) -> str | None:
        """Encrypt something so that only the caller can read it; None: its token has no secret for that, as Ed25519."""
        return seal_for(self.key.key, info, plaintext) if isinstance(self.key.key, Secret) else None

    def seal(self, token: Token) -> str:
        """Return what the store keeps of a token's key."""
        return self.daemon.keys.store_form(token)

    def restore(self, row: dict[str, Any]) -> Token:
        """Make the token of a row of the store."""
        return self.daemon.keys.restore(row)

    def learn(self, *rows: dict[str, Any]) -> None:
        """Have the daemon go by tokens as these rows have them, once this command is committed, before its answer."""
        self.after_commit(partial(self.daemon.learn, rows))

    def sighting(self) -> Sighting:
        """Return the highest of this store that the broker showed, with a signature of its own key."""
        return self.daemon.sighting()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Have something done on the event loop once this command is committed, before it is answered."""
        self._after.append(action)

    def committed(self) -> None:
        """Do what was put off until the commit."""
        for action in self._after:
            action()

    def undone(self) -> None:
        """Forget it: nothing of this command is committed."""
        self._after.clear()
