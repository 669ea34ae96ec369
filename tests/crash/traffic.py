"""Concurrent callers that write and read at random, and an observer of what is announced; all into one history.

A caller carries out one operation after the other. When no reply comes it sends the same bytes again, on this or on a
new connection, until it is answered or gives up. Now and then it sends what it sent long ago, or wants no reply at all.
"""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import aiomqtt

from setpoint_contracts import Token, sign_command
from tests.caller import Caller, connecting
from tests.crash.history import Document, History, Operation, Received, Update
from tests.daemon import Daemon

# Longer than any run: a command that waited through faults must not have expired.
LIFETIME_S = 43_200.0
# How long to wait for a reply before the next try: from before a restarted daemon is back until long after.
PATIENCE_S = (0.3, 3.0)
PAUSE_S = 0.1
# How often a caller that got no reply gives up, or connects anew; and how often it does other things than usual.
GIVE_UP, CONNECT_ANEW = 0.15, 0.15
TWICE, AGAIN, SILENT = 0.05, 0.03, 0.02
REMEMBERED = 50


class Choices:
    """What a caller does next. It goes by the documents that it has been shown, as one with ``expected_version``."""

    def __init__(self, name: str, services: list[str], chance: random.Random) -> None:
        self._name = name
        self._services = services
        self._chance = chance
        self._shown: dict[str, Document] = {}
        self._made = 0

    def show(self, received: Received) -> None:
        """Learn from a reply."""
        reply = received.reply
        document = reply["result"] if reply["ok"] else reply["error"].get("details", {}).get("current")
        if document is not None:
            self._shown[document["service"]] = document

    def next(self) -> tuple[str, str, dict[str, Any]]:
        """Choose a command, a service and the further parameters."""
        self._made += 1
        service = self._chance.choice(self._services)
        (command,) = self._chance.choices(["get", "set", "patch", "delete"], [35, 30, 30, 5])
        params = self._params(command, service)
        if command != "get" and self._chance.random() < 0.6:
            params["expected_version"] = self._expected(service)
        return command, service, params

    def _params(self, command: str, service: str) -> dict[str, Any]:
        match command:
            case "get":
                return self._version(service)
            case "set":
                return self._config(service)
            case "patch":
                return self._patch()
        return {}

    def _version(self, service: str) -> dict[str, Any]:
        shown = self._shown.get(service, {}).get("version", 0)
        return {"version": shown + self._chance.choice([0, 1])} if shown and self._chance.random() < 0.2 else {}

    def _config(self, service: str) -> dict[str, Any]:
        shown = self._shown.get(service, {}).get("config")
        if shown is not None and self._chance.random() < 0.2:
            return {"config": shown}  # back as it was read: often it changes nothing
        return {"config": {"by": f"{self._name}-{self._made}"}}

    def _patch(self) -> dict[str, Any]:
        key = self._chance.choice(["a", "b", "c", "d"])
        return {"patch": {key: None if self._chance.random() < 0.2 else f"{self._name}-{self._made}"}}

    def _expected(self, service: str) -> int:
        shown: int = self._shown.get(service, {}).get("version", 0)
        (expected,) = self._chance.choices([shown, 0, shown + 1], [85, 10, 5])
        return expected


