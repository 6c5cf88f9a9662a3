"""Dead letters as a heap: count them, group them by cause, and purge them for good. Redriving is in admin.py."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg import AsyncConnection

from app.errors import InvalidInput
from app.queue.admin_store import AdminStore, Row
from app.queue.delivery_notes import note_deliveries
from app.queue.pace import Pace

PURGE_BATCH = 500
GROUPS_LIMIT = 1_000
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


async def count_dead_letters(
    connection: AsyncConnection[Any],
    *,
    queue: str | None = None,
    kind: str | None = None,
    fingerprint: str | None = None,
    job_ids: Sequence[int] | None = None,
    until: datetime | None = None,
) -> int:
    """How many dead letters fit, of those that died up to `until` (default: now)."""
    store = AdminStore(connection)
    until = until or await store.read_clock()
    return await store.count_dead_letters(
        queue=queue, kind=kind, fingerprint=fingerprint, job_ids=job_ids, until=until
    )


async def group_dead_letters(
    connection: AsyncConnection[Any], *, queue: str | None = None, kind: str | None = None, limit: int = 50
) -> list[Row]:
    """Groups of one fingerprint and error class, the largest first: how many, first and last death, an example."""
    if not 1 <= limit <= GROUPS_LIMIT:
        raise InvalidInput("invalid-limit", f"limit is 1 to {GROUPS_LIMIT}, not {limit}")
    return await AdminStore(connection).group_dead_letters(queue=queue, kind=kind, most=limit)


async def purge_dead_letters(
    connection: AsyncConnection[Any],
    *,
    queue: str | None = None,
    kind: str | None = None,
    fingerprint: str | None = None,
    job_ids: Sequence[int] | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    rate: float | None = None,
    by: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Delete dead letters for good, with their jobs and failed tries; answers how many.

    Those that died up to `until` (default: now) and fit, the oldest first, in flushed transactions of at most 500,
    `rate` per second. `on_progress` hears the number so far after each. Unique keys stay, so that an old key makes
    no second job. No hook is called: for the application the job has ended when it died. The audit log hears that
    deliveries were purged `by` whom.
    """
    store, pace, purged, after = AdminStore(connection), Pace(rate), 0, (_BEGINNING, 0)
    until = until or await store.read_clock()
    while limit is None or purged < limit:
        most = pace.batch(PURGE_BATCH if limit is None else min(PURGE_BATCH, limit - purged))
        async with connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = on")
            gone = await store.purge_dead_jobs(
                queue=queue,
                kind=kind,
                fingerprint=fingerprint,
                job_ids=job_ids,
                until=until,
                after=after,
                most=most,
            )
            await note_deliveries(store, "purge", gone, by=by)
        if not gone:
            break
        purged, after = purged + len(gone), (gone[-1]["died_at"], gone[-1]["job_id"])
        if on_progress is not None:
            on_progress(purged)
        await pace.spent(len(gone))
    return purged
