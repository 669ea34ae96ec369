"""Applied reports: what an instance says that it runs (contracts/following.md, "Reporting what runs")."""

import time
from collections import Counter

from setpoint.link import Link
from setpoint_contracts import Topics, strictjson
from setpoint_contracts.applied import AppliedReport
from setpoint_contracts.config import ConfigDocument
from setpoint_contracts.timestamps import rfc3339


class Reporter:
    """Publishes the newest report of each bound service, retained, and again after each connect."""

    def __init__(self, link: Link, topics: Topics, instance: str) -> None:
        self._link, self._topics, self._instance = link, topics, instance
        self._reports: dict[str, bytes] = {}
        self._bound: Counter[str] = Counter()
        link.on_connected(self._say_again)

    def begin(self, service: str) -> None:
        """A service is bound, perhaps again."""
        self._bound[service] += 1

    def end(self, service: str) -> None:
        """It is bound once less. After the last no more is said of it; what was said stays retained."""
        self._bound[service] -= 1
        if self._bound[service] <= 0:
            del self._bound[service]
            self._reports.pop(service, None)

    def say(self, document: ConfigDocument, error: str | None = None) -> None:
        """Report that a document was applied, or why it was rejected; ``error`` holds no value of a config."""
        report = AppliedReport(
            service=document.service,
            instance=self._instance,
            version=document.version,
            revision=document.revision,
            status="applied" if error is None else "rejected",
            error=error,
            at=rfc3339(time.time()),
        )
        payload = strictjson.dumps(report.model_dump(mode="json", exclude_none=True)).encode()
        self._reports[document.service] = payload
        self._publish(document.service, payload)

    def _say_again(self) -> None:
        for service, payload in self._reports.items():
            self._publish(service, payload)

    def _publish(self, service: str, payload: bytes) -> None:
        self._link.publish(self._topics.applied(service, self._instance), payload, retain=True)