class Client:
    """A caller with a connection of its own. ``more`` says whether to begin another operation."""

    def __init__(
        self,
        name: str,
        daemon: Daemon,
        token: Token,
        history: History,
        choices: Choices,
        chance: random.Random,
        more: Callable[[], bool],
    ) -> None:
        self._name = name
        self._daemon = daemon
        self._token = token
        self._history = history
        self._choices = choices
        self._chance = chance
        self._more = more
        self._own: dict[str, tuple[Operation, str]] = {}
        self._mutations: deque[str] = deque(maxlen=REMEMBERED)
        self._pending: str | None = None
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Go on while there is more to do, over as many connections as it takes."""
        while self._pending or self._more():
            try:
                async with connecting(self._daemon) as mqtt:
                    await mqtt.subscribe(self._reply_topic("+"), qos=1)
                    await self._with_listener(mqtt)
            except aiomqtt.MqttError:
                await asyncio.sleep(PAUSE_S)  # the broker is away; not to wait for anything, but to leave it alone

    async def _with_listener(self, mqtt: aiomqtt.Client) -> None:
        listener = asyncio.create_task(self._listen(mqtt), name=f"{self._name}-listener")
        try:
            while self._pending or self._more():
                self._pending = self._pending or self._begin()
                await self._settle(mqtt, listener, *self._own[self._pending])
                self._pending = None
                if self._chance.random() < 0.5:
                    await asyncio.sleep(self._chance.uniform(0, PAUSE_S))  # so that callers do not keep in step
        finally:
            listener.cancel()
            (ended,) = await asyncio.gather(listener, return_exceptions=True)
            if isinstance(ended, AssertionError):  # a reply was not as it must be
                raise ended

    def _begin(self) -> str:
        """Sign the next command, or take one that was sent before."""
        if self._mutations and self._chance.random() < AGAIN:
            return self._chance.choice(self._mutations)
        command, service, params = self._choices.next()
        name = f"{self._name}-{len(self._own)}"
        silent = command != "get" and self._chance.random() < SILENT
        payload = sign_command(
            self._token,
            command,
            {"service": service, **params},
            jti=name,
            reply_to=None if silent else self._reply_topic(name),
            lifetime_s=LIFETIME_S,
            topics=self._daemon.topics,
        )
        operation = Operation(name, self._token.name, command, service, params, time.monotonic(), silent)
        self._history.operations.append(operation)
        self._own[name] = operation, payload
        if operation.mutation:
            self._mutations.append(name)
        return name

    async def _settle(
        self,
        mqtt: aiomqtt.Client,
        listener: "asyncio.Task[None]",
        operation: Operation,
        payload: str,
    ) -> None:
        """Send a command until it has a further reply that is final, or give it up."""
        wanted = len(operation.received)
        while len(operation.received) == wanted or not operation.received[-1].final:
            wanted = len(operation.received)
            try:
                async with asyncio.timeout(self._chance.uniform(*PATIENCE_S)):
                    await self._send(mqtt, operation, payload)
                    while not operation.silent and len(operation.received) == wanted:
                        self._arrived.clear()
                        await self._arrived.wait()
            except TimeoutError:
                if listener.done():
                    listener.result()  # raises what ended it, mostly the loss of the connection
                if self._chance.random() < CONNECT_ANEW:
                    raise aiomqtt.MqttError("no reply") from None
                if self._chance.random() < GIVE_UP:
                    return
            if operation.silent:
                return

    async def _send(self, mqtt: aiomqtt.Client, operation: Operation, payload: str) -> None:
        for _ in range(2 if self._chance.random() < TWICE else 1):
            operation.sent += 1
            await mqtt.publish(self._daemon.topics.command(operation.command), payload, qos=1)

    async def _listen(self, mqtt: aiomqtt.Client) -> None:
        reader = Caller(mqtt, self._token, self._daemon.topics)
        async for message in mqtt.messages:
            at = time.monotonic()
            reply = reader.read(message)
            operation, _ = self._own[str(reply.id)]
            operation.received.append(Received(at, bytes(message.payload).decode()))
            self._choices.show(operation.received[-1])
            self._arrived.set()

    def _reply_topic(self, name: str) -> str:
        # Callers of one principal would hear each other's replies: each has reply topics of its own.
        return self._daemon.topics.reply(self._token.name, f"{self._name}/{name}")


async def observe(daemon: Daemon, history: History) -> None:
    """Note the updates of all services, until cancelled."""
    connection = 0
    while True:
        connection += 1
        try:
            async with connecting(daemon) as mqtt:
                await mqtt.subscribe(daemon.topics.all_updated, qos=1)
                await _note_updates(mqtt, history, connection)
        except aiomqtt.MqttError:
            await asyncio.sleep(PAUSE_S)  # as above


async def _note_updates(mqtt: aiomqtt.Client, history: History, connection: int) -> None:
    async for message in mqtt.messages:
        if message.payload:  # an empty one says nothing
            update = Update(time.monotonic(), connection, not message.retain, json.loads(bytes(message.payload)))
            history.updates.append(update)
