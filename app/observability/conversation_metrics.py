"""The conversations' metrics, by the names of the product page. Their meaning and alerts: docs/conversations.md."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from app import events
from app.domains.conversations.facts import FallbackChecked, ProcessingCrashed, ProcessingStarted
from app.domains.conversations.jobs import KIND
from app.events import Unsubscribe
from app.queue.facts import Ended

PROCESSING_BOUNDS: Final = (0.1, 0.5, 1, 2, 5, 10)
WAKE_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, *PROCESSING_BOUNDS, 60)


class ConversationMetrics:
    """Counters and histograms of this process; `listen` starts them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._processed = Counter(
            "conversation_events_processed_total",
            "Tries to process a conversation that ended in this process",
            ["status"],
            registry=registry,
        )
        self._success = self._processed.labels("success")
        self._failure = self._processed.labels("failure")
        self._waited = Histogram(
            "conversation_event_wake_to_start_seconds",
            "From the moment the job was ready to the start of its handler",
            buckets=WAKE_BOUNDS,
            registry=registry,
        )
        self._processing = Histogram(
            "conversation_event_processing_seconds",
            "How long the handler ran",
            buckets=PROCESSING_BOUNDS,
            registry=registry,
        )
        self._checks = Counter(
            "conversation_events_fallback_check_total",
            "Runs of the fallback check in this process",
            registry=registry,
        )
        self._reprocessed = Counter(
            "conversation_events_reprocessed_total",
            "Events that the fallback gave a new job",
            registry=registry,
        )

    def listen(self) -> list[Unsubscribe]:
        """Subscribe to the facts."""
        return [
            events.subscribe(ProcessingStarted, lambda fact: self._waited.observe(fact.waited)),
            events.subscribe(ProcessingCrashed, lambda _: self._failure.inc()),
            events.subscribe(Ended, self._on_ended),
            events.subscribe(FallbackChecked, self._on_checked),
        ]

    def _on_ended(self, fact: Ended) -> None:
        for outcome in fact.outcomes:
            if outcome.job.kind != KIND:
                continue
            if outcome.result == "success":
                self._success.inc()
            elif outcome.result in ("retry", "dead"):
                self._failure.inc()
            else:
                continue  # cancelled on request, or counted by whoever has the job now
            self._processing.observe(outcome.seconds)

    def _on_checked(self, fact: FallbackChecked) -> None:
        self._checks.inc()
        self._reprocessed.inc(fact.reprocessed)
