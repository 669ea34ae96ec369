"""What is counted, as a scraper reads it."""

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from setpointd.metrics import CONTENT_TYPE, Metrics, Observed

NO_LABELS: frozenset[tuple[str, str]] = frozenset()


def samples(metrics: Metrics, now: Observed | None = None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read the rendered text back with the parser of a scraper."""
    families = text_string_to_metric_families(metrics.render(now).decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Read one sample back."""
    return samples(metrics)[name, frozenset(labels.items())]


@pytest.fixture
def metrics() -> Metrics:
    """Metrics as a daemon starts with them."""
    return Metrics("1.2.3", ("active", "standby"))


def test_commands_are_counted_by_outcome_and_timed(metrics: Metrics) -> None:
    """Each answered command counts once under its name and code, and its duration falls into a bucket."""
    metrics.command("set", "ok", 0.0003)
    metrics.command("set", "version_conflict", 0.004)
    metrics.command("unknown", "unknown_command", 0.0001)
    assert value(metrics, "setpoint_commands_total", command="set", code="ok") == 1
    assert value(metrics, "setpoint_commands_total", command="set", code="version_conflict") == 1
    assert value(metrics, "setpoint_commands_total", command="unknown", code="unknown_command") == 1
    assert value(metrics, "setpoint_command_duration_seconds_count", command="set") == 2
    assert value(metrics, "setpoint_command_duration_seconds_bucket", command="set", le="0.00025") == 0
    assert value(metrics, "setpoint_command_duration_seconds_bucket", command="set", le="0.0005") == 1
    assert value(metrics, "setpoint_command_duration_seconds_bucket", command="set", le="5.0") == 2


def test_drops_replays_and_publishes_are_counted(metrics: Metrics) -> None:
    """What has no reply of its own is countable as well."""
    metrics.dropped("retained")
    metrics.dropped("bad_signature")
    metrics.dropped("bad_signature")
    metrics.published("updated")
    assert value(metrics, "setpoint_messages_dropped_total", reason="retained") == 1
    assert value(metrics, "setpoint_messages_dropped_total", reason="bad_signature") == 2
    assert value(metrics, "setpoint_published_total", kind="updated") == 1


def test_commits_are_counted_with_their_size_and_duration(metrics: Metrics) -> None:
    """The number of commits, of commands in them, and the time they took can all be read off."""
    metrics.committed(32, 0.002)
    metrics.committed(1, 0.0004)
    assert value(metrics, "setpoint_commit_jobs_sum") == 33
    assert value(metrics, "setpoint_commit_jobs_bucket", le="1.0") == 1
    assert value(metrics, "setpoint_commit_duration_seconds_count") == 2
    assert value(metrics, "setpoint_commit_duration_seconds_sum") == pytest.approx(0.0024)


def test_the_connection_is_a_gauge_and_reconnects_are_counted(metrics: Metrics) -> None:
    """The gauge says how it is now, the counter how often it was made."""
    assert value(metrics, "setpoint_broker_connected") == 0
    for up in (True, False, True):
        metrics.connected(up=up)
    assert value(metrics, "setpoint_broker_connected") == 1
    assert value(metrics, "setpoint_broker_connections_total") == 2
    metrics.connected(up=False)
    assert value(metrics, "setpoint_broker_connected") == 0


def test_state_is_read_when_the_scrape_comes(metrics: Metrics) -> None:
    """Gauges show the state at the time of the scrape, with one mode at 1 and the others at 0."""
    now = Observed(
        mode="active",
        epoch=3,
        revision=812,
        services=12,
        outbox_pending=4,
        oldest_job_s=0.25,
        oversized_documents=1,
        store_bytes=98304,
    )
    found = samples(metrics, now)
    assert found["setpoint_epoch", NO_LABELS] == 3
    assert found["setpoint_revision", NO_LABELS] == 812
    assert found["setpoint_services", NO_LABELS] == 12
    assert found["setpoint_outbox_pending", NO_LABELS] == 4
    assert found["setpoint_oldest_job_seconds", NO_LABELS] == 0.25
    assert found["setpoint_oversized_documents", NO_LABELS] == 1
    assert found["setpoint_store_bytes", NO_LABELS] == 98304
    assert found["setpoint_mode", frozenset({("mode", "active")})] == 1
    assert found["setpoint_mode", frozenset({("mode", "standby")})] == 0
    found = samples(metrics, replace(now, mode="read_only", revision=813))
    assert found["setpoint_revision", NO_LABELS] == 813
    assert found["setpoint_mode", frozenset({("mode", "active")})] == 0
    assert found["setpoint_mode", frozenset({("mode", "read_only")})] == 1


def test_a_state_that_cannot_be_told_is_left_out(metrics: Metrics) -> None:
    """A scrape while the store cannot be read shows no state, not the one of before."""
    metrics.render(Observed("active", 3, 812, 12, 4, 0.0, 0, 98304))
    assert "setpoint_revision" not in metrics.render().decode()


def test_what_was_not_the_daemons_own_is_counted(metrics: Metrics) -> None:
    """By the topic's name, of a fixed set."""
    metrics.disbelieved("epoch")
    assert value(metrics, "setpoint_disbelieved_total", topic="epoch") == 1


def test_without_a_state_the_rest_is_still_rendered(metrics: Metrics) -> None:
    """A scrape before the store is open shows the build and the process, and no made-up state."""
    text = metrics.render().decode()
    assert value(metrics, "setpoint_build_info", version="1.2.3") == 1
    assert value(metrics, "process_resident_memory_bytes") > 0
    assert "setpoint_revision" not in text
    assert "_created" not in text


def test_two_instances_share_nothing() -> None:
    """Each instance has a registry of its own, so that two daemons in one process do not mix."""
    one, two = Metrics("1"), Metrics("2")
    one.dropped("retained")
    assert value(one, "setpoint_messages_dropped_total", reason="retained") == 1
    assert "retained" not in two.render().decode()


def test_the_media_type_is_that_of_the_text_format() -> None:
    """Scrapers pick their parser by this media type."""
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
