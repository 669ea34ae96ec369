"""How often something may happen: a token bucket, and one for each of several keys."""

import threading
from collections.abc import Callable
from functools import partial


class Allowance:
    """Lets ``burst`` through at once and ``per_second`` after that; counts what it held back."""

    def __init__(self, *, burst: int, per_second: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._level = float(burst)
        self._last = clock()
        self._held_back = 0

    def take(self) -> int | None:
        """Ask for one: how many were held back since the last one let through, or None when this one is held back."""
        now = self._clock()
        self._level = min(self._burst, self._level + max(0.0, now - self._last) * self._per_second)
        self._last = now
        if self._level < 1:
            self._held_back += 1
            return None
        self._level -= 1
        held_back, self._held_back = self._held_back, 0
        return held_back

    def wait_s(self) -> float:
        """For how many seconds the next one would be held back, as it was when ``take`` was last called."""
        return max(0.0, 1 - self._level) / self._per_second


class Allowances:
    """An ``Allowance`` for each key; of the ``most`` that asked last, so that there are never more. Thread-safe."""

    def __init__(self, *, most: int, burst: int, per_second: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._new = partial(Allowance, burst=burst, per_second=per_second, clock=clock)
        self._by_key: dict[str, Allowance] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> int | None:
        """Ask for one, as of that key's own allowance."""
        with self._lock:
            allowance = self._by_key.pop(key, None) or self._new()
            self._by_key[key] = allowance
            if len(self._by_key) > self._most:
                del self._by_key[next(iter(self._by_key))]
            return allowance.take()
