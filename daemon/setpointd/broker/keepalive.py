"""Whether the broker still lives, judged at every tick of half a keep-alive. At every tick it is pinged.

Rules:

- Whatever arrives is a sign of life. After a ping, a whole keep-alive without one is the end: so a broker that is
  stopped, or a connection of which only our half is left, is noticed within twice the keep-alive.
- While the broker blocks us, nothing is read; then it is a sign of life that it takes something.
- While the application reads nothing, nothing can be judged.
"""

_SILENT_TICKS = 2


class KeepAlive:
    """What is known of the life of one connection."""

    def __init__(self) -> None:
        self._silent = 0
        self._taken: int | None = None

    def heard(self) -> None:
        """Note that something arrived."""
        self._silent = 0

    def lives(self, *, deaf: bool, taken: int | None) -> bool:
        """Judge at a tick. ``deaf``: nothing is read; ``taken``: bytes that a broker that blocks us took so far."""
        before, self._taken = self._taken, taken
        moves = before is not None and taken is not None and taken > before
        self._silent = 0 if deaf or moves else self._silent + 1
        return self._silent <= _SILENT_TICKS
