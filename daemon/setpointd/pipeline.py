"""One message in, at most one reply out: the rows of wire section 3, in their order. Read this first.

``process`` decides what can be decided alone without waiting, so that commands are judged in the order of their
arrival; a write then waits for the store's commit. Nothing here touches the network.
"""

import asyncio
import contextlib
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from setpoint_contracts import Change, Claims, Code, Command, Topics, verify_command
from setpoint_contracts.audit import Action
from setpoint_contracts.envelope import ParsedClaims
from setpoint_contracts.signing import NotSignedError
from setpoint_contracts.timestamps import rfc3339
from setpointd.address import ReturnAddress
from setpointd.allowance import Allowance, Allowances
from setpointd.auth import Keyring, authorise, check_token, token_ended
from setpointd.call import Call, Daemon
from setpointd.checks import (
    check_expiry,
    check_reply_topic,
    check_times,
    check_topic,
    read_claims,
    read_params,
)
from setpointd.errors import Rejected, StoreError
from setpointd.log import logger
from setpointd.messages import Inbound, Outbound
from setpointd.metrics import Metrics
from setpointd.records import Identity, Stamp, StoredReply
from setpointd.render import Renderer, Reply, Result
from setpointd.store import Snapshot, Store, Tx
from setpointd.table import TABLE, Entry

# Of events that anybody can bring about, so many at once for each reason or principal, and then one a minute: whoever
# goes on for ever fills neither the disk nor the bus.
EVENT_BURST = 10
EVENTS_PER_S = 1 / 60
MAX_DENIED = 1000


@dataclass(slots=True)
class _Attempt:
    """A command whose claims are accepted.

    ``digest`` is that of its bytes, ``at`` when it was judged.
    """

    message: Inbound
    to: ReturnAddress
    claims: Claims
    digest: bytes
    at: str


