"""Enqueue in the caller's transaction: the job commits or rolls back with what the caller writes beside it.

For synchronous connections; `aio` has the same functions for asynchronous ones.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, overload
from uuid import UUID

from .batch import OnConflict, answers, enqueue_call, one_job, plain_parameters
from .job import Enqueued, Job, OnFailure, Unique
from .places import SyncPlace, run
from .statements import ENQUEUE_JOB


@overload
def enqueue(
    place: SyncPlace,
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
def enqueue(place: SyncPlace, kind: Job, /, *, wake: bool = True) -> Enqueued: ...
def enqueue(
    place: SyncPlace, kind: str | Job, payload: Any = None, *, wake: bool = True, **options: Any
) -> Enqueued:
    """Enqueue one job, named by its parts or as a `Job`, in `place`'s transaction.

    `place` is a psycopg connection, or SQLAlchemy's Connection or Session on psycopg. See `Job` for the options and
    their limits, `enqueue_many` for `wake` and what is raised.
    """
    job = one_job(kind, payload, options)
    if wake and (plain := plain_parameters(job)) is not None:
        return Enqueued(run(place, ENQUEUE_JOB, plain)[0][0], created=True)
    return enqueue_many(place, [job], wake=wake)[0]


def enqueue_many(
    place: SyncPlace, jobs: Sequence[Job], *, wake: bool = True, on_conflict: OnConflict = "raise"
) -> list[Enqueued]:
    """Enqueue up to 1,000 jobs with one statement in `place`'s transaction; answers follow the order given.

    `wake=True` wakes sleeping workers when the transaction commits; with False the caller calls tandem.wake_queues
    after its commit, or the workers find the job by polling. Raises InvalidInput before anything is sent, and
    UniqueConflict when a unique key belongs to another payload: the transaction is still good, and holds the other
    jobs of the call. With `on_conflict="report"` such a job is answered with `conflict` instead. What the driver
    raises passes through.
    """
    if not jobs:
        return []
    rows = run(place, *enqueue_call(jobs, wake=wake))
    return answers(jobs, rows, on_conflict=on_conflict)
