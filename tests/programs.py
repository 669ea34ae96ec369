"""A program as a process under the test's control, and what it prints, line by line."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import DEADLINE_S


class Program:
    """A program that runs, and what it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """Wait for the next line that it prints; fails when it ends instead."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            printed = await self._process.stdout.readline()
        if not printed:
            pytest.fail(f"the program ended with {await self._process.wait()}")
        return printed.decode().rstrip("\n")

    async def says(self, member: str) -> Any:
        """Wait for the next line of JSON with a member, and return what it holds."""
        while member not in (line := json.loads(await self.line())):
            pass
        return line[member]

    async def rest(self) -> list[str]:
        """Wait for its end, and return all that it printed and nobody has read."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            return (await self._process.stdout.read()).decode().splitlines()

    async def ends(self, number: signal.Signals | None = None) -> int:
        """Send it a signal, if any, and wait for its end; the exit code."""
        if number is not None:
            self._process.send_signal(number)
        async with asyncio.timeout(DEADLINE_S):
            return await self._process.wait()

    def kill(self) -> None:
        """Take it away with all that it started, as a power cut does."""
        os.killpg(self._process.pid, signal.SIGKILL)


@asynccontextmanager
async def running(*arguments: str | Path, **env: str | Path) -> AsyncIterator[Program]:
    """Run a program in a process group of its own, with nothing of this environment but its PATH."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={"PATH": os.environ["PATH"], **env},
    )
    program = Program(process)
    try:
        yield program
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it has ended a moment ago, and asyncio does not say so yet
                program.kill()
        await process.communicate()
