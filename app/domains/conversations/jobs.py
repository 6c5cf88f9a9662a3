"""The conversations' kind of job, and its repair: what a worker process registers.

The kind's name stands in the statements that enqueue it, too.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import psycopg
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app import events
from app.config import Settings
from app.database.deadline import BoundedAsyncConnection
from app.domains.conversations import repository
from app.domains.conversations.facts import ProcessingCrashed
from app.domains.conversations.fallback import repair
from app.domains.conversations.processing import ProcessConversation, Processor
from app.queue.kinds import Change, Kind, Registry
from app.queue.retry import Retrying, RetryPolicy

KIND: Final = "process_conversation_event"
QUEUE: Final = "conversations"
Repair = Callable[[BoundedAsyncConnection], Awaitable[int]]


def register(registry: Registry, *, sessions: async_sessionmaker[AsyncSession], settings: Settings) -> None:
    """Add the kind to a worker's registry. Raises ConfigurationError for weights that make no sense."""
    own = settings.conversations
    delays = own.retry_delays_seconds
    registry.add(
        Kind(
            name=KIND,
            handler=Processor(sessions, own).handle,
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
