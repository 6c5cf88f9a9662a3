"""One call's jobs as the arrays of one statement, and its rows as answers. Sends nothing."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Literal

from .encoding import encode_json
from .errors import InvalidInput, UniqueConflict
from .job import BATCH_LIMIT, DEFAULT_PRIORITY, DEFAULT_QUEUE, POLICY_LIMIT_BYTES, Enqueued, Job
from .statements import ENQUEUE_AFTER, ENQUEUE_JOBS, Statement

OnConflict = Literal["raise", "report"]

SMALL = 4096
"""Characters of a payload that stay within tandem.enqueue()'s limit however they are spelled (1e308: 309 digits)."""


def one_job(kind: str | Job, payload: Any, options: dict[str, Any]) -> Job:
    """The job that a call names: ready-made, or by its parts. Raises InvalidInput."""
    if not isinstance(kind, Job):
        return Job(kind, {} if payload is None else payload, **options)
    if payload is not None or options:
        raise InvalidInput(
            "invalid-job", "a Job has its payload and options in itself: pass nothing beside it"
        )
    return kind


def plain_parameters(job: Job) -> dict[str, Any] | None:
    """A job for the statement of one plain job; None when it needs the other one. Raises InvalidInput."""
    if job.unique is not None or job.run_at is not None or job.after or job.start_by:
        return None
    payload = job.body()
    if len(payload) > SMALL:
        return None
    return {
        "kind": job.kind,
        "payload": payload,
        "queue": job.queue,
        "priority": job.priority,
        "partition_key": job.partition_key,
        "event_id": job.event_id,
        "policy": small_json(job.policy, "policy"),
        "context": small_json(job.context, "context"),
    }


def parameters(jobs: Sequence[Job], *, wake: bool) -> dict[str, Any]:
    """The statement's arrays; a column that holds nothing but its default goes as NULL. Raises InvalidInput."""
    if len(jobs) > BATCH_LIMIT:
        raise InvalidInput(
            "batch-too-large",
            f"{len(jobs)} jobs in one call, the limit is {BATCH_LIMIT}: use enqueue_copy, or several calls",
        )

    def column(values: list[Any], default: object = None) -> list[Any] | None:
        return None if values.count(default) == len(values) else values

    uniques = [job.unique for job in jobs]
    return {
        "kinds": [job.kind for job in jobs],
        "payloads": [job.body() for job in jobs],
        "queues": column([job.queue for job in jobs], DEFAULT_QUEUE),
        "priorities": column([job.priority for job in jobs], DEFAULT_PRIORITY),
        "run_ats": column([job.run_at for job in jobs]),
        "partition_keys": column([job.partition_key for job in jobs]),
        "event_ids": column([job.event_id for job in jobs]),
        "policies": column([small_json(job.policy, "policy") for job in jobs]),
        "contexts": column([small_json(job.context, "context") for job in jobs]),
        "unique_keys": column([one and one.key for one in uniques]),
        "unique_scopes": column([one and one.scope for one in uniques]),
        "unique_periods": column([one and one.period for one in uniques]),
        "wake": wake_mode(wake),
    }


def enqueue_call(jobs: Sequence[Job], *, wake: bool) -> tuple[Statement, dict[str, Any]]:
    """The statement for these jobs and its parameters: another one where jobs wait or expire. Raises InvalidInput."""
    found = parameters(jobs, wake=wake)
    if not any(job.after or job.start_by for job in jobs):
        return ENQUEUE_JOBS, found
    found["afters"] = ["{" + ",".join(map(str, job.after)) + "}" if job.after else None for job in jobs]
    found["start_bys"] = [job.start_by for job in jobs]
    found["on_failures"] = [job.on_failure for job in jobs]
    return ENQUEUE_AFTER, found


def wake_mode(wake: bool) -> str:
    """How the SQL functions call it."""
    return "commit" if wake else "none"


def small_json(value: Any, what: str) -> str | None:
    """A policy or context as JSON text of at most 8 KiB. Raises InvalidInput."""
    return None if value is None else encode_json(dict(value), limit=POLICY_LIMIT_BYTES, what=what)


def answers(
    jobs: Sequence[Job], rows: Sequence[tuple[Any, ...]], *, on_conflict: OnConflict
) -> list[Enqueued]:
    """One answer per job. Raises UniqueConflict for the first key that belongs to another payload."""
    if on_conflict == "raise" and not all(map(itemgetter(2), rows)):
        for job, (job_id, _, same_body, *_) in zip(jobs, rows, strict=True):
            if not same_body and job.unique is not None:
                key, queue = job.unique.key, job.queue
                raise UniqueConflict(
                    "unique-key-conflict",
                    f"unique key {key!r} in queue {queue!r} belongs to job {job_id} with another payload",
                    detail={"key": key, "queue": queue, "job_id": job_id},
                )
    return [Enqueued(job_id, created, not same_body) for job_id, created, same_body, *_ in rows]
