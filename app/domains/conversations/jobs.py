"""The conversations' kind of job, and its repair: what a worker process registers.

The kind's name stands in the statements that enqueue it, too.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg

from app import events
from app.config import ConversationSettings, Settings
from app.database.deadline import BoundedAsyncConnection
from app.database.sessions import OpenSession
from app.domains.conversations import repository
from app.domains.conversations.facts import ProcessingCrashed
from app.domains.conversations.fallback import repair
from app.domains.conversations.formula import Formula, ProcessConversation
from app.queue.kinds import Change, Kind, Registry
from app.queue.retry import Retrying, RetryPolicy
from app.queue.running import Job

if TYPE_CHECKING:
    from app.domains.conversations.processing import Processor

KIND: Final = "process_conversation_event"
QUEUE: Final = "conversations"
Repair = Callable[[BoundedAsyncConnection], Awaitable[int]]


class Processing:
    """The handler, whose module the first conversation imports: in a thread, while other jobs go on."""

    def __init__(self, sessions: OpenSession, settings: ConversationSettings) -> None:
        self._sessions = sessions
        self._settings = settings
        self._processor: Processor | None = None
        self._loading = threading.Lock()
        Formula.of(settings)  # what makes no sense is said at the start

    def load(self) -> "Processor":
        """The real one. Takes a quarter of a second the first time."""
        # layout: late-import - it brings SQLAlchemy, which a worker of other jobs does without
        from app.domains.conversations.processing import Processor  # noqa: PLC0415

        with self._loading:
            made = self._processor
            if made is None:
                self._sessions()  # opens nothing, but makes the engine
                made = self._processor = Processor(self._sessions, self._settings)
            return made

    async def handle(self, job: Job[ProcessConversation]) -> None:
        """Process one conversation."""
        processor = self._processor
        if processor is None:
            processor = await asyncio.to_thread(self.load)
        await processor.handle(job)


def register(registry: Registry, *, sessions: OpenSession, settings: Settings) -> None:
    """Add the kind to a worker's registry. Raises ConfigurationError for weights that make no sense."""
    own = settings.conversations
    delays = own.retry_delays_seconds
    processing = Processing(sessions, own)
    registry.add(
        Kind(
            name=KIND,
            handler=processing.handle,
            payload=ProcessConversation,
            timeout=own.soft_limit_seconds,
            hard_timeout=own.hard_limit_seconds,
            # Errors of class auth and permanent are final whatever this says.
            retry=Retrying(own=RetryPolicy(len(delays) + 1, delays=delays, longest=max(delays))),
            crash_limit=own.crash_limit,
            hook=follow_job,
        )
    )


def reconcilers(settings: Settings) -> list[tuple[str, Repair, float]]:
    """(name, repair, seconds between two runs) for the sweeper."""
    check = partial(repair, settings=settings.conversations)
    return [("conversations", check, settings.sweeper.reconcile_every_seconds)]


async def follow_job(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
    """The hook: the event says what its job says, in the transaction that changes the job."""
    if change.error_class == "crash":
        events.publish(ProcessingCrashed())
    if change.event_id is None:
        return
    failed = change.transition in ("DEAD", "CANCELLED")
    told = change.transition != "REDRIVEN"
    await repository.apply_change(
        connection,
        {
            "event_id": change.event_id,
            "job_id": change.job_id,
            "status": "FAILED" if failed else "PENDING",
            "attempt": change.attempt,
            "next_attempt_at": change.next_attempt_at,
            "error_code": (change.code or change.error_class) if told else None,
            "error_details": change.message if told else None,
        },
    )
