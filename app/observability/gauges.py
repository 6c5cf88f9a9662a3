"""Gauges of the whole database, asked when somebody scrapes: the same on every process, so never to be summed.

While the database is away they are absent: an old number would be worse than none.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

import psycopg
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.config import Settings
from app.database.connect import connect_sync
from app.database.deadline import BoundedConnection
from app.domains.conversations.repository import Waiting, count_waiting
from app.errors import AppError

FRESH_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 2
MOST: Final = 100_000
"""Counting ends here: an alert needs to know that it is too many, not how many."""

_log = logging.getLogger(__name__)


class DatabaseGauges(Collector):
    """One small connection, used by one scrape at a time; what it said is good for FRESH_SECONDS."""

    def __init__(self, url: str, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        self._url = url
        patience = {"connect_timeout_seconds": PATIENCE_SECONDS, "call_timeout_seconds": PATIENCE_SECONDS}
        self._settings = settings.database.model_copy(update=patience)
        # What the fallback had two turns to take, and did not.
        self._grace = 2 * settings.sweeper.reconcile_every_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: BoundedConnection | None = None
        self._asked_at = float("-inf")
        self._waiting: Waiting | None = None

    def collect(self) -> Iterable[Metric]:
        """The gauges; called by a scrape."""
        waiting = self._ask()
        yield GaugeMetricFamily(
            "tandem_database_up",
            "Whether this process reaches the database",
            value=float(waiting is not None),
        )
        if waiting is None:
            return
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

    def _ask(self) -> Waiting | None:
        with self._lock:
            if self._clock() - self._asked_at >= FRESH_SECONDS:
                self._waiting = self._look()
                self._asked_at = self._clock()
            return self._waiting

    def _look(self) -> Waiting | None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect_sync(self._url, name="metrics", settings=self._settings)
            return count_waiting(self._connection, grace=self._grace, most=MOST)
        except (psycopg.Error, AppError) as error:
            _log.warning("the gauges cannot be read: %s", str(error).partition("\n")[0])
            self._drop()
            return None

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
