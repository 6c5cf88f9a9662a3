"""Enqueue in the caller's transaction: psycopg and SQLAlchemy, sync and async.

The job commits or rolls back with what the caller writes beside it. One round trip, however many jobs.
"""

from collections.abc import Sequence
from typing import Any, TypeVar, overload

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import Connection as AlchemyConnection
from sqlalchemy.ext.asyncio import AsyncConnection as AlchemyAsyncConnection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.errors import Conflict, InvalidInput
from app.queue.job import Enqueued, NewJob, encode_json
from app.queue.store import statement

SyncPlace = psycopg.Connection[Any] | AlchemyConnection | Session
AsyncPlace = psycopg.AsyncConnection[Any] | AlchemyAsyncConnection | AsyncSession
Driver = TypeVar("Driver")
BATCH_LIMIT = 1_000
_POLICY_LIMIT = 8 * 1024


class UniqueConflict(Conflict):
    """A unique key names a job with another payload; `detail` has the key and the first job's id."""


def enqueue(place: SyncPlace, job: NewJob, *, wake: bool = True) -> Enqueued:
    """Enqueue one job in `place`'s transaction. See `enqueue_many`."""
    return enqueue_many(place, [job], wake=wake)[0]


def enqueue_many(place: SyncPlace, jobs: Sequence[NewJob], *, wake: bool = True) -> list[Enqueued]:
    """Enqueue up to 1,000 jobs with one statement in `place`'s transaction; answers follow the order given.

    `wake=True` wakes sleeping workers when the transaction commits; with False the caller calls tandem.wake(lanes)
    after its commit, or the workers find the job by polling. Raises InvalidInput, or UniqueConflict when a unique key
    belongs to another payload: then nothing of this call may be committed.
    """
    connection = _driver(place)
    if not jobs:
        return []
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)  # whatever kind and rows the caller prefers
    cursor.execute(statement("enqueue", "enqueue_jobs"), parameters(jobs, wake=wake))
    return _answers(jobs, cursor.fetchall())


async def enqueue_async(place: AsyncPlace, job: NewJob, *, wake: bool = True) -> Enqueued:
    """Enqueue one job in `place`'s transaction. See `enqueue_many`."""
    return (await enqueue_many_async(place, [job], wake=wake))[0]


async def enqueue_many_async(
    place: AsyncPlace, jobs: Sequence[NewJob], *, wake: bool = True
) -> list[Enqueued]:
    """`enqueue_many` for async connections and sessions."""
    connection = await _driver_async(place)
    if not jobs:
        return []
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    await cursor.execute(statement("enqueue", "enqueue_jobs"), parameters(jobs, wake=wake))
    return _answers(jobs, await cursor.fetchall())


def parameters(jobs: Sequence[NewJob], *, wake: bool) -> dict[str, Any]:
    """The statement's arrays; a column that no job uses goes as NULL. Raises InvalidInput."""
    if len(jobs) > BATCH_LIMIT:
        raise InvalidInput("batch-too-large", f"{len(jobs)} jobs in one call, the limit is {BATCH_LIMIT}")

    def column(values: list[Any]) -> list[Any] | None:
        return values if any(value is not None for value in values) else None

    def small_json(value: Any) -> str | None:
        return None if value is None else encode_json(dict(value), limit=_POLICY_LIMIT, what="policy")

    uniques = [job.unique for job in jobs]
    return {
        "kinds": [job.kind for job in jobs],
        "payloads": [job.body() for job in jobs],
        "queues": [job.queue for job in jobs],
        "priorities": [job.priority for job in jobs],
        "run_ats": column([job.run_at for job in jobs]),
        "partition_keys": column([job.partition_key for job in jobs]),
        "event_ids": column([job.event_id for job in jobs]),
        "policies": column([small_json(job.policy) for job in jobs]),
        "contexts": column([small_json(job.context) for job in jobs]),
        "unique_keys": column([one and one.key for one in uniques]),
        "unique_scopes": column([one and one.scope for one in uniques]),
        "unique_periods": column([one and one.period for one in uniques]),
        "wake": "commit" if wake else "none",
    }


def _answers(jobs: Sequence[NewJob], rows: Sequence[tuple[Any, ...]]) -> list[Enqueued]:
    for job, (job_id, _, same_body) in zip(jobs, rows, strict=True):
        if not same_body and job.unique is not None:
            raise UniqueConflict(
                "unique-key-conflict",
                f"unique key {job.unique.key!r} in queue {job.queue!r} belongs to job {job_id} with another payload",
                detail={"key": job.unique.key, "queue": job.queue, "job_id": job_id},
            )
    return [Enqueued(row[0], row[1]) for row in rows]


def _driver(place: SyncPlace) -> psycopg.Connection[Any]:
    if isinstance(place, Session):
        place = place.connection()
    if isinstance(place, AlchemyConnection):
        place = _psycopg_only(place.connection.driver_connection, psycopg.Connection)
    return _psycopg_only(place, psycopg.Connection)


async def _driver_async(place: AsyncPlace) -> psycopg.AsyncConnection[Any]:
    if isinstance(place, AsyncSession):
        place = await place.connection()
    if isinstance(place, AlchemyAsyncConnection):
        raw = await place.get_raw_connection()
        place = _psycopg_only(raw.driver_connection, psycopg.AsyncConnection)
    return _psycopg_only(place, psycopg.AsyncConnection)


@overload
def _psycopg_only(found: object, wanted: type[psycopg.Connection[Any]]) -> psycopg.Connection[Any]: ...
@overload
def _psycopg_only(
    found: object, wanted: type[psycopg.AsyncConnection[Any]]
) -> psycopg.AsyncConnection[Any]: ...
def _psycopg_only(found: object, wanted: type[Any]) -> Any:
    if not isinstance(found, wanted):
        raise InvalidInput(
            "unknown-connection",
            f"cannot enqueue through {type(found).__name__}: expected {wanted.__module__.split('.')[0]}'s"
            f" {wanted.__name__}, or SQLAlchemy on postgresql+psycopg",
        )
    return found
