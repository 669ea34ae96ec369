"""What instances of services say that they run (wire section 6): the newest report of each, in memory.

Rules:

- Anybody may publish there, so nothing is decided by it. What is no report harms nothing: it is counted and dropped.
- Nothing is stored: reports are retained on the broker, which sends them at every connect.
- The newest is what came last. What others have filled up does not push out what is there.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

from pydantic import ValidationError

from setpoint_contracts import Topics, strictjson
from setpoint_contracts.applied import MAX_REPORT_BYTES, AppliedReport
from setpointd.allowance import Allowance
from setpointd.log import logger
from setpointd.metrics import Metrics

MAX_OF_A_SERVICE = 1_000
MAX_IN_ALL = 10_000


class AppliedReports:
    """The reports heard on this connection. ``clock`` gives POSIX seconds."""

    def __init__(self, topics: Topics, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._topics = topics
        self._metrics = metrics
        self._allowance = Allowance(burst=10, per_second=1.0, clock=clock)
        self._reports: defaultdict[str, dict[str, AppliedReport]] = defaultdict(dict)
        self._count = 0

    def forget(self) -> None:
        """Begin anew: all that is retained is about to come."""
        self._reports.clear()
        self._count = 0

    def of(self, service: str | None = None) -> Iterator[AppliedReport]:
        """List the reports of a service, or of all, in the order of services and instances."""
        for name in sorted(self._reports) if service is None else [service]:
            yield from (report for _, report in sorted(self._reports.get(name, {}).items()))

    def hear(self, topic: str, payload: bytes, is_known: Callable[[str], bool]) -> None:
        """Take note of what came on a topic; ``is_known`` says whether there is such a service."""
        named = self._topics.applied_by(topic)
        if named is None:
            return
        if not payload:
            self._clear(*named)
        elif reason := self._take(*named, payload, is_known):
            self._metrics.applied_ignored(reason)
            suppressed = self._allowance.take()
            if suppressed is not None:
                logger().warning("applied_ignored", reason=reason, suppressed=suppressed)

    def _take(self, service: str, instance: str, payload: bytes, is_known: Callable[[str], bool]) -> str | None:
        """Keep a report; why it is ignored otherwise."""
        if len(payload) > MAX_REPORT_BYTES:
            return "too_large"
        try:
            report = AppliedReport.model_validate(strictjson.loads(payload))
        except (ValidationError, strictjson.InvalidJsonError):
            return "bad_report"
        if (report.service, report.instance) != (service, instance):
            return "wrong_topic"
        if not is_known(service):
            return "unknown_service"
        if instance not in self._reports[service]:
            if self._count >= MAX_IN_ALL or len(self._reports[service]) >= MAX_OF_A_SERVICE:
                return "too_many"
            self._count += 1
        self._reports[service][instance] = report
        return None

    def _clear(self, service: str, instance: str) -> None:
        if self._reports.get(service, {}).pop(instance, None) is not None:
            self._count -= 1
