"""A caller of the daemon: plain aiomqtt, and the contracts for signing and for checking every reply."""

import asyncio
import json
import secrets
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiomqtt
from joserfc.util import urlsafe_b64decode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from setpoint_contracts import COMMANDS, Code, ErrorBody, Reply, Token, Topics, sign_command, verify_detached
from setpoint_contracts.audit import AuditEvent
from setpoint_contracts.errors import DETAILS, GENERAL, INDEX
from setpoint_contracts.keys import public_key
from setpoint_contracts.signing import VerifyingKey
from tests.waiting import DEADLINE_S


class Reachable(Protocol):
    """What a caller needs of a daemon: its broker, its topics, and an admin token of its store."""

    @property
    def host(self) -> str: ...  # noqa: D102 - see above

    @property
    def port(self) -> int: ...  # noqa: D102

    @property
    def topics(self) -> Topics: ...  # noqa: D102

    @property
    def token(self) -> Token: ...  # noqa: D102


class Caller:
    """A connected principal. What comes on its reply topics waits, by topic, until it is asked for."""

    def __init__(self, mqtt: aiomqtt.Client, token: Token, topics: Topics) -> None:
        self.mqtt = mqtt
        self.token = token
        self.topics = topics
        self.daemon_keys: dict[str, VerifyingKey] = {}
        self._arrived: defaultdict[str, asyncio.Queue[aiomqtt.Message]] = defaultdict(asyncio.Queue)
        self._keys_known = asyncio.Event()

    async def call(
        self,
        command: str,
        params: dict[str, Any] | None = None,
        *,
        properties: Properties | None = None,
        **signing: Any,
    ) -> Reply:
        """Send a command and return its reply; ``signing`` goes to ``sign_command``."""
        payload = self.sign(command, params, **signing)
        return await self.exchange(self.topics.command(command), payload, properties=properties)

    async def ok(self, command: str, params: dict[str, Any] | None = None, **signing: Any) -> dict[str, Any]:
        """Send a command that must be carried out, and return its result."""
        reply = await self.call(command, params, **signing)
        assert reply.ok, reply
        assert reply.result is not None
        return reply.result

    async def error(self, command: str, params: dict[str, Any] | None = None, **signing: Any) -> dict[str, Any]:
        """Send a command that must be refused, and return its error as the wire has it."""
        reply = await self.call(command, params, **signing)
        assert reply.error is not None, reply
        return reply.error.model_dump(mode="json")

    def sign(self, command: str, params: dict[str, Any] | None = None, **signing: Any) -> str:
        """Sign a command for the daemon's topics."""
        return sign_command(self.token, command, params, topics=self.topics, **signing)

    async def exchange(self, topic: str, payload: str | bytes, *, properties: Properties | None = None) -> Reply:
        """Publish a signed command as it is, and return its reply, which comes on the default or the given topic."""
        await self.mqtt.publish(topic, payload, qos=1, properties=properties)
        claims = _claims(payload)
        where = claims.get("reply_to", getattr(properties, "ResponseTopic", None))
        reply = await self.reply(where or self.topics.reply(self.token.name, claims["jti"]))
        assert reply.id == claims["jti"]
        return reply

    async def reply(self, topic: str) -> Reply:
        """Wait for the next reply on a topic of this caller."""
        return self.read(await self.message(topic))

    async def message(self, topic: str) -> aiomqtt.Message:
        """Wait for the next message on a topic of this caller."""
        async with asyncio.timeout(DEADLINE_S):
            if self.token.alg != "HS256":
                await self._keys_known.wait()
            return await self._arrived[topic].get()

    async def event(self, topic: str) -> dict[str, Any]:
        """Wait for the next audit event on its topic, and check that it is one."""
        event = AuditEvent.model_validate_json(bytes((await self.message(topic)).payload))
        return event.model_dump(mode="json", exclude_unset=True)

    def read(self, message: aiomqtt.Message) -> Reply:
        """Read a reply and check all that the wire says of it: properties, signature, and the command's result."""
        payload = bytes(message.payload)
        assert message.qos == 1
        assert not message.retain
        properties = vars(message.properties)
        assert properties["ContentType"] == "application/json"
        assert properties["PayloadFormatIndicator"] == 1
        ((name, signature),) = properties["UserProperty"]
        assert name == "jws"
        assert any(
            verify_detached(payload, str(message.topic), signature, kid, key) for kid, key in self._reply_keys().items()
        )
        reply = Reply.model_validate_json(payload)
        if reply.ok:
            assert reply.error is None
            assert reply.result is not None
            result = COMMANDS[reply.command].result.model_validate(reply.result)
            assert result.model_dump(mode="json", exclude_unset=True) == reply.result
        else:
            assert reply.error is not None
            assert reply.result is None
            assert reply.error.retryable == reply.error.code.retryable
            assert may_give(reply.command, reply.error), f"{reply.command} does not declare {reply.error.code}"
            told = reply.error.details.keys() - ({INDEX} if reply.command == "apply" else set())
            assert DETAILS[reply.error.code].fit(told), f"{reply.error.code} does not declare {sorted(told)}"
        return reply

    def _reply_keys(self) -> dict[str, VerifyingKey]:
        if self.token.alg == "HS256":
            return {self.token.kid: VerifyingKey("HS256", self.token.signing_key())}
        return self.daemon_keys

    async def listen(self) -> None:
        """Sort what arrives by topic, until the connection ends."""
        async for message in self.mqtt.messages:
            if str(message.topic) == self.topics.keys:
                self.daemon_keys = _keys(bytes(message.payload))
                self._keys_known.set()
            else:
                self._arrived[str(message.topic)].put_nowait(message)


