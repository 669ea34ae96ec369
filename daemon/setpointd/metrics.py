"""What an operator can count: Prometheus metrics with the prefix ``setpoint_`` (wire §8).

Callers report what happened; names, labels and buckets are decided here. Every method may be called from any thread.
Labels take values from small fixed sets only (commands, codes, reasons): never a topic, a principal or a value.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""The media type of what ``Metrics.render`` returns."""

_SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_JOBS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# The time a series began: in this text format it doubles the number of series, and nothing reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Observed:
    """The state that is read when a scrape comes, rather than counted as it changes."""

    mode: str
    epoch: int
    revision: int
    services: int
    outbox_pending: int
    oldest_job_s: float
    oversized_documents: int
    store_bytes: int


class Metrics:
    """The daemon's metrics, in a registry of their own.

    ``modes`` are the modes the daemon can be in: each is a series of ``setpoint_mode`` from the start, so that an alert
    on one of them has something to compare with.
    """

    def __init__(self, version: str, modes: Iterable[str] = ()) -> None:
        self._registry = CollectorRegistry()
        self._state = _State(modes)
        self._registry.register(self._state)
        self._count_commands()
        self._count_store_and_broker()
        Info("setpoint_build", "The running daemon.", registry=self._registry).info({"version": version})
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def _count_commands(self) -> None:
        self._commands = Counter(
            "setpoint_commands",
            "Commands answered, by outcome.",
            ("command", "code"),
            registry=self._registry,
        )
        self._command_seconds = Histogram(
            "setpoint_command_duration_seconds",
            "From the arrival of a command to its reply.",
            ("command",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        # Looking a series up by its labels costs more than counting.
        self._series: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

        self._dropped = Counter(
            "setpoint_messages_dropped",
            "Messages dropped without a reply.",
            ("reason",),
            registry=self._registry,
        )

        self._disbelieved = Counter(
            "setpoint_disbelieved",
            "Messages on the daemon's own topics that were not its own.",
            ("topic",),
            registry=self._registry,
        )

        self._applied_ignored = Counter(
            "setpoint_applied_ignored",
            "What came on the topics of applied reports and is none.",
            ("reason",),
            registry=self._registry,
        )

    def _count_store_and_broker(self) -> None:
        self._commit_seconds = Histogram(
            "setpoint_commit_duration_seconds",
            "Durable commits: one transaction of the writer each.",
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._commit_jobs = Histogram(
            "setpoint_commit_jobs",
            "Jobs in one commit: commands, and the daemon's own housekeeping.",
            registry=self._registry,
            buckets=_JOBS,
        )
        self._published = Counter(
            "setpoint_published",
            "Outbox messages the broker has acknowledged.",
            ("kind",),
            registry=self._registry,
        )
        self._published_of: dict[str, Counter] = {}
        self._connected = Gauge(
            "setpoint_broker_connected",
            "1 while connected to the broker.",
            registry=self._registry,
        )
        self._connections = Counter(
            "setpoint_broker_connections",
            "Connections made to the broker.",
            registry=self._registry,
        )

    def command(self, command: str, code: str, seconds: float) -> None:
        """Count a command answered ``seconds`` after it arrived.

        ``code`` is an error code of wire §4, ``ok``, or ``repeated`` for a stored reply that was sent again.
        ``command`` is a command's name, or ``unknown`` for any name that is none: senders must not make series.
        """
        series = self._series.get((command, code))
        if series is None:
            series = self._series[command, code] = (
                self._commands.labels(command, code),
                self._command_seconds.labels(command),
            )
        answered, took = series
        answered.inc()
        took.observe(seconds)

    def dropped(self, reason: str) -> None:
        """Count a message dropped without a reply (wire §3, rows 1 and 2); ``reason`` is of a fixed set."""
        self._dropped.labels(reason).inc()

    def disbelieved(self, topic: str) -> None:
        """Count what somebody else published on a topic of the daemon's own; ``topic`` is of a fixed set."""
        self._disbelieved.labels(topic).inc()

    def applied_ignored(self, reason: str) -> None:
        """Count what was published for an applied report and is none; ``reason`` is of a fixed set."""
        self._applied_ignored.labels(reason).inc()

    def committed(self, jobs: int, seconds: float) -> None:
        """Count a commit of ``jobs`` that took ``seconds``."""
        self._commit_jobs.observe(jobs)
        self._commit_seconds.observe(seconds)

    def published(self, kind: str) -> None:
        """Count an outbox message of a ``kind`` (``updated``, ``audit``, …) that the broker has acknowledged."""
        series = self._published_of.get(kind)
        if series is None:
            series = self._published_of[kind] = self._published.labels(kind)
        series.inc()

    def connected(self, up: bool) -> None:  # noqa: FBT001 - the state is the whole message
        """Note that the connection to the broker was made or lost; every ``True`` counts as a new connection."""
        self._connected.set(up)
        if up:
            self._connections.inc()

    def render(self, observed: Observed | None = None) -> bytes:
        """Return everything in the Prometheus text format, of the media type ``CONTENT_TYPE``.

        ``observed`` is the current state; when it cannot be told, it is left out.
        """
        self._state.observed = observed
        return generate_latest(self._registry)


class _State(Collector):
    """Turns the state at the time of a scrape into gauges."""

    def __init__(self, modes: Iterable[str]) -> None:
        self._modes = dict.fromkeys(modes)
        self.observed: Observed | None = None

    def collect(self) -> Iterator[Metric]:
        now = self.observed
        if now is None:
            return
        yield GaugeMetricFamily("setpoint_epoch", "The store's epoch.", now.epoch)
        yield GaugeMetricFamily("setpoint_revision", "The store's revision.", now.revision)
        yield GaugeMetricFamily("setpoint_services", "Services that have a config.", now.services)
        yield GaugeMetricFamily("setpoint_outbox_pending", "Messages not yet acknowledged.", now.outbox_pending)
        yield GaugeMetricFamily(
            "setpoint_oldest_job_seconds", "How long the oldest write has waited.", now.oldest_job_s
        )
        yield GaugeMetricFamily(
            "setpoint_oversized_documents",
            "Retained documents that are larger than the broker takes.",
            now.oversized_documents,
        )
        yield GaugeMetricFamily("setpoint_store_bytes", "Size of the store on disk.", now.store_bytes)
        mode = GaugeMetricFamily("setpoint_mode", "1 for the mode the daemon is in, else 0.", labels=("mode",))
        self._modes.setdefault(now.mode)
        for name in self._modes:
            mode.add_metric((name,), name == now.mode)
        yield mode