class Pipeline:
    """What becomes of a message. ``clock`` gives POSIX seconds; ``keyring`` changes with the tokens of the store."""

    def __init__(
        self,
        *,
        store: Store,
        keyring: Keyring,
        topics: Topics,
        renderer: Renderer,
        daemon: Daemon,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.last_used: dict[str, float] = {}
        self._keyring = keyring
        self._log = logger()
        self._store = store
        self._topics = topics
        self._render = renderer
        self._daemon = daemon
        self._limits = daemon.runtime.limits
        self._metrics = metrics
        self._clock = clock
        # One each: retained junk must not hide that somebody tries keys.
        self._retained = Allowance(burst=10, per_second=1.0, clock=clock)
        self._unsigned = Allowance(burst=10, per_second=1.0, clock=clock)
        events = partial(Allowances, most=MAX_DENIED, burst=EVENT_BURST, per_second=EVENTS_PER_S, clock=clock)
        self._failures, self._denials = events(), events()
        self._rates: dict[str, Allowance] = {}  # by principal: as many as there are tokens, at most
        self._identity = Identity("", 0, 0, None)

    async def process(self, message: Inbound) -> Outbound | None:
        """Decide what becomes of a message. Never raises for anything that the message holds."""
        now = self._clock()
        if message.retain:  # row 1
            self._drop("retained", self._retained)
            return None
        try:
            signed = verify_command(message.payload, self._limits.max_command_bytes, self._keyring.find)
        except NotSignedError as refusal:  # row 2
            await self._distrust(refusal.args[0], now)
            return None
        who, parsed = signed.signer, ParsedClaims.of(signed.claims)
        to = ReturnAddress.of(message, who, self._keyring.key(who.kid), parsed.readable, self._topics)
        try:
            reply = await self._decide(message, to, parsed, now)
        except Rejected as refusal:
            reply = await self._refuse(to, refusal, now)
        except StoreError:
            text = "the store could not be written; nothing of this command has happened, send it again"
            reply = await self._refuse(to, Rejected(Code.UNAVAILABLE, text), now)
        except Exception as error:  # noqa: BLE001 - the edge of the pipeline: one bad command must not end the daemon
            self._log.error("internal_error", request_id=to.jti, exc_info=error)
            text = "the daemon failed at this command; its log says where"
            reply = await self._refuse(to, Rejected(Code.INTERNAL, text), now)
        self._record(to, reply, now)
        return reply.message

    async def _decide(self, message: Inbound, to: ReturnAddress, parsed: ParsedClaims, now: float) -> Reply:
        """Rows 3 to 15. A write looks for its stored reply once: here if it is about to be refused, else in its Tx."""
        check_token(to.who, now)  # row 3
        claims = read_claims(parsed, to.who, self._limits)  # row 4
        check_topic(claims, message)  # row 5
        entry = TABLE.get(to.command)
        digest = hashlib.sha256(message.payload.strip()).digest()
        attempt = _Attempt(message, to, claims, digest, rfc3339(now))
        try:
            check_times(claims, message, now, self._limits)  # row 8
            check_reply_topic(to)  # row 9
            if entry is None:
                raise _unknown_command()  # row 10
            self._check_rate(to.who.name)  # row 11
            command = read_params(entry.model, claims.params)  # row 12
            authorise(to.who, command)  # row 13
            self._check_mode(entry)  # row 14
        except Rejected:
            if entry is not None and entry.stored:
                repeated = await self._store.read(partial(self._repeat, attempt))  # rows 6 and 7
                if repeated is not None:
                    return repeated
            raise
        call = Call(to.command, to.who, to.key, now, attempt.at, self._daemon)
        return await self._run(entry, attempt, command, call)  # row 15

    def _check_rate(self, name: str) -> None:
        per_second, burst = self._limits.rate_limit_per_s, self._limits.rate_limit_burst
        if not per_second:
            return
        rate = self._rates.get(name)
        if rate is None:
            rate = self._rates[name] = Allowance(burst=burst, per_second=per_second, clock=self._clock)
        if rate.take() is None:
            text = f"{name} sends more than {per_second} commands a second; send it again after details.retry_after_s"
            raise Rejected(Code.RATE_LIMITED, text, retry_after_s=math.ceil(rate.wait_s() * 1000) / 1000)

    def _check_mode(self, entry: Entry) -> None:
        if self._daemon.runtime.mode != "active" and not entry.while_read_only:
            text = "this daemon only reads for now; an operator has to decide which store is the truth"
            raise Rejected(Code.READ_ONLY, text, reason=self._daemon.runtime.reason)

    async def _run(self, entry: Entry, attempt: _Attempt, command: Command, call: Call) -> Reply:
        if entry.kind == "read":
            return await self._store.read(partial(self._read, entry, attempt, command, call))
        if entry.kind == "scan":
            return await self._store.scan(partial(self._read, entry, attempt, command, call))
        if entry.kind == "job":
            result = await asyncio.to_thread(entry.handler, call, command)
            return await self._store.read(partial(self._say, attempt, result))
        stamp = Stamp(call.at, call.who.name, attempt.claims.jti)
        if entry.kind == "slices":
            so_far: object = None
            while not isinstance(so_far, Reply):
                run = partial(self._slice, entry, attempt, command, call, so_far)
                so_far = await self._store.write(stamp, run, call.committed)
            return so_far
        whole = partial(self._write, entry, attempt, command, call)
        return await self._store.write(stamp, whole, call.committed, quick=entry.quick)

    def _read(self, entry: Entry, attempt: _Attempt, command: Command, call: Call, snapshot: Snapshot) -> Reply:
        outcome: Result | Rejected
        try:
            outcome = entry.handler(snapshot, call, command)
        except Rejected as refusal:  # rendered here: the reply names the revision at which it was judged
            if refusal.code is Code.FORBIDDEN:  # what it touches was not known before it ran; it leaves an event
                raise
            outcome = refusal
        return self._say(attempt, outcome, snapshot)

    def _say(self, attempt: _Attempt, outcome: Result | Rejected, snapshot: Snapshot) -> Reply:
        return self._render.reply(attempt.to, outcome, snapshot.identity.now(), attempt.at)

    def _write(self, entry: Entry, attempt: _Attempt, command: Command, call: Call, tx: Tx) -> Reply:
        """Run a write and store its reply, all in one transaction."""
        if by := tx.tokens.ended(call.who.kid, attempt.at):  # row 3 again: what went before it may have ended the token
            raise token_ended(call.who.kid, by)
        if repeated := self._repeat(attempt, tx):  # rows 6 and 7
            return repeated
        check_expiry(attempt.claims, attempt.message, self._clock())  # row 8 again: it may have waited for its turn
        tx.config.check_update = self._render.check_update
        tx.schemas.check_schema = self._render.check_schema
        dry_run = entry.explained and cast("Change", command).dry_run
        outcome: Result | Rejected
        try:
            outcome = _apply(entry, command, call, tx, dry_run=dry_run)
        except Rejected as refusal:
            outcome = refusal
            call.undone()
            denied = self._denied(attempt.to, refusal)  # what it touches was not known before it ran
            if denied is not None:
                denied(tx)
        applied = isinstance(outcome, Result) and not dry_run
        reply = self._render.reply(attempt.to, outcome, tx.identity.now(), attempt.at, applied=applied)
        final = isinstance(outcome, Result) or not outcome.code.retryable
        if entry.stored and final and not dry_run:
            self._keep(attempt, reply, tx)
        return reply

    def _slice(self, entry: Entry, attempt: _Attempt, command: Command, call: Call, so_far: object, tx: Tx) -> object:
        """Run the next slice of a write, and store its reply with the last."""
        by = tx.tokens.ended(call.who.kid, attempt.at) if so_far is None else None
        if by:  # row 3 again, as for any write that gets its turn
            raise token_ended(call.who.kid, by)
        if repeated := self._repeat(attempt, tx):  # rows 6 and 7; the same command may be at work twice
            return repeated
        if so_far is None:  # row 8 again
            check_expiry(attempt.claims, attempt.message, self._clock())
        outcome = entry.handler(tx, call, command, so_far)
        if not isinstance(outcome, Result):
            return outcome
        reply = self._render.reply(attempt.to, outcome, tx.identity.now(), attempt.at, applied=True)
        self._keep(attempt, reply, tx)
        return reply

    def _keep(self, attempt: _Attempt, reply: Reply, tx: Tx) -> None:
        keep_until = rfc3339(attempt.claims.exp + self._limits.max_clock_skew_s)
        stored = StoredReply(attempt.digest, reply.payload)
        tx.replies.store(attempt.to.who.kid, attempt.claims.jti, stored, keep_until)

    def _repeat(self, attempt: _Attempt, snapshot: Snapshot) -> Reply | None:
        """Rows 6 and 7: what this command was answered before; None when it never ran."""
        stored = snapshot.replies.stored(attempt.to.who.kid, attempt.claims.jti)
        if stored is None:
            return None
        if stored.digest != attempt.digest:
            text = "this jti was used for another command; sign this one with a new jti"
            raise Rejected(Code.IDEMPOTENCY_CONFLICT, text)
        return self._render.repeated(attempt.to, stored, snapshot.identity.now(), attempt.at)

    async def _refuse(self, to: ReturnAddress, refusal: Rejected, now: float) -> Reply:
        at = rfc3339(now)
        try:
            denied = self._denied(to, refusal)
            if denied is not None:
                await self._store.write(Stamp(at, to.who.name, to.jti), denied, quick=True)
            self._identity = await self._store.read(lambda snapshot: snapshot.identity.now())
        except StoreError:
            pass  # logged where it happened; the reply goes out with the revision last seen
        return self._render.reply(to, refusal, self._identity, at)

    def _denied(self, to: ReturnAddress, refusal: Rejected) -> Callable[[Tx], None] | None:
        """Make the job that records that somebody was denied something; None when there is nothing to record."""
        if refusal.code is not Code.FORBIDDEN:
            return None
        suppressed = self._denials.take(to.who.name)
        return None if suppressed is None else partial(_permission_denied, to.command, refusal, suppressed)

    def _record(self, to: ReturnAddress, reply: Reply, now: float) -> None:
        seconds = self._clock() - now
        self.last_used[to.who.kid] = now
        name = to.command if to.command in TABLE else "unknown"
        self._metrics.command(name, reply.code, seconds)
        self._log.info(
            "command",
            request_id=to.jti,
            principal=to.who.name,
            command=name,
            code=reply.code,
            duration_ms=round(seconds * 1000, 3),
        )

    async def _distrust(self, reason: str, now: float) -> None:
        self._drop(reason, self._unsigned)
        suppressed = self._failures.take(reason)
        if suppressed is not None:
            with contextlib.suppress(StoreError):  # logged where it happened
                await self._store.write(
                    Stamp(rfc3339(now), None), partial(_auth_failure, reason, suppressed), quick=True
                )

    def _drop(self, reason: str, allowance: Allowance) -> None:
        """Count a message that is dropped, and log it while the allowance lasts."""
        self._metrics.dropped(reason)
        suppressed = allowance.take()
        if suppressed is not None:
            self._log.warning("dropped", reason=reason, suppressed=suppressed)


def _apply(entry: Entry, command: Command, call: Call, tx: Tx, *, dry_run: bool) -> Result:
    """Run a handler; a refusal or a dry run undoes what it wrote. Nothing else of the job is written before it."""
    result: Result
    try:
        result = entry.handler(tx, call, command)
    except Rejected:
        tx.undo()
        raise
    if dry_run:
        tx.undo()
        call.undone()
        result.members["dry_run"] = True
    return result


def _unknown_command() -> Rejected:
    return Rejected(Code.UNKNOWN_COMMAND, "there is no such command", known=sorted(TABLE))


def _auth_failure(reason: str, suppressed: int, tx: Tx) -> None:
    tx.audit.record(Action.AUTH_FAILURE, reason=reason, suppressed=suppressed)


def _permission_denied(command: str, refusal: Rejected, suppressed: int, tx: Tx) -> None:
    needs, service = refusal.details["needs"], refusal.details.get("service")
    tx.audit.record(Action.PERMISSION_DENIED, service=service, command=command, needs=needs, suppressed=suppressed)
