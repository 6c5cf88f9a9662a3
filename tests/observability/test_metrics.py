"""The metrics: names, labels and buckets of the product page, what counts where, and the two places to scrape."""

import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.error import URLError

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app import events
from app.database.connect import connect
from app.domains.conversations import processing
from app.domains.conversations.facts import ProcessingCrashed
from app.domains.conversations.fallback import repair
from app.errors import ConfigurationError
from app.observability.gauges import FRESH_SECONDS, DatabaseGauges
from app.observability.metrics import bind_metrics, open_metrics, start_worker_metrics
from app.queue.facts import Swept
from tests.support.conversations import END, end, event, make_settings, serving, working, write
from tests.support.waiting import eventually_async

BUCKETS = {"0.1", "0.5", "1.0", "2.0", "5.0", "10.0"}
NAMES = {
    "conversation_events_processed": "counter",
    "conversation_event_wake_to_start_seconds": "histogram",
    "conversation_event_processing_seconds": "histogram",
    "conversation_events_pending": "gauge",
    "conversation_events_fallback_check": "counter",
    "conversation_events_reprocessed": "counter",
    "conversation_events_missed": "gauge",
}


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    """A registry that counts what this process reports during the test."""
    made = CollectorRegistry()
    unbind = bind_metrics(made)
    yield made
    unbind()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


