"""The fallback: overdue events without a living job get one again. Run by the sweeper, safe in many at once."""

import logging
from typing import Final

from app import events
from app.config import ConversationSettings
from app.database.deadline import BoundedAsyncConnection
from app.domains.conversations import repository
from app.domains.conversations.facts import FallbackChecked

MOST_BATCHES: Final = 50
"""Per run, so that one run of the sweeper stays short; the next one goes on."""
MOST_NAMES: Final = 10

_log = logging.getLogger(__name__)


async def repair(connection: BoundedAsyncConnection, settings: ConversationSettings) -> int:
    """Enqueue lost events again, in batches of `fallback_batch`, each its own transaction; answers how many.

    `connection` is in autocommit. Events whose job lives are only looked at again later.
    """
    total = 0
    checked = alive = closed = 0
    for _ in range(MOST_BATCHES):
        batch = await repository.repair_events(
            connection, most=settings.fallback_batch, fallback=settings.fallback_delay_seconds
        )
        checked, alive, closed = checked + batch.checked, alive + batch.alive, closed + batch.closed
        total += len(batch.reprocessed)
        if batch.reprocessed:
            names = ", ".join(batch.reprocessed[:MOST_NAMES])
            _log.warning("%d conversations had no job and got a new one: %s", len(batch.reprocessed), names)
        if batch.checked < settings.fallback_batch:
            break
    events.publish(FallbackChecked(checked=checked, alive=alive, closed=closed, reprocessed=total))
    return total
