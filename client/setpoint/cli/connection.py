"""From the options to a client, and what becomes of a command: answered, or printed as a mosquitto_rr line.

Nothing is imported for this before a command wants to be sent.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from setpoint.cli.contexts import Target, target
from setpoint.cli.exits import Asked, Failed, complain, exit_code, told
from setpoint.cli.options import Options
from setpoint.cli.output import is_terminal

if TYPE_CHECKING:
    from setpoint import Client, SetpointError
    from setpoint.settings import Settings
    from setpoint_contracts import Token

T = TypeVar("T")
Params = Mapping[str, Any]
Json = dict[str, Any]

PRINTED_LIFETIME_S = 60.0
_PATIENCE_S = 1.0


class Refused(Failed):
    """A command that was refused, or was not answered: the library's error, told for people, ``before`` it."""

    def __init__(self, error: "SetpointError", asked: Asked | None = None, *, before: str = "") -> None:
        message, todo = told(error.code, error.message, error.details, asked)
        super().__init__(before + message, todo, exit_code(error.code))
        self.error = error
        self.code = error.code
        self.details: Mapping[str, Any] = error.details


class Session:
    """A client that is open; with ``--print-mqtt`` none: then the first command is printed, and that is all."""

    def __init__(self, options: Options, client: "Client | None") -> None:
        self.options = options
        self._client = client
        self.refused: Asked | None = None
        """The last command that was refused, and what it was given."""

    @property
    def is_printing(self) -> bool:
        """Whether the command is only to be printed: then nothing is asked for it beforehand."""
        return self._client is None

    @property
    def client(self) -> "Client":
        """The library's client."""
        if self._client is None:
            raise Failed("--print-mqtt is for commands that are one request", "leave it out")
        return self._client

    async def call(self, command: str, params: Params | None = None, *, timeout: float | None = None) -> Json:
        """Send any command; its result. Members of ``params`` that are None are left out."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        if self._client is None:
            print_mqtt(self.options, command, given)
            raise click.exceptions.Exit(0)
        if self._client.principal is None:
            raise no_token()
        from setpoint.errors import SetpointError

        try:
            return await self._client.call(command, given, timeout=timeout)
        except SetpointError:
            self.refused = command, given
            raise

    async def pages(self, command: str, params: Params, members: str, cursor: str, most: int | None) -> list[Any]:
        """Gather what a command gives page by page, at most so many; None: all."""
        found: list[Any] = []
        after: Any = None
        while most is None or len(found) < most:
            left = 1000 if most is None else min(most - len(found), 1000)
            page = await self.call(command, {**params, "limit": left, cursor: after})
            found += page[members]
            if (after := page["next"]) is None:
                break
        return found


def run(options: Options, work: Callable[[Session], Coroutine[Any, Any, T]], *, patient: bool = False) -> T:
    """Open a client, do the work with it, and close it. Raises ``Refused``, ``Failed`` or ``KeyboardInterrupt``.

    ``patient``: the work waits for a connection as long as it takes, and whoever runs it should know.
    """
    from setpoint.errors import SetpointError

    async def main() -> T:
        if options.print_mqtt:
            return await work(Session(options, None))
        async with _open(options, patient=patient) as session:
            try:
                return await work(session)
            except SetpointError as error:
                raise Refused(error, session.refused) from None

    try:
        return asyncio.run(main())
    except SetpointError as error:
        raise Refused(error) from None


def ask(options: Options, command: str, params: Params | None = None) -> Json:
    """Send one command; its result."""
    return run(options, lambda session: session.call(command, params))


@contextlib.asynccontextmanager
async def _open(options: Options, *, patient: bool) -> AsyncIterator[Session]:
    async with new_client(options) as client:
        if patient:
            _pass_on_warnings()
        limit_s = 0.0 if patient else options.timeout_s
        telling = asyncio.create_task(_tell_if_away(client, limit_s), name="tell if away")
        try:
            yield Session(options, client)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)


async def _tell_if_away(client: "Client", limit_s: float) -> None:
    """Tell somebody who waits at a terminal what for."""
    await asyncio.sleep(_PATIENCE_S)
    if limit_s > _PATIENCE_S and is_terminal(sys.stderr) and not client.is_connected:
        why = client._link.last_error or "it does not answer"  # noqa: SLF001 - the library's own part of this package
        click.echo(f"no connection to the broker yet ({why}); trying for {limit_s:g} s", err=True)


class _Warnings(logging.Handler):
    """Says on standard error what the library warns of: whoever waits for documents should know why none come."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning."""
        complain(record.getMessage())


