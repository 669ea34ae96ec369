"""The client over MQTT: what a Pi service holds, and what the command line stands on."""

import asyncio
import contextlib
import logging
import os
import re
import ssl
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from setpoint.binding import Binding
from setpoint.cache import Cache
from setpoint.commands import Commands
from setpoint.errors import ConfigurationError, NotApplied, TooLarge, Unreachable, error_of
from setpoint.following import Following
from setpoint.link import Link, Received
from setpoint.live import Live
from setpoint.params import Params
from setpoint.patterns import check_service
from setpoint.reporting import Reporter
from setpoint.requests import Requests
from setpoint.revealing import Secrets
from setpoint.settings import DEFAULT_TIMEOUT_S, Keys, settle
from setpoint.signed import SignedCommand
from setpoint.updating import Change, update
from setpoint.watching import Watch
from setpoint_contracts import Token, open_sealed, strictjson, verify_detached
from setpoint_contracts.access import NewToken
from setpoint_contracts.applied import ReportedInstance
from setpoint_contracts.config import GetResult, WriteResult
from setpoint_contracts.sealing import SECRETS_INFO, TOKEN_INFO, NotSealedError
from setpoint_contracts.signing import VerifyingKey

logger = logging.getLogger("setpoint")

_COMMAND_NAME = re.compile(r"[a-z0-9_-]{1,64}(/[a-z0-9_-]{1,64})?")
_DEFAULT_MAX_BYTES = 262_144  # max_command_bytes (wire section 2), unless an operator has made it another
_PACKET_HEAD = 16  # of a PUBLISH at most, beside topic and payload, without properties (MQTT 5, section 3.3)
_POLL_S = 0.25

M = TypeVar("M", bound=BaseModel)
Config = dict[str, Any]


