"""``setpointd dev``: everything on this machine, made ready for trying out. Nothing of it is left running at the end.

The daemon runs in this process, its broker in a child. One thread accompanies the two: it tells the user when the
daemon is ready, and stops the daemon when the broker is gone.
"""

import contextlib
import errno
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import click

from setpoint_contracts import Role, Token, Topics
from setpoint_contracts.tokens import TokenFileError
from setpointd import app
from setpointd.errors import OperatorError
from setpointd.operator import mosquitto
from setpointd.operator.init import ADMIN_TOKEN, make_store
from setpointd.operator.shipped import shipped
from setpointd.operator.tokens import issue, new_kid
from setpointd.settings import Settings
from setpointd.store.files import DATABASE

_POLL_S = 0.05
_PROBE_TIMEOUT_S = 2.0


@click.command("dev")
@click.option("--port", type=click.IntRange(0, 65535), default=1883, show_default=True, help="The broker's port.")
@click.option("--http", default="127.0.0.1:8765", show_default=True, help="HOST:PORT for health and metrics.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(".setpoint"),
    show_default=True,
    help="Directory for store, token and the broker's files; made if it is not there.",
)
def command(port: int, http: str, data_dir: Path) -> int:
    """Try Setpoint out: a private broker and the daemon, until Ctrl-C.

    Starts a Mosquitto that listens on 127.0.0.1 only, makes a store and an admin token if there is none, runs the
    daemon, and prints two commands to paste into another terminal. Port 0 takes a free port. The settings of
    `setpointd run`, but for those of the broker and its topics, may be given as SETPOINT_… variables.
    """
    program = mosquitto.find()
    settings = _settings(data_dir.absolute(), _free_port(mosquitto.HOST, port, "--port"), http)
    welcome = _welcome(settings, _prepare(settings.data_dir))
    # Until the daemon listens for them there is nothing to finish: exit at once, and the kernel ends the broker. An
    # exception out of a signal handler could come while a lock is held that the daemon waits for ever after.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    with mosquitto.running(program, settings.data_dir / "mosquitto", settings.broker_port) as broker:
        return _run(settings, broker, welcome)


def _settings(data_dir: Path, port: int, http: str) -> Settings:
    own = {"data_dir": data_dir, "broker": f"mqtt://{mosquitto.HOST}:{port}", "http": http, "topic_prefix": ""}
    settings = Settings.load({**own, "broker_password": None, "broker_ca": None})
    http_port = _free_port(settings.http_host, settings.http_port, "--http")
    return settings.model_copy(update={"http": f"{http.rpartition(':')[0]}:{http_port}"})


def _free_port(host: str, port: int, option: str) -> int:
    """Check that a port can be listened on, or choose one for 0; raises ``OperatorError``."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise OperatorError(f"cannot listen on {host} port {port}: {error.strerror}") from None
        hint = " (if it is the system's own Mosquitto: `sudo systemctl stop mosquitto`)" if option == "--port" else ""
        raise OperatorError(f"port {port} is taken: stop what has it{hint}, or choose another with {option}") from None


def _prepare(data_dir: Path) -> Path:
    """Make store and admin token unless they are there; returns the token's file."""
    token_file = data_dir / ADMIN_TOKEN
    if not (data_dir / DATABASE).exists():
        make_store(data_dir, token_file)
    elif not token_file.exists():
        issue(data_dir, Token.new("HS256", new_kid(), "admin", Role.ADMIN), token_file)
    return token_file


def _run(settings: Settings, broker: subprocess.Popen[bytes], welcome: str) -> int:
    stopping = threading.Event()
    accompany = partial(_accompany, settings, broker, welcome, stopping)
    threading.Thread(target=accompany, name="companion", daemon=True).start()
    try:
        return app.main(settings)
    finally:
        stopping.set()
        if broker.poll() is not None:
            log = settings.data_dir / "mosquitto" / "mosquitto.log"
            raise OperatorError(f"mosquitto has ended (exit code {broker.returncode}): see {log}")


def _accompany(settings: Settings, broker: subprocess.Popen[bytes], welcome: str, stopping: threading.Event) -> None:
    while broker.poll() is None and not _is_ready(settings):
        time.sleep(_POLL_S)
    if broker.poll() is None:
        with contextlib.suppress(OSError):  # nobody reads it: `setpointd dev | head`
            click.echo(welcome)
        broker.wait()
    if not stopping.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _is_ready(settings: Settings) -> bool:
    connection = HTTPConnection(settings.http_host, settings.http_port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _welcome(settings: Settings, token_file: Path) -> str:
    try:
        principal = Token.load(token_file).name
    except TokenFileError as error:
        raise OperatorError(f"{token_file}: {error.args[0]}") from None
    missing = "" if shutil.which("mosquitto_rr") else " (needs `sudo apt install mosquitto-clients`)"
    return _WELCOME.format(
        broker=settings.broker,
        http=settings.http,
        token=token_file,
        missing=missing,
        python=_python_command(settings, token_file, principal),
        shell=_shell_command(settings, token_file, principal),
    )


_WELCOME = """\
Setpoint is ready; Ctrl-C ends it.

  broker  {broker} (Mosquitto, for this machine only)
  HTTP    http://{http}/health
  token   {token}

Paste into another terminal{missing}. A first config, written with Setpoint's Python:

{python}

What the daemon says of itself, asked with openssl and Mosquitto's clients alone:

{shell}
"""


def _ask(settings: Settings, command: str, principal: str) -> str:
    """Return the start of a `mosquitto_rr` command line; what is missing is the message."""
    topics = Topics(settings.topic_prefix)
    # A reply topic of each shell's own: mosquitto_rr shows whatever comes there, be it the reply to another request.
    return (
        f"mosquitto_rr -h {settings.broker_host} -p {settings.broker_port} -q 1 -W 5"
        f" -t {topics.command(command)} -e {topics.reply(principal, 'dev-$$')} -m"
    )


def _python_command(settings: Settings, token_file: Path, principal: str) -> str:
    program = (
        "import sys, setpoint_contracts as s; "
        'params = {"service": "demo", "config": {"volume": 7}}; '
        'print(s.sign_command(s.Token.load(sys.argv[1]), "set", params))'
    )
    sign = shlex.join([sys.executable, "-c", program, str(token_file)])
    return f'{_ask(settings, "set", principal)} "$({sign})"'


def _shell_command(settings: Settings, token_file: Path, principal: str) -> str:
    ask, topic = _ask(settings, "info", principal), Topics(settings.topic_prefix).command("info")
    return f'(\n{_sign_function()}\n  TOKEN={shlex.quote(str(token_file))}\n  {ask} "$(sign {topic})"\n)'


def _sign_function() -> str:
    """Return the shell function that signs, as contracts/shell.md has it."""
    page = shipped("contracts/shell.md")
    start = page.index("sign() (")
    function = page[start : page.index("\n)\n", start) + 2]
    return "\n".join(f"  {line}" for line in function.splitlines())
