"""Commands under way: signed once, sent as often as it takes, answered once.

Rules:

- The same bytes are sent again, so the same ``jti``: whatever was lost, a command takes effect once (wire section 3).
- A reply counts only with a signature that holds, on the client's own reply topic; anything else is as if nothing came.
- An error that is not final (``retryable``) is asked again until the deadline; but ``read_only`` waits for a person.
"""

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from setpoint.errors import Unreachable
from setpoint.link import Link, Received
from setpoint.signed import SignedCommand
from setpoint_contracts import COMMANDS, Code, Token, Topics, sign_command, strictjson

Json = dict[str, Any]
Verify = Callable[[Received], bool | None]
"""Whether a reply's signature holds; None: it cannot be told yet, for want of the daemon's key."""

_LEAST_LIFETIME_S = 60.0  # so much may this machine's clock be behind the daemon's
_MOST_LIFETIME_S = 86_400.0  # max_command_lifetime_s, unless an operator has made it less
_FIRST_PATIENCE_S, _LONGEST_PATIENCE_S = 2.0, 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_UNJUDGED = 100


class Requests:
    """The commands of one client that wait for their replies."""

    def __init__(self, link: Link, token: Token, topics: Topics, verify: Verify) -> None:
        self._link, self._token, self._topics, self._verify = link, token, topics, verify
        self.reply_topic = topics.reply(token.name, secrets.token_hex(8))
        self._under_way: defaultdict[str, list[tuple[SignedCommand, asyncio.Future[Json]]]] = defaultdict(list)
        self._unjudged: deque[Received] = deque(maxlen=_UNJUDGED)
        self._refused_signatures = 0
        self._over = asyncio.Event()
        link.on_message(self.reply_topic, self._take)
        link.on_connected(self._send_again)

    def sign(self, name: str, params: Json, timeout_s: float) -> SignedCommand:
        """Sign a command that may be sent until its deadline is over, and for a minute at least."""
        jti, now = secrets.token_hex(16), time.time()
        lifetime_s = min(max(timeout_s, _LEAST_LIFETIME_S), _MOST_LIFETIME_S)
        payload = sign_command(
            self._token,
            name,
            params,
            jti=jti,
            reply_to=self.reply_topic,
            issued_at=now,
            lifetime_s=lifetime_s,
            topics=self._topics,
        )
        topic = self._topics.command(name)
        model = COMMANDS.get(name)
        has_effect = (model is None or bool(model.actions)) and params.get("dry_run") is not True
        return SignedCommand(name, jti, topic, payload.encode(), self.reply_topic, now + lifetime_s, has_effect)

    async def ask(self, command: SignedCommand, timeout_s: float) -> Json:
        """Send a command until it is answered for good; its reply, be it ok or an error. Raises ``Unreachable``."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                return await self._ask_until_final(command, deadline)
        except TimeoutError:
            raise Unreachable(self._why_no_answer(command, timeout_s), command) from None

    def judge_again(self) -> None:
        """Look again at the replies that could not be verified: now the daemon's key is known."""
        unjudged, self._unjudged = self._unjudged, deque(maxlen=_UNJUDGED)
        for received in unjudged:
            self._take(received)

    def close(self) -> None:
        """Tell all who wait that no reply will come, and all who will."""
        self._over.set()
        for command, answer in [entry for entries in self._under_way.values() for entry in entries]:
            if not answer.done():
                answer.set_exception(_closed(command))
                answer.exception()  # who waits for it may be cancelled before he looks

    async def _ask_until_final(self, command: SignedCommand, deadline: float) -> Json:
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE_S
        while True:
            reply = await self._answer(command)
            wait_s = _pause_after(reply, pause)
            if wait_s is None or loop.time() + wait_s >= deadline:
                return reply
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._over.wait()
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _answer(self, command: SignedCommand) -> Json:
        """Send a command, again and again, until a reply comes."""
        if self._over.is_set():
            raise _closed(command)
        entry = command, asyncio.get_running_loop().create_future()
        self._under_way[command.jti].append(entry)
        patience = _FIRST_PATIENCE_S
        try:
            while True:
                self._link.publish(command.topic, command.payload)
                done, _ = await asyncio.wait([entry[1]], timeout=patience)
                if done:
                    reply: Json = entry[1].result()
                    return reply
                patience = min(2 * patience, _LONGEST_PATIENCE_S)
        finally:
            self._under_way[command.jti].remove(entry)
            if not self._under_way[command.jti]:
                del self._under_way[command.jti]

    def _send_again(self) -> None:
        for entries in self._under_way.values():
            self._link.publish(entries[0][0].topic, entries[0][0].payload)

    @contextlib.asynccontextmanager
    async def listening_on(self, topic: str) -> AsyncIterator[None]:
        """Take replies on a topic too, if it is another one: that of a command which another client signed."""
        if topic == self.reply_topic:
            yield
            return
        self._link.on_message(topic, self._take)
        await self._link.subscribe(topic)
        try:
            yield
        finally:
            self._link.off_message(topic)
            await self._link.unsubscribe(topic)

    def _take(self, received: Received) -> None:
        holds = self._verify(received)
        if holds is None:
            self._unjudged.append(received)
        if not holds:
            self._refused_signatures += holds is False
            return
        try:
            reply = strictjson.loads(received.payload)
        except strictjson.InvalidJsonError:
            return
        jti = reply.get("id") if isinstance(reply, dict) else None
        self._refused_signatures = 0
        for _, answer in self._under_way.get(jti, ()) if isinstance(jti, str) else ():
            if not answer.done():
                answer.set_result(reply)

    def _why_no_answer(self, command: SignedCommand, timeout_s: float) -> str:
        unknown = "whether it took effect is not known" if command.has_effect else "nothing was to change"
        if not self._link.is_connected:
            why = self._link.last_error or "it does not answer"
            return f"no answer to {command.name}: the connection to the broker was lost ({why}); {unknown}"
        if self._link.is_refused(command.reply_topic):
            return f"no answer to {command.name}: the broker refuses the reply topic, look at its acl; {unknown}"
        if self._refused_signatures:
            signed = "that is signed as it must be: is this token that daemon's?"
            return f"no answer to {command.name} {signed} {unknown}"
        if self._unjudged:
            return f"an answer came to {command.name}, but no key of the daemon to check it with; {unknown}"
        questions = "Is the daemon there, does it know this token, and does the broker let it through?"
        return f"no answer to {command.name} in {timeout_s:.1f} s; {unknown}. {questions}"


def _closed(command: SignedCommand) -> Unreachable:
    return Unreachable("the client was closed before an answer came", command)


def _pause_after(reply: Json, pause: float) -> float | None:
    """For how many seconds to wait before the same command is sent again; None: the reply is final, or for a person."""
    error = reply.get("error")
    if not isinstance(error, dict) or error.get("retryable") is not True or error.get("code") == Code.READ_ONLY:
        return None
    details = error.get("details")
    after = details.get("retry_after_s") if isinstance(details, dict) else None
    return max(float(after), pause) if isinstance(after, int | float) else pause
