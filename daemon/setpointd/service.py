"""One message in, at most one answer out: the rows of wire section 3, in their order. Read this first.

``answer`` decides what can be decided alone without waiting, so that commands are judged in the order of their
arrival; a mutation then waits for the store's commit. Nothing here touches the network.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from setpoint_contracts import COMMANDS, Code, Mutation, Topics, sign_detached, verify_command
from setpoint_contracts.audit import Action
from setpoint_contracts.signing import NotSignedError
from setpoint_contracts.timestamps import rfc3339
from setpointd.allowance import Allowance
from setpointd.auth import Keyring, authorise, check_token
from setpointd.errors import Rejected, StoreError
from setpointd.handlers import HANDLERS
from setpointd.keys import Keys
from setpointd.log import logger
from setpointd.messages import Inbound, Outbound
from setpointd.metrics import Metrics
from setpointd.records import Claim, Stamp
from setpointd.registry import Call
from setpointd.replies import Answer
from setpointd.request import Request
from setpointd.runtime import Runtime
from setpointd.store import Store
from setpointd.tx import Tx


class _Undo(Exception):  # noqa: N818 - a way out of a savepoint, not an error
    """A dry run is over: its writes are undone, its result stands."""


class Service:
    """The pipeline. ``clock`` gives POSIX seconds; ``keyring`` may be replaced while it runs."""

    def __init__(
        self,
        *,
        store: Store,
        keyring: Keyring,
        keys: Keys,
        topics: Topics,
        runtime: Runtime,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.keyring = keyring
        self.last_used: dict[str, str] = {}
        self._log = logger()
        self._store = store
        self._keys = keys
        self._topics = topics
        self._runtime = runtime
        self._limits = runtime.limits
        self._metrics = metrics
        self._clock = clock
        # One each: retained junk must not hide that somebody tries keys.
        self._retained = Allowance(burst=10, per_second=1.0, clock=clock)
        self._unsigned = Allowance(burst=10, per_second=1.0, clock=clock)
        self._claim = Claim("", 0, 0, None)

    async def answer(self, inbound: Inbound) -> Outbound | None:
        """Decide what becomes of a message. Never raises for anything that the message holds."""
        now = self._clock()
        if inbound.retain:  # row 1
            self._drop("retained", self._retained)
            return None
        try:
            signed = verify_command(inbound.payload, self._limits.max_command_bytes, self.keyring.find)
        except NotSignedError as refusal:  # row 2
            reason = refusal.args[0]
            suppressed = self._drop(reason, self._unsigned)
            if suppressed is not None:
                with contextlib.suppress(StoreError):  # logged where it happened
                    await self._store.write(Stamp(rfc3339(now), None), partial(_auth_failure, reason, suppressed))
            return None
        request = Request.read(inbound, signed.signer, signed.claims, self._topics)
        try:
            answer = await self._decide(request, now)
        except Rejected as refusal:
            answer = await self._refuse(request, refusal, now)
        except StoreError:
            message = "the store could not be written; nothing of this command has happened, send it again"
            answer = await self._refuse(request, Rejected(Code.UNAVAILABLE, message), now)
        except Exception as error:  # noqa: BLE001 - the edge of the pipeline: one bad command must not end the daemon
            self._log.error("internal_error", request_id=request.jti, exc_info=error)
            message = "the daemon failed at this command; its log says where"
            answer = await self._refuse(request, Rejected(Code.INTERNAL, message), now)
        self._record(request, answer, now)
        return self._address(request, answer)

    async def _decide(self, request: Request, now: float) -> Answer:
        who = request.who
        check_token(who, now)  # row 3
        claims = request.accept_claims(self._limits)  # row 4
        request.check_topic(claims)  # row 5
        with self._store.read() as snapshot:
            stored = snapshot.stored_reply(who.kid, claims.jti)
        if stored is not None:
            return Answer.repeated(stored, request)  # rows 6 and 7
        request.check_times(claims, now, self._limits)  # row 8
        request.check_reply_topic()  # row 9
        command = request.parse(claims)  # rows 10 and 12
        authorise(who, command)  # row 13
        call = Call(who, rfc3339(now), self._runtime)
        if isinstance(command, Mutation):
            if self._runtime.mode != "active":  # row 14
                message = "this daemon only reads for now; an operator has to decide which store is the truth"
                raise Rejected(Code.READ_ONLY, message, reason=self._runtime.reason)
            keep_until = rfc3339(claims.exp + self._limits.max_clock_skew_s)
            stamp = Stamp(call.at, who.name, claims.jti)
            return await self._store.write(stamp, partial(self._mutate, request, command, call, keep_until))  # row 15
        with self._store.read() as snapshot:
            result = HANDLERS[command.name](snapshot, call, command)
            return Answer.accepted(request, result, snapshot.claim(), call.at)

    def _mutate(self, request: Request, command: Mutation, call: Call, keep_until: str, tx: Tx) -> Answer:
        """Run a mutation and store its reply, all in the transaction of ``tx`` (on the writer thread)."""
        kid, jti = request.who.kid, tx.stamp.request_id or ""
        if stored := tx.stored_reply(kid, jti):  # its twin was in the same batch, or just before
            return Answer.repeated(stored, request)
        try:
            result = self._run(tx, call, command)
        except Rejected as refusal:
            answer = Answer.refused(request, refusal, tx.claim(), call.at)
            final = not refusal.code.retryable
        else:
            answer = Answer.accepted(request, result, tx.claim(), call.at)
            final = True
        if final and not command.dry_run:
            tx.store_reply(kid, jti, request.digest, answer.payload, keep_until)
        return answer

    def _run(self, tx: Tx, call: Call, command: Mutation) -> dict[str, Any]:
        result: dict[str, Any] = {}
        try:
            with tx.savepoint():
                result = HANDLERS[command.name](tx, call, command)
                if command.dry_run:
                    raise _Undo  # noqa: TRY301 - leaving the savepoint is the point
        except _Undo:
            return {**result, "dry_run": True}
        return result

    async def _refuse(self, request: Request, refusal: Rejected, now: float) -> Answer:
        at = rfc3339(now)
        try:
            if refusal.code is Code.FORBIDDEN:
                await self._store.write(Stamp(at, request.who.name, request.jti), partial(_denied, request, refusal))
            with self._store.read() as snapshot:
                self._claim = snapshot.claim()
        except StoreError:
            pass  # logged where it happened; the answer goes out with the revision last seen
        return Answer.refused(request, refusal, self._claim, at)

    def _address(self, request: Request, answer: Answer) -> Outbound | None:
        """Sign an answer with what its caller can check: its own secret, or the daemon's key (wire section 4)."""
        topic = request.reply_topic
        if topic is None:
            return None
        found = self.keyring.find(request.who.kid)
        if found is not None and found[0].alg == "HS256":
            jws = sign_detached(answer.payload, topic, request.who.kid, found[0])
        else:
            jws = sign_detached(answer.payload, topic, self._keys.kid, self._keys.signing)
        return Outbound(topic, answer.payload, jws, correlation_data=request.inbound.correlation_data)

    def _record(self, request: Request, answer: Answer, now: float) -> None:
        seconds = self._clock() - now
        self.last_used[request.who.kid] = rfc3339(now)
        name = request.command if request.command in COMMANDS else "unknown"
        self._metrics.command(name, answer.code, seconds)
        self._log.info(
            "command",
            request_id=request.jti,
            principal=request.who.name,
            command=name,
            code=answer.code,
            duration_ms=round(seconds * 1000, 3),
        )

    def _drop(self, reason: str, allowance: Allowance) -> int | None:
        """Count a message that is dropped, and log it while the allowance lasts; then, how many were not logged."""
        self._metrics.dropped(reason)
        suppressed = allowance.take()
        if suppressed is not None:
            self._log.warning("dropped", reason=reason, suppressed=suppressed)
        return suppressed


def _auth_failure(reason: str, suppressed: int, tx: Tx) -> None:
    tx.audit(Action.AUTH_FAILURE, reason=reason, suppressed=suppressed)


def _denied(request: Request, refusal: Rejected, tx: Tx) -> None:
    service = refusal.details.get("service")
    tx.audit(Action.PERMISSION_DENIED, service=service, command=request.command, needs=refusal.details["needs"])
