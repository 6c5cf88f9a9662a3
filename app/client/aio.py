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
from .message import Message, Published, arguments, one_message, published
from .places import AsyncPlace, run_async
from .statements import ENQUEUE_JOB, PUBLISH_MESSAGES


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
    start_by: datetime | None = ...,
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


async def publish(
    place: AsyncPlace,
    topic: str,
    message: Any,
    *,
    key: str | None = None,
    headers: Mapping[str, Any] | None = None,
    message_id: UUID | None = None,
    dedup_key: str | None = None,
    schema_version: int = 1,
    wake: bool = True,
) -> Published:
    """Publish one message in `place`'s transaction; see `tandem.publish`."""
    one = one_message(message, key, headers, message_id, dedup_key, schema_version)
    return (await publish_many(place, topic, [one], wake=wake))[0]


async def publish_many(
    place: AsyncPlace,
    topic: str,
    messages: Sequence[Message],
    *,
    wake: bool = True,
    on_conflict: OnConflict = "raise",
) -> list[Published]:
    """Publish up to 1,000 messages with one statement; see `tandem.publish_many`."""
    if not messages:
        return []
    rows = await run_async(place, PUBLISH_MESSAGES, arguments(topic, messages, wake=wake))
    return published(topic, messages, rows, on_conflict=on_conflict)


__all__ = ["enqueue", "enqueue_copy", "enqueue_many", "publish", "publish_many"]