def _pass_on_warnings() -> None:
    logger = logging.getLogger("setpoint")
    logger.setLevel(logging.WARNING)
    logger.addHandler(_Warnings())


def new_client(options: Options) -> "Client":
    """Make a client by the options, the context and the environment. Raises ``Failed`` or ``SetpointError``."""
    from setpoint.client import Client
    from setpoint.settings import tls_context

    logging.getLogger("setpoint").setLevel(logging.CRITICAL)  # what goes wrong is in the errors
    found = target(options)
    tls = None
    if (found.ca or found.cert) and (found.broker or "").startswith(("mqtts://", "wss://")):
        tls = tls_context(found.ca, found.cert, found.key)
    token = None if found.token is None else os.path.expanduser(found.token)  # noqa: PTH111 - as a shell would
    return Client(found.broker, token, topic_prefix=found.prefix, timeout=options.timeout_s, tls=tls)


def settings_of(options: Options) -> "tuple[Target, Settings]":
    """Return what a client would go by, without opening one."""
    from setpoint.errors import SetpointError

    try:
        return target(options), new_client(options)._settings  # noqa: SLF001 - the library's own part of this package
    except SetpointError as error:
        raise Refused(error) from None


def signer(options: Options) -> "tuple[Target, Settings, Token]":
    """Return what is needed to sign a command without sending it."""
    found, settings = settings_of(options)
    if settings.token is None:
        raise no_token()
    return found, settings, settings.token


def no_token() -> Failed:
    """Make the error of a command that nobody can sign."""
    return Failed("a command is signed with a token, and none is given", NO_TOKEN)


NO_TOKEN = "give its file with --token, SETPOINT_TOKEN or `setpoint context add`"  # noqa: S105 - words


def print_mqtt(options: Options, command: str, params: Params) -> None:
    """Print the line for a shell that sends a command with mosquitto_rr and prints the reply."""
    from setpoint_contracts import sign_command

    found, settings, token = signer(options)
    broker, topics = settings.broker, settings.topics
    if broker.transport != "tcp":
        raise Failed("mosquitto_rr does not speak WebSocket", "give a --broker that begins with mqtt:// or mqtts://")
    reply_topic = topics.reply(token.name, secrets.token_hex(8))
    signed = sign_command(
        token, command, dict(params), topics=topics, reply_to=reply_topic, lifetime_s=PRINTED_LIFETIME_S
    )
    words = ["mosquitto_rr", "-V", "5", "-h", broker.host, "-p", str(broker.port), *_tls_words(found, settings)]
    if broker.user:
        words += ["-u", broker.user]
    line = shlex.join(words) + (' -P "$MQTT_PASSWORD"' if broker.password else "")
    rest = ["-q", "1", "-t", topics.command(command), "-e", reply_topic, "-W", f"{max(options.timeout_s, 1):.0f}"]
    # With -m: version 2.0 sends an empty message with -s and -f (contracts/shell.md).
    click.echo(f"{line} {shlex.join([*rest, '-m', signed])}")


def _tls_words(found: Target, settings: "Settings") -> list[str]:
    if settings.broker.tls is None:
        return []
    files = [("--cafile", found.ca), ("--cert", found.cert), ("--key", found.key)]
    words = [word for option, file in files if file for word in (option, file)]
    return words if found.ca else ["--tls-use-os-certs", *words]


async def all_or_none(awaitable: Awaitable[T], *codes: str) -> T | None:
    """Wait for an answer; None when it is an error of one of these codes."""
    from setpoint.errors import SetpointError

    try:
        return await awaitable
    except SetpointError as error:
        if error.code not in codes:
            raise
        return None
