"""Metrics of the queue, tandem_*: tries that ended, how long they ran and waited, claims, sweeper runs.

Facts come in batches; counting one job takes well below a microsecond. The sweeper reports from a thread of its own.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app import events
from app.events import Unsubscribe
from app.observability.distribution import Distribution
from app.queue.facts import Claimed, Ended, Swept

RUN_BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
WAIT_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class QueueMetrics(Collector):
    """Counts facts; `listen` starts it."""

    def __init__(self) -> None:
        self._ended: Counter[tuple[str, str, str]] = Counter()
        self._run: dict[str, Distribution] = {}
        self._waited: dict[str, Distribution] = {}
        self._claimed: Counter[str] = Counter()
        self._claims = 0
        self._swept: Counter[tuple[str, str]] = Counter()
        self._moved: Counter[str] = Counter()
        self._sweep_seconds: dict[str, Distribution] = {}

    def listen(self) -> list[Unsubscribe]:
        """Subscribe to the queue's facts."""
        return [
            events.subscribe(Ended, self._on_ended),
            events.subscribe(Claimed, self._on_claimed),
            events.subscribe(Swept, self._on_swept),
        ]

    def _on_ended(self, fact: Ended) -> None:
        for outcome in fact.outcomes:
            job = outcome.job
            self._ended[job.kind, job.queue, outcome.result] += 1
            run = self._run.get(job.kind)
            if run is None:
                run = self._run[job.kind] = Distribution(RUN_BOUNDS)
            run.add(outcome.seconds)

    def _on_claimed(self, fact: Claimed) -> None:
        self._claims += 1
        for job in fact.jobs:
            self._claimed[job.queue] += 1
            waited = self._waited.get(job.queue)
            if waited is None:
                waited = self._waited[job.queue] = Distribution(WAIT_BOUNDS)
            waited.add((job.claimed_at - job.ready_at).total_seconds())

    def _on_swept(self, fact: Swept) -> None:
        self._swept[fact.service, "failure" if fact.failed else "success"] += 1
        self._moved[fact.service] += fact.moved
        seconds = self._sweep_seconds.setdefault(fact.service, Distribution(RUN_BOUNDS))
        seconds.add(fact.seconds)

    def collect(self) -> Iterable[Metric]:
        """The metrics as they stand; called by a scrape."""
        ended = CounterMetricFamily(
            "tandem_jobs_ended", "Tries that ended in this process", labels=["kind", "queue", "outcome"]
        )
        for labels, count in list(self._ended.items()):
            ended.add_metric(labels, count)
        yield ended
        yield _histogram("tandem_job_run_seconds", "How long tries ran", "kind", self._run)
        yield _histogram("tandem_job_wait_seconds", "From ready to claimed", "queue", self._waited)
        yield _counter("tandem_jobs_claimed", "Jobs claimed by this process", "queue", self._claimed)
        yield CounterMetricFamily("tandem_claims", "Claims that brought something", value=self._claims)
        yield from self._collect_sweeper()

    def _collect_sweeper(self) -> Iterable[Metric]:
        runs = CounterMetricFamily(
            "tandem_sweeper_runs", "Runs of the sweeper's services", labels=["service", "status"]
        )
        for labels, count in list(self._swept.items()):
            runs.add_metric(labels, count)
        yield runs
        yield _counter("tandem_sweeper_moved", "Rows that the sweeper moved", "service", self._moved)
        yield _histogram(
            "tandem_sweeper_run_seconds", "How long its runs took", "service", self._sweep_seconds
        )


def _counter(name: str, text: str, label: str, counts: "Counter[str]") -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in list(counts.items()):
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, label: str, found: dict[str, Distribution]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label])
    for value, distribution in list(found.items()):
        family.add_metric([value], distribution.buckets(), distribution.total)
    return family
