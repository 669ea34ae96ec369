"""What the jobs of a transaction share: what was read once of what nobody else can change until it ends."""

from dataclasses import dataclass, field

from setpointd.records import Identity, Stamp
from setpointd.store.chain import Link


@dataclass(slots=True)
class Known:
    """Shared by the nouns of a ``Tx``. None: not read yet, or forgotten because something was undone.

    ``stamp`` is that of the job which runs. ``identity`` is that of the store, ``event`` the last of the audit log,
    ``changed_at`` a time that is not before that of the last entry of the history, ``ends`` when tokens end: kid →
    ``revoked_at`` and ``expires_at``.
    """

    stamp: Stamp
    identity: Identity | None = None
    event: Link | None = None
    changed_at: str | None = None
    ends: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)

    def forget(self) -> None:
        """Read all of it again: what was written may have been undone."""
        self.identity = self.event = self.changed_at = None
        self.ends.clear()
