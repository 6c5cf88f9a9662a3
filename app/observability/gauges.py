"""Gauges of the whole database, asked when somebody scrapes: the same on every process, so never to be summed.

While the database is away they are absent: an old number would be worse than none.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from time import monotonic
from typing import Final, NamedTuple

import psycopg
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.config import Settings
from app.database.connect import connect_sync
from app.database.deadline import BoundedConnection
from app.domains.conversations.repository import Waiting, count_waiting
from app.domains.customers.load import Load, measure_load
from app.errors import AppError
from app.queue.measure import Lag, QueueFigures, measure_lag, measure_queues
from app.queue.scaling import measure_demand, wanted_slots

FRESH_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 2
MOST: Final = 100_000
"""Counting ends here: an alert needs to know that it is too many, not how many."""

_log = logging.getLogger(__name__)


class Figures(NamedTuple):
    """What one look at the database found."""

    waiting: Waiting
    queues: Sequence[QueueFigures]
    lag: Lag
    load: Load
    wanted: int


class DatabaseGauges(Collector):
    """One small connection, used by one scrape at a time; what it said is good for FRESH_SECONDS."""

    def __init__(self, url: str, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        self._url = url
        patience = {"connect_timeout_seconds": PATIENCE_SECONDS, "call_timeout_seconds": PATIENCE_SECONDS}
        self._settings = settings.database.model_copy(update=patience)
        # What the fallback had two turns to take, and did not.
        self._grace = 2 * settings.sweeper.reconcile_every_seconds
        self._late = 2 * settings.customers.health_every_seconds
        self._worker = settings.worker
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: BoundedConnection | None = None
        self._asked_at = float("-inf")
        self._figures: Figures | None = None

    def collect(self) -> Iterable[Metric]:
        """The gauges; called by a scrape."""
        figures = self._ask()
        yield GaugeMetricFamily(
            "tandem_database_up",
            "Whether this process reaches the database",
            value=float(figures is not None),
        )
        if figures is None:
            return
        yield from _of_queues(figures.queues)
        yield from _of_lag(figures.lag)
        yield from _of_customers(figures.load)
        yield GaugeMetricFamily(
            "tandem_workers_wanted",
            "Worker processes like this that the queues ask for (max over processes, never sum)",
            value=figures.wanted,
        )
        waiting = figures.waiting
        yield GaugeMetricFamily(
            "conversation_events_pending",
            "Events that are PENDING in the whole database (max over processes, never sum)",
            value=waiting.pending,
        )
        yield GaugeMetricFamily(
            "conversation_events_missed",
            "Overdue events that neither queue nor fallback took (max over processes, never sum)",
            value=waiting.missed,
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask the database."""
        return ()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _ask(self) -> Figures | None:
        with self._lock:
            if self._clock() - self._asked_at >= FRESH_SECONDS:
                self._figures = self._look()
                self._asked_at = self._clock()
            return self._figures

    def _look(self) -> Figures | None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect_sync(self._url, name="metrics", settings=self._settings)
            return Figures(
                count_waiting(self._connection, grace=self._grace, most=MOST),
                measure_queues(self._connection, most=MOST),
                measure_lag(self._connection, most=MOST),
                measure_load(self._connection, late=self._late, most=MOST),
                self._wanted(self._connection),
            )
        except (psycopg.Error, AppError) as error:
            _log.warning("the gauges cannot be read: %s", str(error).partition("\n")[0])
            self._drop()
            return None

    def _wanted(self, connection: BoundedConnection) -> int:
        own = self._worker
        slots = wanted_slots(measure_demand(connection, list(own.queues)), drain=own.scale_within_seconds)
        return ceil(slots / own.slots)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _of_queues(queues: Sequence[QueueFigures]) -> Iterable[Metric]:
    jobs = GaugeMetricFamily(
        "tandem_queue_jobs",
        "Jobs of a queue by where they stand (max over processes, never sum)",
        labels=["queue", "state"],
    )
    oldest = GaugeMetricFamily(
        "tandem_queue_oldest_ready_seconds",
        "How long the oldest ready job of a queue has waited (max over processes, never sum)",
        labels=["queue"],
    )
    held = GaugeMetricFamily(
        "tandem_queue_oldest_blocked_seconds",
        "How long the oldest job of a managed queue has waited for admission (max over processes, never sum)",
        labels=["queue"],
    )
    paused = GaugeMetricFamily("tandem_queue_paused", "Whether a queue is paused", labels=["queue"])
    for one in queues:
        for state in ("ready", "scheduled", "blocked", "running"):
            jobs.add_metric([one.queue, state], getattr(one, state))
        oldest.add_metric([one.queue], one.oldest_seconds)
        held.add_metric([one.queue], one.oldest_blocked_seconds)
        paused.add_metric([one.queue], float(one.paused))
    return jobs, oldest, held, paused


def _of_lag(lag: Lag) -> Iterable[Metric]:
    never = "(max over processes, never sum)"
    yield GaugeMetricFamily(
        "tandem_lease_overdue_seconds",
        f"Since when the earliest expired lease waits for its rescue {never}",
        value=lag.rescue_seconds,
    )
    yield GaugeMetricFamily(
        "tandem_promote_overdue_seconds",
        f"Since when the earliest due job waits to become ready {never}",
        value=lag.promote_seconds,
    )
    yield GaugeMetricFamily(
        "tandem_dead_letters", f"Dead letters that are kept {never}", value=lag.dead_letters
    )


def _of_customers(load: Load) -> Iterable[Metric]:
    never = "(max over processes, never sum)"
    yield GaugeMetricFamily(
        "customer_queue_jobs",
        f"Running and waiting jobs that count against the capacity {never}",
        value=load.load,
    )
    yield GaugeMetricFamily(
        "customer_queue_capacity", f"The configured capacity {never}", value=load.capacity
    )
    healthy = GaugeMetricFamily(
        "customer_workflow_healthy", f"Whether a workflow's canary came through {never}", labels=["workflow"]
    )
    for name, well in load.healthy.items():
        healthy.add_metric([name], float(well))
    yield healthy