@asynccontextmanager
async def calling(daemon: Reachable, token: Token | None = None, *also: str) -> AsyncIterator[Caller]:
    """Connect a principal, the store's admin unless told; it also follows the topic filters in ``also``."""
    token = token or daemon.token
    topics = daemon.topics
    async with connecting(daemon) as mqtt:
        caller = Caller(mqtt, token, topics)
        for topic in (topics.reply(token.name, "#"), topics.keys, *also):
            await mqtt.subscribe(topic, qos=1)
        listener = asyncio.create_task(caller.listen(), name="listener")
        try:
            yield caller
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)


def connecting(daemon: Reachable, client_id: str | None = None) -> aiomqtt.Client:
    """Make an MQTT 5 client for the daemon's broker."""
    return aiomqtt.Client(
        daemon.host,
        daemon.port,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
    )


async def retained(daemon: Reachable, *filters: str) -> dict[str, bytes]:
    """Read what is retained under the topic filters: topic to payload."""
    end = f"end-{secrets.token_hex(8)}"
    found: dict[str, bytes] = {}
    async with asyncio.timeout(DEADLINE_S), connecting(daemon) as mqtt:
        for topic in (*filters, end):
            await mqtt.subscribe(topic, qos=1)
        await mqtt.publish(end, b"", qos=1)  # it comes behind all that is retained
        async for message in mqtt.messages:
            if str(message.topic) == end:
                break
            if message.retain:
                found[str(message.topic)] = bytes(message.payload)
    return found


def publish_properties(**values: object) -> Properties:
    """Make the MQTT 5 properties of a publish, e.g. ``ResponseTopic="…"``."""
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def may_give(command: str, error: ErrorBody) -> bool:
    """Say whether a command declares an error: it is one that any can give, is its own, or speaks of the reply."""
    if error.code in GENERAL:
        return True
    model = COMMANDS[command]
    is_large_reply = error.code is Code.TOO_LARGE and (not model.actions or "applied" in error.details)
    return error.code in model.errors or is_large_reply


def _claims(payload: str | bytes) -> dict[str, Any]:
    body = (payload if isinstance(payload, str) else payload.decode()).split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(body.encode()))
    return claims


def _keys(jwks: bytes) -> dict[str, VerifyingKey]:
    return {jwk["kid"]: VerifyingKey(jwk["alg"], public_key(jwk["x"])) for jwk in json.loads(jwks)["keys"]}
