"""The topics' metrics: rates of messages and outcomes of this process, and gauges of the whole database per group."""

import logging
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final

import psycopg
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app import events
from app.config import Settings
from app.database.connect import connect_sync
from app.domains.topics.facts import TopicConsumed, TopicDenied, TopicPublished
from app.domains.topics.repository import measure_groups
from app.errors import AppError
from app.events import Unsubscribe
from app.queue.facts import Ended

FRESH_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 2
MOST: Final = 100_000
"""Counting ends here: an alert needs to know that it is too many, not how many."""
_NEVER: Final = "(max over processes, never sum)"
_GAUGES: Final = {
    "lag": ("topic_lag_messages", f"Messages that a group has not acknowledged {_NEVER}"),
    "lag_seconds": ("topic_lag_seconds", f"How long the oldest ready message of a group has waited {_NEVER}"),
    "dead": ("topic_dead_letters", f"Dead letters of a group {_NEVER}"),
    "consumers": ("topic_consumers", f"Workers and programs that consume for a group {_NEVER}"),
}
_log = logging.getLogger(__name__)


class TopicMetrics:
    """Counters of this process; `listen` starts them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._published = Counter(
            "topic_messages_published_total", "Messages published over HTTP", ["topic"], registry=registry
        )
        self._deliveries = Counter(
            "topic_deliveries_total",
            "Tries to handle a message: success, retry or dead; consumed counts what left over HTTP",
            ["topic", "group", "outcome"],
            registry=registry,
        )
        self._denied = Counter(
            "topic_denied_total",
            "Calls refused for want of a permission or grant",
            ["operation"],
            registry=registry,
        )

    def listen(self) -> list[Unsubscribe]:
        """Subscribe to the facts."""
        return [
            events.subscribe(
                TopicPublished, lambda fact: self._published.labels(fact.topic).inc(fact.messages)
            ),
            events.subscribe(TopicConsumed, self._on_consumed),
            events.subscribe(TopicDenied, lambda fact: self._denied.labels(fact.operation).inc()),
            events.subscribe(Ended, self._on_ended),
        ]

    def _on_consumed(self, fact: TopicConsumed) -> None:
        self._deliveries.labels(fact.topic, fact.group, fact.outcome).inc(fact.messages)

    def _on_ended(self, fact: Ended) -> None:
        for one in fact.outcomes:
            topic, found, group = one.job.kind.removeprefix("topic.").rpartition("..")
            if found and one.result in ("success", "retry", "dead"):
                self._deliveries.labels(topic, group, one.result).inc()


class TopicGauges(Collector):
    """One small connection of its own, so that a slow count never hides the queue's gauges."""

    def __init__(self, url: str, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        self._url = url
        patience = {"connect_timeout_seconds": PATIENCE_SECONDS, "call_timeout_seconds": PATIENCE_SECONDS}
        self._settings = settings.database.model_copy(update=patience)
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._rows: list[dict[str, Any]] = []

    def collect(self) -> Iterable[Metric]:
        """The gauges; called by a scrape. Absent while the database is away."""
        found = self._ask()
        for column, (name, said) in _GAUGES.items():
            family = GaugeMetricFamily(name, said, labels=["topic", "group"])
            for row in found:
                family.add_metric([row["topic"], row["group_name"]], float(row[column]))
            yield family

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask the database."""
        return ()

    def _ask(self) -> list[dict[str, Any]]:
        with self._lock:
            if self._clock() - self._asked_at >= FRESH_SECONDS:
                self._rows = self._look()
                self._asked_at = self._clock()
            return self._rows

    def _look(self) -> list[dict[str, Any]]:
        try:
            with connect_sync(self._url, name="metrics", settings=self._settings) as connection:
                return measure_groups(connection, most=MOST)
        except (psycopg.Error, AppError) as error:
            _log.warning("the topics' gauges cannot be read: %s", str(error).partition("\n")[0])
            return []
