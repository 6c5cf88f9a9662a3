"""The customers' metrics: waits by tier, ends, refusals; and how busy the machine is. Alerts: docs/customers.md."""

from collections.abc import Iterable
from typing import Final

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app import events
from app.domains.customers.facts import Refused, TryEnded, WorkflowStarted
from app.events import Unsubscribe

WAIT_BOUNDS: Final = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 1800, 3600, 7200)
"""Seconds; 300 and 900 are the alerts' thresholds, 1800 and 7200 the tiers' longest waits."""


class CustomerMetrics:
    """Counters and histograms of this process; `listen` starts them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waited = Histogram(
            "customer_job_wait_seconds",
            "From ready to the start of a job's first try",
            ["tier"],
            buckets=WAIT_BOUNDS,
            registry=registry,
        )
        self._tries = Counter(
            "customer_job_tries_total", "Tries that ended", ["workflow", "result"], registry=registry
        )
        self._ended = Counter(
            "customer_jobs_ended_total", "Jobs that ended for good", ["workflow", "result"], registry=registry
        )
        self._refused = Counter(
            "customer_requests_refused_total",
            "Requests answered with 429",
            ["tier", "code"],
            registry=registry,
        )

    def listen(self) -> list[Unsubscribe]:
        """Subscribe to the facts."""
        return [
            events.subscribe(
                WorkflowStarted, lambda fact: self._waited.labels(fact.tier).observe(fact.waited)
            ),
            events.subscribe(TryEnded, self._on_ended),
            events.subscribe(Refused, lambda fact: self._refused.labels(fact.tier, fact.code).inc()),
        ]

    def _on_ended(self, fact: TryEnded) -> None:
        self._tries.labels(fact.workflow, fact.result).inc()
        if fact.final:
            self._ended.labels(fact.workflow, fact.result).inc()


class HostGauges(Collector):
    """CPU and memory of the machine, as shares; the same on every process of it, so never to be summed."""

    def __init__(self) -> None:
        psutil.cpu_percent()  # the first answer is the share since the call before: here it begins

    def collect(self) -> Iterable[Metric]:
        """The gauges; the CPU's is its mean since the scrape before."""
        yield GaugeMetricFamily(
            "tandem_host_cpu_ratio",
            "CPU in use since the last scrape, 0 to 1",
            value=psutil.cpu_percent() / 100,
        )
        yield GaugeMetricFamily(
            "tandem_host_memory_ratio", "Memory in use, 0 to 1", value=psutil.virtual_memory().percent / 100
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not begin an interval."""
        return ()