class Client(Commands):
    """A connection to a Setpoint daemon through its broker, for as long as ``async with`` holds it.

    It does not fail when the broker is down: it goes on trying. ``bind`` then gives the last known good config, and a
    command raises ``Unreachable`` in time. One client serves many tasks at once.

    :param url: ``mqtt[s]://`` or ``ws[s]://[user[:password]@]host[:port][/path]``; else ``SETPOINT_BROKER_URL``, else
        ``mqtt://127.0.0.1:1883``. A certificate is checked with the system's authorities, or with the PEM file that
        ``SETPOINT_BROKER_CA`` names; ``SETPOINT_BROKER_CERT`` and ``SETPOINT_BROKER_KEY`` are the client's own.
    :param token: a token, or the path of its file; else the path in ``SETPOINT_TOKEN``. Without one a client follows
        configs, but sends no command.
    :param cache_dir: where the last known good documents and the pinned key are kept; else ``SETPOINT_CACHE_DIR``, else
        systemd's ``STATE_DIRECTORY``, else ``$XDG_STATE_HOME/setpoint``.
    :param instance: the name under which applied reports are made; else ``SETPOINT_INSTANCE``, else the host's name.
    :param keys: the daemon's public keys (a JWK, a JWK Set or the path of one); else ``SETPOINT_KEYS``; else the key
        that is seen first is pinned and kept.
    :param topic_prefix: stands before every topic, e.g. ``site1/``; else ``SETPOINT_TOPIC_PREFIX``.
    :param timeout: for how many seconds a command waits for its answer, unless told otherwise.
    :param tls: a TLS context of your own for ``mqtts`` and ``wss``.
    :param queue_offline: a command that finds no connection waits for one without a limit, in memory; its timeout
        begins when it is sent.

    Raises ``ConfigurationError`` when one of these cannot be.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        url: str | None = None,
        token: str | os.PathLike[str] | Token | None = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        instance: str | None = None,
        keys: Keys | None = None,
        topic_prefix: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
        queue_offline: bool = False,
    ) -> None:
        self._settings = settle(
            url, token, cache_dir=cache_dir, instance=instance, keys=keys, topic_prefix=topic_prefix, tls=tls
        )
        token = self._settings.token
        self._secret = VerifyingKey("HS256", token.signing_key()) if token and token.alg == "HS256" else None
        self.timeout = timeout
        self._queue_offline = queue_offline
        self._max_bytes = _DEFAULT_MAX_BYTES
        self._link: Link
        self._requests: Requests | None = None
        self._following: Following
        self._reporter: Reporter
        self._running: asyncio.Task[None] | None = None

    # Its life

    async def __aenter__(self) -> Self:
        if self._running is not None:
            raise ConfigurationError("this client is open already; make another one")
        self._link = Link(self._settings.broker)
        if self._settings.token is not None:
            self._requests = Requests(self._link, self._settings.token, self._settings.topics, self._verify_reply)
            await self._link.subscribe(self._requests.reply_topic)
        await self._begin_to_follow()
        self._running = asyncio.create_task(self._link.run(), name="setpoint link")
        self._running.add_done_callback(_tell_of_fault)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        if self._requests is not None:
            self._requests.close()
        try:
            await self._following.close()
            await self._link.close()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the broker at this moment."""
        return self._running is not None and self._link.is_connected

    @property
    def principal(self) -> str | None:
        """The name that its token speaks for; None without a token."""
        return self._settings.token.name if self._settings.token else None

    # Commands

    async def call(self, command: str, params: Params | None = None, *, timeout: float | None = None) -> Config:
        """Send any command by its name; the ``result`` of its reply. Raises the ``SetpointError`` of its code.

        ``timeout`` is in seconds. Whatever is lost on the way, the command takes effect once at most.
        """
        requests, given = self._opened(), self.timeout if timeout is None else timeout
        if not _COMMAND_NAME.fullmatch(command):
            raise ConfigurationError(f"no command is called {command!r}: a name is set, or profile/save")
        deadline = asyncio.get_running_loop().time() + given
        await self._wait_for_connection(command, deadline)
        signed = _sign(requests, command, params, given)
        if len(signed.payload) > self._max_bytes:
            await self._check_size(signed, self._left(deadline, given))
        self._check_packet(signed)
        return _result(await requests.ask(signed, self._left(deadline, given)))

    async def resend(self, command: SignedCommand, *, timeout: float | None = None) -> Config:
        """Send a command's same bytes again, e.g. of ``Unreachable.command``; it takes effect once at most.

        Another client may have signed it, with the same token; with Ed25519 tokens, with one of the same principal.
        """
        requests, given = self._opened(), self.timeout if timeout is None else timeout
        deadline = asyncio.get_running_loop().time() + given
        await self._wait_for_connection(command.name, deadline)
        async with requests.listening_on(command.reply_topic):
            return _result(await requests.ask(command, self._left(deadline, given)))

    async def update(
        self,
        service: str,
        change: Change,
        *,
        reason: str | None = None,
        attempts: int = 10,
        timeout: float | None = None,
    ) -> WriteResult:
        """Read a config, change it, and write it if nobody was faster; else again, at most ``attempts`` times.

        ``change`` gets a copy of the config (``{}`` where there is none), and returns the new one, or changes the copy
        and returns None. It may be called several times. Raises ``VersionConflict`` after the last attempt.
        """
        return await update(self, service, change, reason=reason, attempts=attempts, timeout=timeout)

    async def reveal(self, service: str, *, version: int | None = None, timeout: float | None = None) -> Config:
        """Read the values of a service's secrets: JSON Pointer into the config to value.

        Needs an HS256 token that may write the service: ``Forbidden`` or ``ConfigurationError`` otherwise.
        """
        found = await self._ask(GetResult, "get", timeout, service=service, version=version, reveal=True)
        opened = self._open(found.secrets_jwe, SECRETS_INFO) if found.secrets_jwe else b"{}"
        revealed: Config = strictjson.loads(opened)
        return revealed

    def open_token(self, made: NewToken) -> Token:
        """Open the HS256 token that ``token_create`` or ``token_rotate`` gave: what its file is to hold.

        Raises ``ConfigurationError`` when it was made for another token than this client's.
        """
        if made.token_jwe is None:
            raise ConfigurationError(f"{made.kid} is an {made.alg} token, whose private key only its owner has")
        return Token.parse(self._open(made.token_jwe, TOKEN_INFO))

    async def wait_applied(
        self, service: str, version: int, *, share: float = 1.0, timeout: float = 30.0
    ) -> list[ReportedInstance]:
        """Wait until instances of a service report that they run at least a version; returns what all reported.

        ``share`` is the part of the known instances that must (0 to 1; one at least). Raises ``NotApplied`` in time.
        """
        loop = asyncio.get_running_loop()
        deadline, instances = loop.time() + timeout, []
        while True:
            with contextlib.suppress(Unreachable):
                instances = (await self.applied(service, timeout=max(deadline - loop.time(), _POLL_S))).instances
            ready = [one for one in instances if one.status == "applied" and one.version >= version]
            if ready and len(ready) >= share * len(instances):
                return instances
            if loop.time() + _POLL_S >= deadline:
                text = (
                    f"{len(ready)} of {len(instances)} instances of {service} run version {version} after {timeout:g} s"
                )
                raise NotApplied(text, instances)
            await asyncio.sleep(_POLL_S)

    # Following

    async def bind(
        self,
        service: str,
        model: type[M],
        *,
        timeout: float = 5.0,
        defaults: M | None = None,
        report: bool = True,
    ) -> Live[M]:
        """Have the config of a service as an instance of its pydantic model, and follow it.

        Returns as soon as a live document is applied; after ``timeout`` seconds, or soon when there is no broker, what
        there is: the last known good one of the cache, else ``defaults``, else ``model()`` if it has all its defaults.
        Raises ``NoConfig`` when there is none of these after ``timeout``.

        ``report``: publish an applied report of each document that is applied or rejected, under the client's
        ``instance``, for ``applied`` and ``wait_applied``.

        Secrets of the config are asked for with the client's token, and stand in the value (as ``SecretStr`` where the
        model says so); ``Live.missing`` names those that it may not see.
        """
        check_service(service)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise ConfigurationError("a service is bound to a pydantic model, a class that is made of BaseModel")
        secrets = Secrets(service, self._settings.token, self._following_opened().call)
        reporter = self._reporter if report else None
        binding = Binding(self._following, service, model, defaults=defaults, secrets=secrets, reporter=reporter)
        return await binding.start(timeout)

    def watch(self, pattern: str) -> Watch:
        """Iterate over the documents of a service, or of all that a glob (``*``, ``?``, ``[…]``) matches.

        ``async for document in client.watch("stt")``: first the current ones, then each newer one, newest per service;
        it goes on over lost connections. Raises ``ConfigurationError`` for what is no name and no glob.
        """
        return Watch(self._following_opened(), pattern)

    # What these stand on

    async def _begin_to_follow(self) -> None:
        settings = self._settings
        cache = Cache(settings.cache_dir, settings.broker.host, settings.broker.port, settings.topics.prefix)
        call = None if settings.token is None else self.call
        self._following = Following(self._link, settings.topics, cache, settings.keys, call)
        if self._requests is not None:
            self._following.trust.on_pinned(self._requests.judge_again)
        self._reporter = Reporter(self._link, settings.topics, settings.instance)
        await self._following.open()

    def _following_opened(self) -> Following:
        if self._running is None:
            raise ConfigurationError("the client is not open: use it within `async with Client(…) as client:`")
        return self._following

    def _opened(self) -> Requests:
        if self._settings.token is None:
            text = "a command needs a token: Client(token=…) or SETPOINT_TOKEN, the path of a token file"
            raise ConfigurationError(text)
        if self._requests is None or self._running is None:
            raise ConfigurationError("the client is not open: use it within `async with Client(…) as client:`")
        return self._requests

    async def _wait_for_connection(self, command: str, deadline: float) -> None:
        if self._link.is_connected:
            return
        if self._queue_offline:
            await self._link.wait_connected()
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._link.wait_connected()
        except TimeoutError:
            why = self._link.last_error or "it does not answer"
            text = f"{command} was not sent: there is no connection to the broker {self._settings.broker} ({why})"
            raise Unreachable(text) from None

    def _left(self, deadline: float, given: float) -> float:
        """How long there is left; a command that may wait for a connection has its time from then on."""
        return given if self._queue_offline else max(deadline - asyncio.get_running_loop().time(), 0.0)

    async def _check_size(self, signed: SignedCommand, timeout: float) -> None:
        """Refuse what the daemon would drop without a word (wire section 3, row 2)."""
        try:
            self._max_bytes = (await self.info(timeout=timeout)).limits.max_command_bytes
        except Unreachable as error:  # its command is not the caller's
            raise Unreachable(f"{signed.name} was not sent: {error.message}") from None
        if (size := len(signed.payload)) > self._max_bytes:
            text = f"the signed command has {size} bytes, and the daemon takes {self._max_bytes}"
            raise TooLarge(text, details={"bytes": size, "max_bytes": self._max_bytes})

    def _check_packet(self, signed: SignedCommand) -> None:
        """Refuse what the broker would end the connection for, again and again."""
        size, most = len(signed.payload) + len(signed.topic.encode()) + _PACKET_HEAD, self._link.max_packet_bytes
        if most is not None and size > most:
            text = f"the signed command is a packet of {size} bytes, and the broker takes {most}"
            raise TooLarge(text, details={"bytes": size, "max_bytes": most})

    def _verify_reply(self, received: Received) -> bool | None:
        token = self._settings.token
        if token is None or received.jws is None:
            return False
        if self._secret is not None:
            return verify_detached(received.payload, received.topic, received.jws, token.kid, self._secret)
        trust = self._following.trust
        return trust.signed_by_pinned(received.topic, received.payload, received.jws) if trust.pinned else None

    def _open(self, sealed: str, info: str) -> bytes:
        token = self._settings.token
        if token is None or token.alg != "HS256":
            raise ConfigurationError("secrets are sealed for the secret of an HS256 token, and this client has none")
        try:
            return open_sealed(token.signing_key(), info, sealed)
        except NotSealedError:
            raise ConfigurationError("what came is sealed for another token than this client's") from None


def _tell_of_fault(running: asyncio.Task[None]) -> None:
    """Say that the connection is not kept any more, which nobody would see."""
    if not running.cancelled() and (error := running.exception()) is not None:
        logger.error("the connection is not kept any more, a fault: %s", error, exc_info=error)


def _sign(requests: Requests, command: str, params: Params | None, timeout_s: float) -> SignedCommand:
    try:
        return requests.sign(command, dict(params or {}), timeout_s)
    except (TypeError, ValueError, RecursionError) as error:
        text = f"the parameters of {command} cannot be written as JSON: {type(error).__name__}"
        raise ConfigurationError(text) from None


def _result(reply: Config) -> Config:
    if reply.get("ok") is True:
        result = reply.get("result")
        return result if isinstance(result, dict) else {}
    error = reply.get("error")
    raise error_of(error if isinstance(error, dict) else {})