def families(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def fetch(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own loopback address
        return str(answer.read().decode())


def counted(text: str) -> str:
    """The scrape, if one success and no failure stands in it."""
    samples = families(text)["conversation_events_processed"].samples
    processed = {sample.labels["status"]: sample.value for sample in samples}
    assert processed == {"success": 1, "failure": 0}
    return text


def assert_names(text: str) -> None:
    found = families(text)
    assert {name: found[name].type for name in NAMES} == NAMES
    processed = found["conversation_events_processed"].samples
    assert {(sample.name, tuple(sample.labels.items())) for sample in processed} == {
        ("conversation_events_processed_total", (("status", "success"),)),
        ("conversation_events_processed_total", (("status", "failure"),)),
    }
    for name, exactly in [("processing", True), ("wake_to_start", False)]:
        samples = found[f"conversation_event_{name}_seconds"].samples
        bounds = {sample.labels["le"] for sample in samples if sample.name.endswith("_bucket")} - {"+Inf"}
        assert bounds == BUCKETS if exactly else bounds > BUCKETS


async def test_the_api_serves_them_by_their_names(db_url: str) -> None:
    async with serving(db_url) as client:
        await end(client)
        await client.post(END, json={})
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert_names(answer.text)
    found = families(answer.text)
    assert found["conversation_events_pending"].samples[0].value == 1
    requests = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for sample in found["tandem_http_requests"].samples
    }
    assert requests == {("POST", END, "202"): 1, ("POST", END, "422"): 1}
    [most] = found["tandem_pool_connections_most"].samples
    assert (most.labels, most.value) == ({"pool": "api"}, make_settings().database.pool_size)
    assert found["tandem_pool_connections_used"].samples[0].value == 0


async def test_a_worker_serves_them_too_with_what_it_did(db_url: str) -> None:
    settings = make_settings()
    async with serving(db_url) as client, working(db_url) as worker:
        with start_worker_metrics(settings, worker) as address:
            await end(client)
            # The worker reports a job after its transaction: a moment after the event is PROCESSED.
            text = await eventually_async(lambda: counted(fetch(address)))
    assert_names(text)
    found = families(text)
    assert event(db_url).status == "PROCESSED"
    for name in ("processing", "wake_to_start"):
        samples = found[f"conversation_event_{name}_seconds"].samples
        assert [sample.value for sample in samples if sample.name.endswith("_count")] == [1]
    [ended] = found["tandem_jobs_ended"].samples
    assert (ended.labels["outcome"], ended.value) == ("success", 1)
    assert found["tandem_worker_slots"].samples[0].value == settings.worker.slots
    assert found["tandem_jobs_claimed"].samples[0].labels == {"queue": "conversations"}
    pools = {sample.labels["pool"] for sample in found["tandem_pool_connections_used"].samples}
    assert pools == {"handlers", "handlers_sync", "handlers_sessions"}
    with pytest.raises(URLError):
        fetch(address)  # the server went with its block


async def test_a_port_that_is_taken_is_said_clearly(db_url: str) -> None:
    async with working(db_url) as worker:
        with start_worker_metrics(make_settings(), worker) as address:
            port = int(address.rpartition(":")[2].partition("/")[0])
            busy = make_settings()
            busy = busy.model_copy(update={"worker": busy.worker.model_copy(update={"metrics_port": port})})
            with pytest.raises(ConfigurationError, match=str(port)), start_worker_metrics(busy, worker):
                pass


async def test_failed_tries_and_crashes_count_as_failures(
    db_url: str, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(processing, "score_conversation", fail)
    async with serving(db_url) as client, working(db_url):
        await end(client)
        await eventually_async(lambda: event(db_url).status == "FAILED")
        await eventually_async(
            lambda: value(registry, "conversation_events_processed_total", status="failure") == 1
        )
    events.publish(ProcessingCrashed())
    assert value(registry, "conversation_events_processed_total", status="failure") == 2
    assert value(registry, "conversation_events_processed_total", status="success") == 0


async def test_the_fallback_is_counted(db_url: str, registry: CollectorRegistry) -> None:
    async with serving(db_url) as client:
        for number in range(3):
            await end(client, f"conv_{number}")
    write(db_url, "DELETE FROM tandem.ready")
    write(db_url, "UPDATE conversation_events SET next_attempt_at = now() - interval '1 hour'")
    settings = make_settings()
    with open_metrics(settings, db_url) as gauges:
        assert value(gauges, "conversation_events_missed") == 3
        assert value(gauges, "conversation_events_pending") == 3
    async with await connect(db_url, name="sweeper") as connection:
        await repair(connection, settings.conversations)
        await repair(connection, settings.conversations)
    assert value(registry, "conversation_events_fallback_check_total") == 2
    assert value(registry, "conversation_events_reprocessed_total") == 3
    with open_metrics(settings, db_url) as gauges:
        assert value(gauges, "conversation_events_missed") == 0
        assert value(gauges, "conversation_events_pending") == 3


def test_the_gauges_are_fresh_but_not_asked_for_at_every_scrape(db_url: str) -> None:
    now = 0.0
    gauges = DatabaseGauges(db_url, make_settings(), clock=lambda: now)

    def pending() -> list[float]:
        return [
            sample.value
            for family in gauges.collect()
            for sample in family.samples
            if sample.name == "conversation_events_pending"
        ]

    assert pending() == [0]
    write(db_url, "ALTER TABLE conversation_events RENAME TO gone")
    assert pending() == [0]
    now += FRESH_SECONDS
    assert pending() == []  # an old number would be worse than none
    write(db_url, "ALTER TABLE gone RENAME TO conversation_events")
    now += FRESH_SECONDS
    assert pending() == [0]
    gauges.close()


def test_the_sweepers_runs_are_counted_by_service_and_status(registry: CollectorRegistry) -> None:
    events.publish(Swept("rescue", 3, 0.02))
    events.publish(Swept("rescue", 0, 0.5, failed=True))
    assert value(registry, "tandem_sweeper_runs_total", service="rescue", status="success") == 1
    assert value(registry, "tandem_sweeper_runs_total", service="rescue", status="failure") == 1
    assert value(registry, "tandem_sweeper_moved_total", service="rescue") == 3
    assert value(registry, "tandem_sweeper_run_seconds_bucket", service="rescue", le="0.05") == 1
    assert value(registry, "tandem_sweeper_run_seconds_count", service="rescue") == 2


def test_what_is_unbound_counts_no_more() -> None:
    registry = CollectorRegistry()
    bind_metrics(registry)()
    events.publish(Swept("rescue", 3, 0.02))
    assert value(registry, "tandem_sweeper_runs_total", service="rescue", status="success") == 0
