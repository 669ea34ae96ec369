"""The installed `setpoint`, as a person or a script runs it: in a pipe, or on a terminal of a given width."""

import fcntl
import os
import pty
import re
import secrets
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.daemon import Daemon
from tests.waiting import DEADLINE_S, until

SETPOINT = Path(sys.executable).with_name("setpoint")
Done = subprocess.CompletedProcess[str]


class Setpoint:
    """Runs `setpoint` for a daemon, as its admin, with a home of its own; settings of the caller do not reach it."""

    def __init__(self, daemon: Daemon | None, home: Path, **env: str) -> None:
        self.home = home
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            **env,
        }
        if daemon is not None:
            self.env |= {
                "SETPOINT_BROKER_URL": f"mqtt://{daemon.host}:{daemon.port}",
                "SETPOINT_TOPIC_PREFIX": daemon.prefix,
                "SETPOINT_TOKEN": str(daemon.token_path),
            }

    def __call__(self, *arguments: object, stdin: str | bytes | None = None, **env: str) -> Done:
        """Run it to its end, its output in pipes."""
        done = subprocess.run(
            [SETPOINT, *map(str, arguments)],
            env=self.env | env,
            cwd=self.home,
            input=stdin.encode() if isinstance(stdin, str) else stdin or b"",
            capture_output=True,
            timeout=2 * DEADLINE_S,
            check=False,
        )
        found = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in found.stderr, found.stderr
        return found

    def ok(self, *arguments: object, **more: Any) -> str:
        """Run what must go well; its standard output."""
        done = self(*arguments, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, code: int, *arguments: object, **more: Any) -> str:
        """Run what must end with an exit code, and without a word on standard output; its standard error."""
        done = self(*arguments, **more)
        assert (done.returncode, done.stdout) == (code, ""), done
        return done.stderr

    def start(self, *arguments: object, **env: str) -> "subprocess.Popen[str]":
        """Start it in a process group of its own, its output in pipes."""
        # Who runs the tests in the background may have SIGINT ignored, and a process begins with what it is given.
        return subprocess.Popen(
            ["env", "--default-signal=INT", SETPOINT, *map(str, arguments)],
            env=self.env | env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def shell(self, script: str, deadline_s: float = 2 * DEADLINE_S, **env: str) -> Done:
        """Run a script in which `setpoint` is on the path."""
        path = f"{SETPOINT.parent}:{self.env['PATH']}"
        return subprocess.run(
            ["bash", "-c", script],
            env={**self.env, "PATH": path, **env},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )

    def on_terminal(self, *arguments: object, columns: int = 80, **env: str) -> "Screen":
        """Run it on a terminal to its end; what it wrote there."""
        with Terminal(self, *arguments, columns=columns, **env) as terminal:
            return terminal.read_to_end()

    def editor(self, script: str) -> str:
        """Make an editor of a shell script that finds the file in $1; the command that runs it."""
        path = self.home / f"editor-{secrets.token_hex(4)}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        path.chmod(0o700)
        return shlex.quote(str(path))


@dataclass
class Screen:
    """What came on a terminal, its line ends as in a file, and the exit code."""

    text: str
    code: int

    @property
    def lines(self) -> list[str]:
        """The lines without what colours them."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text).split("\n")

    @property
    def colours(self) -> set[str]:
        """All that is said to the terminal beside text."""
        return set(re.findall(r"\x1b\[[0-9;?]*[A-Za-z]", self.text))


class Terminal:
    """A pseudo-terminal with `setpoint` on it."""

    def __init__(self, setpoint: Setpoint, *arguments: object, columns: int = 80, **env: str) -> None:
        self._command = [str(SETPOINT), *map(str, arguments)]
        self._env = {**setpoint.env, "TERM": "xterm-256color", **env}
        self._home = setpoint.home
        self._columns = columns
        self._process: subprocess.Popen[bytes] | None = None
        self._fd = -1
        self.text = ""

    def __enter__(self) -> Self:
        self._fd, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, self._columns, 0, 0))
        # setsid makes the terminal the controlling one of the process, so that Ctrl-C on it is a signal.
        command = ["env", "--default-signal=INT", "setsid", "--ctty", "--wait", *self._command]
        self._process = subprocess.Popen(
            command, env=self._env, cwd=self._home, stdin=other, stdout=other, stderr=other, start_new_session=True
        )
        os.close(other)
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._fd)
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(DEADLINE_S)

    def type(self, keys: str) -> None:
        """Type on it; Ctrl-C is the character 3."""
        os.write(self._fd, keys.encode())

    def read_until(self, text: str) -> None:
        """Read until a text has come."""
        until(lambda: self._read() and text in self.text, f"{text!r} on the terminal")

    def read_to_end(self) -> Screen:
        """Read until it ends."""
        end = time.monotonic() + DEADLINE_S
        while self._read():
            assert time.monotonic() < end, self.text
        assert self._process is not None
        assert "Traceback" not in self.text
        return Screen(self.text.replace("\r\n", "\n"), self._process.wait(DEADLINE_S))

    def _read(self) -> bool:
        """Read what has come; False at the end."""
        if not select.select([self._fd], [], [], 0.05)[0]:
            return True
        try:
            data = os.read(self._fd, 65_536)
        except OSError:  # EIO: nobody has the other side any more
            return False
        self.text += data.decode(errors="replace")
        return bool(data)
