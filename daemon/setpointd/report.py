"""What the HTTP probes and a scrape are told: the state of the daemon, put together when somebody asks."""

import contextlib

from setpoint_contracts.system import Mode
from setpointd import health
from setpointd.errors import StoreError
from setpointd.metrics import Metrics, Observed
from setpointd.records import Identity
from setpointd.runtime import Runtime
from setpointd.store import Snapshot, Store

OLDEST_JOB_S = 5.0
"""A write that has been waiting longer than this means that the writer is stuck."""
_MODES: dict[Mode, health.Status] = {"active": "pass", "read_only": "warn", "standby": "fail", "starting": "fail"}


class Reporter:
    """Reads store and runtime for whoever asks."""

    def __init__(self, store: Store, runtime: Runtime, metrics: Metrics) -> None:
        self._store = store
        self._runtime = runtime
        self._metrics = metrics

    async def health(self) -> health.Health:
        """Say how the daemon is; what cannot be found out is a failed check."""
        runtime = self._runtime
        try:
            identity = await self._store.read(lambda snapshot: snapshot.identity.now())
            problem = "the last write failed" if self._store.failing else None
        except StoreError:
            identity, problem = Identity("", 0, 0, None), "the store cannot be read"
        words = runtime.mode if runtime.reason is None else f"{runtime.mode}: {runtime.reason}"
        return health.Health(
            mode=runtime.mode,
            epoch=identity.epoch,
            revision=identity.revision,
            version=runtime.version,
            uptime_s=runtime.uptime(),
            checks={
                "broker": _check(runtime.broker_problem, "connected"),
                "store": _check(problem, "writable"),
                "writer": _check(self._stuck(), "keeps up"),
                "documents": _check(self._oversized(), "fit the broker"),
                "mode": health.Check(_MODES[runtime.mode], words),
            },
            live=self._store.alive,
        )

    async def metrics(self) -> bytes:
        """Return everything in the Prometheus text format."""
        observed = None
        with contextlib.suppress(StoreError):  # logged where it happened; what is counted can still be told
            observed = await self._store.read(self._observe)
        return self._metrics.render(observed)

    def _observe(self, snapshot: Snapshot) -> Observed:
        identity = snapshot.identity.now()
        return Observed(
            mode=self._runtime.mode,
            epoch=identity.epoch,
            revision=identity.revision,
            outbox_pending=snapshot.outbox.pending(),
            oldest_job_s=self._store.oldest_job_s(),
            oversized_documents=len(self._runtime.oversized),
            services=snapshot.config.count(),
            store_bytes=snapshot.identity.store_bytes(),
        )

    def _stuck(self) -> str | None:
        waited = self._store.oldest_job_s()
        return f"the oldest write has been waiting for {waited:.0f} s" if waited > OLDEST_JOB_S else None

    def _oversized(self) -> str | None:
        count, limit = len(self._runtime.oversized), self._runtime.max_packet_bytes
        return f"{count} retained documents are larger than the broker takes ({limit} bytes)" if count else None


def _check(problem: str | None, fine: str) -> health.Check:
    return health.Check("pass", fine) if problem is None else health.Check("fail", problem)
