"""What the daemon does on the side: notice tokens that were changed from outside, and drop what has run out."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from setpoint_contracts.timestamps import rfc3339
from setpointd.auth import Keyring
from setpointd.errors import OperatorError, StoreError
from setpointd.keys import Keys
from setpointd.log import logger
from setpointd.outbox import Outbox
from setpointd.records import Stamp
from setpointd.service import Service
from setpointd.store import Store
from setpointd.tx import Tx

TOKENS_EVERY_S = 0.5
SWEEP_EVERY_ROUNDS = 120


class Chores:
    """Looks after tokens and stored replies. ``clock`` gives POSIX seconds."""

    def __init__(self, store: Store, keys: Keys, outbox: Outbox, clock: Callable[[], float]) -> None:
        self._store = store
        self._keys = keys
        self._outbox = outbox
        self._clock = clock
        self._tokens = self._read_tokens()

    def keyring(self) -> Keyring:
        """Make the tokens that were last read ready for use; raises ``OperatorError`` when none of them can be opened.

        One that cannot is left out, and told of: the others must go on.
        """
        tokens = []
        problem: OperatorError | None = None
        for row in self._tokens:
            try:
                tokens.append(self._keys.restore(row))
            except OperatorError as error:
                problem = error
                logger().error("token_unreadable", kid=row["kid"])
        if problem is not None and not tokens:
            raise problem
        return Keyring(tokens)

    async def run(self, service: Service) -> None:
        """Go round until cancelled."""
        while True:
            for _ in range(SWEEP_EVERY_ROUNDS):
                await asyncio.sleep(TOKENS_EVERY_S)
                with contextlib.suppress(StoreError):  # logged where it happened; the next round comes soon
                    self._notice_tokens(service)
            await self.sweep(service)

    async def sweep(self, service: Service) -> None:
        """Write down which tokens were used, and forget stored replies that cannot be asked for any more."""
        used, service.last_used = service.last_used, {}
        stamp = Stamp(rfc3339(self._clock()), None)
        with contextlib.suppress(StoreError):  # logged where it happened
            await self._store.write(stamp, partial(_sweep, used))

    def _notice_tokens(self, service: Service) -> None:
        tokens = self._read_tokens()
        if tokens == self._tokens:
            return
        self._tokens = tokens
        try:
            service.keyring = self.keyring()
        except OperatorError as error:
            logger().error("tokens_unreadable", reason=error.args[0])
            return
        logger().info("tokens_changed", tokens=len(tokens))
        self._outbox.wake()  # the change came with an audit event

    def _read_tokens(self) -> list[dict[str, Any]]:
        with self._store.read() as snapshot:
            tokens = snapshot.tokens()
        return [{field: value for field, value in token.items() if field != "last_used_at"} for token in tokens]


def _sweep(used: dict[str, str], tx: Tx) -> None:
    tx.tokens_used(used)
    tx.forget_replies()
