"""Metrics of the HTTP edge: requests by route and status, and how long they took."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from app import events
from app.api.facts import Denied, Gathered, RequestEnded
from app.events import Unsubscribe

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)


class HttpMetrics:
    """Labels hold route templates only, so that nobody can make series by asking for odd paths."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "tandem_http_requests_total",
            "Requests answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "tandem_http_request_seconds",
            "From the request's head to the end of its answer",
            ["route"],
            buckets=BOUNDS,
            registry=registry,
        )

        self._denied = Counter(
            "tandem_http_denied_total",
            "Calls refused for their caller: by what was wrong with the credential, or forbidden",
            ["reason", "route"],
            registry=registry,
        )
        self._gathered = Histogram(
            "tandem_http_gathered_requests",
            "Requests written in one transaction (docs/conversations.md)",
            buckets=SIZES,
            registry=registry,
        )
        self._refused = Counter(
            "tandem_http_gathered_failed_total",
            "Transactions of several requests that failed, so that each request went alone or was answered 503",
            registry=registry,
        )
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def listen(self) -> list[Unsubscribe]:
        """Subscribe to the edge's facts."""
        return [
            events.subscribe(RequestEnded, self._on_ended),
            events.subscribe(Denied, self._on_denied),
            events.subscribe(Gathered, self._on_gathered),
        ]

    def _on_ended(self, fact: RequestEnded) -> None:
        labels = fact.method, fact.route, fact.status
        # As few as the series themselves; each look-up by labels would take two locks.
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = (
                self._requests.labels(fact.method, fact.route, str(fact.status)),
                self._seconds.labels(fact.route),
            )
        series[0].inc()
        series[1].observe(fact.seconds)

    def _on_gathered(self, fact: Gathered) -> None:
        self._gathered.observe(fact.size)
        if fact.failed:
            self._refused.inc()

    def _on_denied(self, fact: Denied) -> None:
        self._denied.labels(fact.reason, fact.route).inc()
