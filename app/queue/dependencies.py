"""Jobs that wait for other jobs: lets them go when those have ended. Enqueue makes them wait (after=[...]).

Ids only grow and a job waits for earlier ones alone, so there is no circle to look for. The end of a job knows nothing
of who waits for it and costs nothing more; a sweep looks whether the awaited jobs have ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from app.queue.admin import end_cancelled
from app.queue.kinds import Registry
from app.queue.store import Store


@dataclass(slots=True)
class Released:
    """What a look did: jobs that may run now, jobs that were cancelled, and the queues to wake."""

    free: int = 0
    cancelled: int = 0
    queues: set[str] = field(default_factory=set)


async def release_dependents(
    connection: AsyncConnection[Any], registry: Registry, *, after: int = 0, most: int = 1000
) -> tuple[Released, int | None]:
    """Look at the next `most` awaited jobs behind `after`; answers what was done, and where to go on (None: nowhere).

    Dependents of kinds whose hook is not known here keep their cancel request for a sweeper that knows it.
    """
    store, report = Store(connection), Released()
    looked, last, ended = await store.find_ended_parents(after=after, most=most)
    if ended:
        doomed = await _release(store, ended, report)
        report.cancelled = await end_cancelled(connection, registry, doomed)
    return report, last if looked == most else None


async def _release(store: Store, ended: Sequence[int], report: Released) -> list[int]:
    doomed: list[int] = []
    async with store.connection.transaction():
        for row in await store.release_dependents(ended):
            if row.doomed:
                doomed.append(row.job_id)
            else:
                report.free += 1
                report.queues.add(row.queue)
    return doomed
