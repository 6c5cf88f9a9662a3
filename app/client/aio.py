"""The functions of the client for asynchronous connections: the same names, awaited.

`place` is psycopg's AsyncConnection, SQLAlchemy's AsyncConnection or AsyncSession (on psycopg or asyncpg), or
asyncpg's Connection, also as a pool lends it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, overload
from uuid import UUID

from .batch import OnConflict, answers, enqueue_call, one_job, plain_parameters
from .bulk import copy_async
from .job import Enqueued, Job, OnFailure, Unique
from .places import AsyncPlace, run_async
from .statements import ENQUEUE_JOB


@overload
async def enqueue(
    place: AsyncPlace,
    kind: str,
    payload: Any = None,
    *,
    queue: str = ...,
    priority: int = ...,
    run_at: datetime | None = ...,
    partition_key: str | None = ...,
    event_id: UUID | None = ...,
    unique: Unique | None = ...,
    policy: Mapping[str, Any] | None = ...,
    context: Mapping[str, Any] | None = ...,
    after: Sequence[int] = ...,
    on_failure: OnFailure = ...,
    wake: bool = True,
) -> Enqueued: ...
@overload
async def enqueue(place: AsyncPlace, kind: Job, /, *, wake: bool = True) -> Enqueued: ...
async def enqueue(
    place: AsyncPlace, kind: str | Job, payload: Any = None, *, wake: bool = True, **options: Any
) -> Enqueued:
    """Enqueue one job in `place`'s transaction; see `tandem.enqueue`."""
    job = one_job(kind, payload, options)
    if wake and (plain := plain_parameters(job)) is not None:
        return Enqueued((await run_async(place, ENQUEUE_JOB, plain))[0][0], created=True)
    return (await enqueue_many(place, [job], wake=wake))[0]


async def enqueue_many(
    place: AsyncPlace, jobs: Sequence[Job], *, wake: bool = True, on_conflict: OnConflict = "raise"
) -> list[Enqueued]:
    """Enqueue up to 1,000 jobs with one statement; see `tandem.enqueue_many`."""
    if not jobs:
        return []
    rows = await run_async(place, *enqueue_call(jobs, wake=wake))
    return answers(jobs, rows, on_conflict=on_conflict)


async def enqueue_copy(place: AsyncPlace, jobs: Iterable[Job], *, wake: bool = True) -> list[int]:
    """Enqueue any number of jobs through COPY; see `tandem.enqueue_copy`."""
    return await copy_async(place, jobs, wake=wake)


__all__ = ["enqueue", "enqueue_copy", "enqueue_many"]
