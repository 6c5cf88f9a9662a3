"""Run one job at once: its handler with the real Job object, alone or as a true job in the test's transaction."""

import asyncio
import inspect
import json
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from app.client import aio
from app.client.batch import one_job
from app.client.enqueue import enqueue
from app.client.places import AsyncPlace, SyncPlace
from app.client.statements import load
from app.errors import AppError
from app.queue.job import ClaimedJob, NewJob
from app.queue.kinds import Kind, Registry
from app.queue.outcomes import Cancel, Dead, Decision
from app.queue.retry import Failure
from app.queue.running import Job, encode_result
from workers.testing.clock import current_offset
from workers.testing.drain import report_of, until_done
from workers.testing.ground import Ground, ground_of, ground_of_async
from workers.testing.report import Ran
from workers.testing.runner import Runner, kind_of, lane_of

_POSITION = load(__package__, "find_position")


def inline(
    registry: Registry,
    kind: str | NewJob,
    payload: Any = None,
    *,
    connection: SyncPlace | None = None,
    raise_error: bool = True,
    **options: Any,
) -> Ran:
    """Run one job's handler now, in this process; answers how it ended.

    With `connection` (psycopg, alone or in SQLAlchemy) the job is enqueued there and run as a worker runs it:
    `job.transaction()` works, retries, hooks and results are written, all in the connection's transaction. Without it
    the handler is called with a Job that has no database. `options` are those of NewJob; run_at is ignored. What the
    handler raises is raised here too, unless `raise_error=False`. Raises InvalidInput, LookupError for a kind without
    handler.
    """
    job = _now(one_job(kind, payload, options))
    found = kind_of(registry, job.kind)
    if connection is None:
        return until_done(_call(found, job, raise_error), "inline")
    job_id = enqueue(connection, job).job_id
    return until_done(_run(ground_of(connection), registry, job_id, job.queue, raise_error), "inline")


async def inline_async(
    registry: Registry,
    kind: str | NewJob,
    payload: Any = None,
    *,
    connection: AsyncPlace | None = None,
    raise_error: bool = True,
    **options: Any,
) -> Ran:
    """`inline` for asynchronous tests."""
    job = _now(one_job(kind, payload, options))
    found = kind_of(registry, job.kind)
    if connection is None:
        return await _call(found, job, raise_error)
    job_id = (await aio.enqueue(connection, job)).job_id
    return await _run(await ground_of_async(connection), registry, job_id, job.queue, raise_error)


def _now(job: NewJob) -> NewJob:
    return replace(job, run_at=None)


async def _run(ground: Ground, registry: Registry, job_id: int, queue: str, raise_error: bool) -> Ran:
    async with Runner(ground, registry, slots=1) as runner:
        place = await ground.rows(_POSITION, {"job_id": job_id})
        claimed = await (runner.claim([lane_of(*place[0], alone=True)]) if place else runner.admit(queue))
        if [job.id for job in claimed] != [job_id]:
            raise AssertionError(
                f"job {job_id} is not ready: its unique key has an older job, its queue is paused, or a limit "
                "or another job of its managed queue comes before it"
            )
        await runner.run(claimed)
        (ran,) = (await report_of(runner)).jobs
    if raise_error and ran.error is not None:
        raise ran.error
    return ran


async def _call(kind: Kind, job: NewJob, raise_error: bool) -> Ran:
    """The handler alone, as its executor would call it."""
    running: Job[Any] = Job(_claimed(job), kind, open_async=_no_database, open_sync=_no_database)
    work: Any = [running] if kind.batch is not None else running
    status, answer, failure = "SUCCEEDED", None, None
    try:
        if inspect.iscoroutinefunction(kind.handler):
            answer = await kind.handler(work)
        else:
            answer = await asyncio.to_thread(kind.handler, work)
        if kind.batch is not None:
            answer = None if answer is None else answer[0]
        if isinstance(answer, BaseException):
            raise answer
    except Exception as error:
        if raise_error:
            raise
        verdict = kind.retry.decide(
            Failure.of(error), 1, max_attempts=running.claimed.own_limit("max_attempts")
        )
        status, failure = "DEAD" if verdict.delay is None else "PENDING", error
    decided = answer if isinstance(answer, Decision) else None
    if decided is not None:
        status = {Cancel: "CANCELLED", Dead: "DEAD"}.get(type(decided), "PENDING")
    message = decided.reason if decided is not None else None
    if failure is not None:
        message = f"{type(failure).__name__}: {failure}"
    result = None if decided is not None or failure is not None else encode_result(answer)
    return Ran(
        job_id=running.id,
        kind=kind.name,
        queue=job.queue,
        status=status,
        attempt=running.attempt,
        tries=1,
        result=None if result is None else json.loads(result),
        error=failure,
        message=message,
    )


def _no_database() -> Any:
    raise AppError("no-connection", "job.transaction() needs a database: inline(..., connection=...)")


def _claimed(job: NewJob) -> ClaimedJob:
    now = datetime.now(UTC) + current_offset()
    return ClaimedJob(
        token=secrets.randbits(63),
        id=0,
        position=0,
        queue=job.queue,
        priority=job.priority,
        attempt=1,
        crashes=0,
        suspect=False,
        partition_key=job.partition_key,
        ready_at=now,
        claimed_at=now,
        kind=job.kind,
        raw_payload=job.body(),
        event_id=job.event_id,
        raw_policy=None if job.policy is None else json.dumps(dict(job.policy)),
        raw_context=None if job.context is None else json.dumps(dict(job.context)),
        created_at=now,
        cancelled=False,
        received_at=monotonic(),
    )
