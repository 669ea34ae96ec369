"""What instances report: the newest of each, within bounds, whatever is published there."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import Topics
from setpoint_contracts.applied import MAX_REPORT_BYTES
from setpointd import applied
from setpointd.applied import AppliedReports
from setpointd.metrics import Metrics

TOPICS = Topics("site1/")
AT = "2026-01-01T00:00:00.000Z"


def report(service: str = "stt", instance: str = "pi-1", version: int = 1, **more: object) -> bytes:
    """Write a report."""
    fine = {"service": service, "instance": instance, "version": version, "revision": version, "status": "applied"}
    return json.dumps({**fine, "at": AT, **more}).encode()


class Heard:
    """Reports of services whose name begins with an s, and what was counted."""

    def __init__(self) -> None:
        self.metrics = Metrics("1.2.3")
        self.reports = AppliedReports(TOPICS, self.metrics, lambda: 0.0)

    def hear(self, payload: bytes, service: str = "stt", instance: str = "pi-1") -> str | None:
        """Hear a payload, and name the reason for which it was ignored."""
        before = self.metrics.render()
        topic = TOPICS.applied(service, instance)
        self.reports.hear(topic, payload, lambda service: service.startswith("s"))
        lines = set(self.metrics.render().decode().splitlines()) - set(before.decode().splitlines())
        return next((line.split('"')[1] for line in lines if line.startswith("setpoint_applied_ignored_total")), None)

    def held(self, service: str | None = None) -> list[tuple[str, str, int]]:
        """List what is held."""
        return [(held.service, held.instance, held.version) for held in self.reports.of(service)]


def test_the_newest_of_each_instance_is_kept() -> None:
    """By arrival, whatever its time or version; in the order of names, of one service or of all."""
    heard = Heard()
    for service, instance, version in (("stt", "pi-2", 1), ("sa", "x", 9), ("stt", "pi-1", 3), ("stt", "pi-2", 2)):
        assert heard.hear(report(service, instance, version), service, instance) is None
    assert heard.hear(report(version=1, at="1970-01-01T00:00:00Z")) is None
    assert heard.held() == [("sa", "x", 9), ("stt", "pi-1", 1), ("stt", "pi-2", 2)]
    assert heard.held("stt") == [("stt", "pi-1", 1), ("stt", "pi-2", 2)]
    assert heard.held("none") == []


def test_an_empty_payload_clears() -> None:
    """The instance is gone and makes room; clearing what is not there is nothing."""
    heard = Heard()
    heard.hear(report())
    for _ in range(2):
        assert heard.hear(b"") is None
        assert heard.held() == []
    assert heard.hear(b"", "none", "at/all") is None


def test_a_new_connection_begins_anew() -> None:
    """What was cleared meanwhile must not stay."""
    heard = Heard()
    heard.hear(report())
    heard.reports.forget()
    assert heard.held() == []


GARBAGE = {
    "no JSON": (b"\xff{", "bad_report"),
    "no object": (b"[]", "bad_report"),
    "a key twice": (report()[:-1] + b',"version":2}', "bad_report"),
    "deep": (b"[" * 2000 + b"]" * 2000, "bad_report"),
    "a lone surrogate": (report(error="\ud800"), "bad_report"),
    "an unknown member": (report(x=1), "bad_report"),
    "no status": (report(status=None), "bad_report"),
    "another status": (report(status="running"), "bad_report"),
    "a negative version": (report(version=-1), "bad_report"),
    "a huge version": (report(version=2**63), "bad_report"),
    "no time": (report(at="now"), "bad_report"),
    "a long error": (report(error="x" * 501), "bad_report"),
    "too large": (report() + b" " * MAX_REPORT_BYTES, "too_large"),
    "another service": (report("sa"), "wrong_topic"),
    "another instance": (report(instance="pi-2"), "wrong_topic"),
}


@pytest.mark.parametrize(("payload", "reason"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_counted_and_changes_nothing(payload: bytes, reason: str) -> None:
    """What is no report is ignored, by its reason, and the report that was there stays."""
    heard = Heard()
    heard.hear(report(version=7, error="x" * 500, status="rejected"))
    assert heard.hear(payload) == reason
    assert heard.held() == [("stt", "pi-1", 7)]


@pytest.mark.parametrize("instance", ["", "a b", "a/b", "é", "x" * 65, "+"])
def test_an_instance_has_a_name_of_one_plain_level(instance: str) -> None:
    """Other names are no instances, whatever the topic says."""
    assert Heard().hear(report(instance=instance), instance=instance) == "bad_report"


def test_a_service_that_there_is_not_runs_nowhere() -> None:
    """Who reports for a service that the store does not know is ignored, so that nobody can make services up."""
    heard = Heard()
    assert heard.hear(report("vision"), "vision") == "unknown_service"
    assert heard.held() == []


def test_no_more_than_so_many_of_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it a new instance is ignored, one that is there goes on, and one that is cleared makes room."""
    monkeypatch.setattr(applied, "MAX_OF_A_SERVICE", 2)
    heard = Heard()
    assert [heard.hear(report(instance=name), instance=name) for name in "abca"] == [None, None, "too_many", None]
    heard.hear(b"", instance="a")
    assert heard.hear(report(instance="c"), instance="c") is None
    assert heard.hear(report("sa"), "sa") is None


def test_no_more_than_so_many_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum over all services is bounded as well."""
    monkeypatch.setattr(applied, "MAX_IN_ALL", 2)
    heard = Heard()
    assert [heard.hear(report(name), name) for name in ("sa", "sb", "sc", "sa")] == [None, None, "too_many", None]
    heard.reports.forget()
    assert heard.hear(report("sc"), "sc") is None


@given(st.binary() | st.text().map(str.encode), st.text(max_size=5), st.text(max_size=5))
def test_anything_may_come(payload: bytes, service: str, instance: str) -> None:
    """Whatever is published below the topic, hearing it never fails and keeps nothing of it."""
    heard = Heard()
    heard.reports.hear(TOPICS.applied(service, instance), payload, lambda _: True)
    heard.reports.hear("other/" + TOPICS.applied(service, instance), payload, lambda _: True)
    assert heard.held() == []
