"""A broker and a daemon of one's own, for the tests of a service."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from setpoint.client import Client
from setpoint.errors import ConfigurationError
from setpoint.sync import Client as SyncClient
from setpoint_contracts import Token

_START_S = 30.0
_END_S = 10.0
_BROKER = re.compile(r"^\s+broker\s+(mqtt://\S+)", re.MULTILINE)


class Server:
    """A broker and a daemon that run, for this machine only.

    ``url`` is the broker's, ``token_path`` the file of an admin's token, ``directory`` what both of them keep.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory
        self.token_path = directory / "admin.jwk"

    def client(self, token: Any = None, **more: Any) -> Client:
        """Make a client, as an admin unless another token is given, with a cache of its own."""
        return Client(self.url, token or self.token_path, **self._with_cache(more))

    def sync_client(self, token: Any = None, **more: Any) -> SyncClient:
        """Make a client without asyncio, as ``client``."""
        return SyncClient(self.url, token or self.token_path, **self._with_cache(more))

    def new_token(self, name: str, role: str, **more: Any) -> Token:
        """Make a token for a principal; ``more`` as of ``Client.token_create``, e.g. ``services``."""
        with self.sync_client() as admin:
            return admin.open_token(admin.token_create(name, role, **more))

    def _with_cache(self, more: dict[str, Any]) -> dict[str, Any]:
        return {"cache_dir": tempfile.mkdtemp(prefix="cache-", dir=self.directory), **more}


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Run a private Mosquitto and ``setpointd`` with an empty store; they end with the ``with``.

    Needs the extra ``daemon`` and Mosquitto on this machine; raises ``ConfigurationError`` otherwise.
    """
    program = _program()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SETPOINT_")}
    with tempfile.TemporaryDirectory(prefix="setpoint-") as made:
        directory, log_file = Path(made) / "server", Path(made) / "setpointd.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the installed command
                [program, "dev", "--port", "0", "--http", "127.0.0.1:0", "--data-dir", directory],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            yield Server(_address(process, log_file), directory)
        finally:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _program() -> str:
    found = shutil.which("setpointd", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise ConfigurationError("there is no setpointd here: install the extra, `pip install 'setpoint[daemon]'`")
    return found


def _address(process: subprocess.Popen[bytes], log_file: Path) -> str:
    """Read where the broker is, once all is ready."""
    watchdog = threading.Timer(_START_S, process.kill)
    watchdog.start()
    text = ""
    try:
        for line in process.stdout or ():
            text += line.decode()
            if match := _BROKER.search(text):
                return match.group(1)
    finally:
        watchdog.cancel()
    said = log_file.read_text("utf-8", "replace").strip().splitlines()
    raise ConfigurationError(f"setpointd did not start: {said[-1] if said else 'it said nothing'}")
