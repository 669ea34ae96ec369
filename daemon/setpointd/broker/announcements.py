"""What the daemon says of itself on the broker: documents that are made here and signed with its own key."""

from collections.abc import Callable

from setpoint_contracts import Topics, strictjson
from setpoint_contracts.timestamps import rfc3339
from setpointd.keys import Keys
from setpointd.messages import Outbound
from setpointd.records import Identity
from setpointd.runtime import Runtime


class Announcements:
    """Makes the daemon's own announcements. ``clock`` gives POSIX seconds."""

    def __init__(self, keys: Keys, topics: Topics, runtime: Runtime, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._topics = topics
        self._runtime = runtime
        self._clock = clock
        self._since = rfc3339(clock())
        self._last = 0.0

    def keys(self) -> Outbound:
        """The public signing keys."""
        return self._keys.signed(self._topics.keys, self._keys.public_jwks(), retain=True)

    def claim(self, own: Identity) -> Outbound:
        """The writer's claim (wire section 7)."""
        claim = {"store_id": own.store_id, "epoch": own.epoch, "revision": own.revision}
        payload = {**claim, "instance": self._runtime.instance, "since": self._since}
        return self._keys.signed(self._topics.epoch, strictjson.dumps(payload).encode(), retain=True)

    def health(self, own: Identity, *, ok: bool, event: str) -> Outbound:
        """How the daemon does (wire section 6); as the Last Will, its time is that of the connection.

        The time of each is later than that of the one before, also when the clock was set back: it is a proof of life.
        """
        self._last = max(self._clock(), self._last + 0.001)
        payload = {
            "ok": ok,
            "event": event,
            "timestamp": rfc3339(self._last),
            "instance": self._runtime.instance,
            "epoch": own.epoch,
            "version": self._runtime.version,
            "mode": self._runtime.mode,
        }
        return self._keys.signed(self._topics.health, strictjson.dumps(payload).encode(), retain=True)
