"""Waiting for a condition, with a deadline; a slow machine needs longer, a broken daemon fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 20.0
_PAUSE_S = 0.02


def until(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Ask again and again until the answer is true in the sense of Python, and return it; fails at the deadline."""
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, f"still not so after {deadline_s} s: {what}"
        time.sleep(_PAUSE_S)
    return found


async def eventually(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Do the same as ``until`` without holding the event loop up."""
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, f"still not so after {deadline_s} s: {what}"
        await asyncio.sleep(_PAUSE_S)
    return found


async def soon(work: Awaitable[T], deadline_s: float = DEADLINE_S) -> T:
    """Wait for something that must come; ``TimeoutError`` at the deadline."""
    async with asyncio.timeout(deadline_s):
        return await work
