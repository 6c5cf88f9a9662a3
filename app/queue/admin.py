"""What operators read and do: look at jobs and queues, redrive dead letters, cancel, pause.

Everything that changes a job calls its kind's hook in the same transaction, and its commit is flushed; the audit log
hears `by` whom when it delivers a message. Inside a transaction of the caller's these calls are part of it.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from psycopg import AsyncConnection

from app.errors import Conflict, InvalidInput, NotFound
from app.queue.admin_store import AdminStore, Row
from app.queue.delivery_notes import note_deliveries
from app.queue.kinds import Change, Registry, Transition, call_hook
from app.queue.pace import Pace

Connection = AsyncConnection[Any]
Death = tuple[int, datetime | None]
Status = Literal["PENDING", "RUNNING", "SUCCEEDED", "DEAD", "CANCELLED"]
STATUSES: tuple[Status, ...] = ("PENDING", "RUNNING", "SUCCEEDED", "DEAD", "CANCELLED")
PAGE_LIMIT = 1_000
REDRIVE_BATCH = 100
HOOK_PATIENCE = "SET LOCAL lock_timeout = '2s'"
"""A hook that waits for a lock holds up only its own job."""
_LAST_ID = 2**63 - 1
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 31, tzinfo=UTC)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Redriven:
    """What `redrive_jobs` did: ids that are ready again, and why others are not (id to reason)."""

    jobs: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)


# --- read ----------------------------------------------------------------------------------------------------


async def read_job(connection: Connection, job_id: int) -> Row:
    """A job's full status: the columns of tandem.job_status, payload, result, `attempts`. Raises NotFound.

    `attempts` are the tries that did not succeed, each with error class, message and traceback.
    """
    store = AdminStore(connection)
    found = await store.read_job(job_id) if 0 < job_id <= _LAST_ID else None
    if found is None:
        raise _no_job(job_id)
    return {**found, "attempts": await store.list_attempts(job_id)}


async def list_jobs(
    connection: Connection,
    *,
    status: Status | None = None,
    kind: str | None = None,
    queue: str | None = None,
    limit: int = 50,
    before: int | None = None,
) -> list[Row]:
    """Jobs, newest first; the next page is `before` the last id of this one. Raises InvalidInput."""
    if status is not None and status not in STATUSES:
        raise InvalidInput("invalid-status", f"status {status!r} is none of {', '.join(STATUSES)}")
    return await AdminStore(connection).list_jobs(
        status=status,
        kind=kind,
        queue=queue,
        before=_LAST_ID if before is None else before,
        most=_page(limit),
    )


async def list_queues(connection: Connection) -> list[Row]:
    """Every queue that is declared or holds jobs, with what waits, runs and died, and since when it is paused."""
    return await AdminStore(connection).list_queues()


async def list_dead_letters(
    connection: Connection,
    *,
    queue: str | None = None,
    kind: str | None = None,
    fingerprint: str | None = None,
    limit: int = 50,
    before: tuple[datetime, int] | None = None,
) -> list[Row]:
    """Dead letters, the latest first; the next page is `before` the (died_at, job_id) of the last one here."""
    return await AdminStore(connection).list_dead_letters(
        queue=queue, kind=kind, fingerprint=fingerprint, before=before or (_END, _LAST_ID), most=_page(limit)
    )


async def check_membership(connection: Connection, *, limit: int = 100) -> list[Row]:
    """Jobs that do not stand in exactly one place, and places without a job: empty in a healthy database."""
    return await AdminStore(connection).check_membership(most=_page(limit))


# --- redrive -------------------------------------------------------------------------------------------------


async def redrive_job(
    connection: Connection,
    registry: Registry,
    job_id: int,
    *,
    died_at: datetime | None = None,
    by: str | None = None,
) -> None:
    """Make a dead letter ready again, its tries counted from 0; those that failed stay readable.

    With `died_at`, the time the caller saw, a job that was redriven and died again meanwhile is left alone. Raises
    NotFound, or Conflict when the job is no such dead letter (any more), or its kind's hook is not known here.
    """
    async with flushed(connection):
        if await _redrive(connection, registry, [(job_id, died_at)], by=by):
            return
        found = await read_job(connection, job_id)
    if found["status"] == "DEAD" and (died_at is None or found["finished_at"] == died_at):
        raise Conflict(
            "hook-unknown",
            f"job {job_id} is of kind {found['kind']}, whose outcome hook this process does not know",
            detail={"kind": found["kind"]},
        )
    message = f"job {job_id} is {found['status']}, not the dead letter that was asked for"
    raise Conflict("not-dead", message, detail={"status": found["status"]})


async def redrive_jobs(
    connection: Connection,
    registry: Registry,
    *,
    queue: str | None = None,
    kind: str | None = None,
    fingerprint: str | None = None,
    until: datetime | None = None,
    limit: int = 10_000,
    rate: float | None = None,
    by: str | None = None,
    on_progress: Callable[[Redriven], None] | None = None,
) -> Redriven:
    """Redrive the dead letters that died up to `until` (default: now), the oldest first, in transactions of 100.

    At most `rate` per second; `on_progress` hears the report so far after each transaction. One that cannot be
    redriven (its hook raises) is reported and stepped over. Dead letters of kinds whose hook is not known here are
    left out. A job that dies again meanwhile is not taken a second time.
    """
    report, after, store, pace = Redriven(), (_BEGINNING, 0), AdminStore(connection), Pace(rate)
    until = until or await store.read_clock()
    while limit > len(report.jobs) + len(report.failed):
        most = pace.batch(min(REDRIVE_BATCH, limit - len(report.jobs) - len(report.failed)))
        found = await store.find_dead_jobs(
            queue=queue,
            kind=kind,
            fingerprint=fingerprint,
            until=until,
            after=after,
            hooked_kinds=registry.hooked,
            most=most,
        )
        if not found:
            break
        after = (found[-1]["died_at"], found[-1]["job_id"])
        deaths: list[Death] = [(row["job_id"], row["died_at"]) for row in found]
        await _redrive_batch(connection, registry, deaths, report, by=by)
        if on_progress is not None:
            on_progress(report)
        await pace.spent(len(found))
    return report


async def _redrive_batch(
    connection: Connection, registry: Registry, deaths: list[Death], report: Redriven, *, by: str | None
) -> None:
    """All in one transaction, or, when a hook raises, each in its own."""
    try:
        async with flushed(connection):
            report.jobs += await _redrive(connection, registry, deaths, by=by)
    except Exception as error:
        if connection.closed:
            raise
        if len(deaths) > 1:
            for one in deaths:
                await _redrive_batch(connection, registry, [one], report, by=by)
            return
        _log.warning("job %s cannot be redriven: %s", deaths[0][0], error)
        report.failed[deaths[0][0]] = f"{type(error).__name__}: {error}"


async def _redrive(
    connection: Connection, registry: Registry, deaths: list[Death], *, by: str | None
) -> list[int]:
    store = AdminStore(connection)
    rows = await store.redrive_jobs(deaths, hooked_kinds=registry.hooked)
    await note_deliveries(store, "redrive", rows, by=by)
    for row in rows:
        await tell_hook(connection, registry, row, "REDRIVEN", error_class=None)
    return [row["job_id"] for row in rows]


# --- cancel --------------------------------------------------------------------------------------------------


async def cancel_job(
    connection: Connection,
    registry: Registry,
    job_id: int,
    *,
    by: str | None = None,
    reason: str | None = None,
) -> Literal["CANCELLED", "REQUESTED"]:
    """Cancel a job: at once when it waits; when it runs, its worker is told and interrupts it.

    REQUESTED: the job runs, or its kind's hook is not known here; whoever can end it does. Raises NotFound, or
    Conflict when it has succeeded or is a dead letter.
    """
    store, asked = AdminStore(connection), list[Row]()
    async with flushed(connection):
        # Twice: between request and look the job may have moved from one waiting place to another.
        for _ in range(2):
            found = (
                await store.request_cancel(job_id, by=by, reason=reason) if 0 < job_id <= _LAST_ID else None
            )
            if found is None:
                raise _no_job(job_id)
            asked += [found | {"reason": reason}] if found["fresh"] else []
            if found["status"] in ("SUCCEEDED", "DEAD"):
                await store.forget_cancels([job_id])
                break
            if found["status"] == "CANCELLED" or await _cancel_waiting(connection, registry, [job_id]):
                return "CANCELLED"
        else:
            await note_deliveries(store, "request-cancel", asked, by=by)
            return "REQUESTED"
    message = f"job {job_id} has ended already: it is {found['status']}"
    raise Conflict("already-ended", message, detail={"status": found["status"]})


async def settle_cancels(connection: Connection, registry: Registry, *, most: int = 100) -> int:
    """End waiting jobs whose cancel was asked for where it could not be done at once; answers how many.

    For the sweeper, `most` jobs in a transaction. Forgets the requests of jobs that ended by themselves, and leaves
    those of kinds whose hook is not known here. A job whose hook raises is reported and stepped over.
    """
    ended, after, store = 0, 0, AdminStore(connection)
    while jobs := await store.find_unmet_cancels(after=after, hooked_kinds=registry.hooked, most=most):
        ended += await _settle_batch(connection, registry, jobs)
        after = jobs[-1]
    return ended


async def _settle_batch(connection: Connection, registry: Registry, jobs: list[int]) -> int:
    """All in one transaction, or, when a hook raises, each in its own."""
    try:
        async with flushed(connection):
            await connection.execute(HOOK_PATIENCE)
            ended = await _cancel_waiting(connection, registry, jobs)
            await AdminStore(connection).forget_cancels(jobs)
    except Exception as error:
        if connection.closed:
            raise
        if len(jobs) == 1:
            _log.error("job %s cannot be cancelled: %s", jobs[0], error, exc_info=error)
            return 0
        return sum([await _settle_batch(connection, registry, [job]) for job in jobs])
    return len(ended)


async def end_cancelled(connection: Connection, registry: Registry, jobs: list[int]) -> int:
    """End these jobs, for which a cancel request is there, where they wait; answers how many.

    What cannot be ended here (its hook raises or is not known) is left to `settle_cancels`.
    """
    return await _settle_batch(connection, registry, jobs) if jobs else 0


async def _cancel_waiting(connection: Connection, registry: Registry, job_ids: list[int]) -> list[int]:
    store = AdminStore(connection)
    rows = await store.cancel_waiting(job_ids, hooked_kinds=registry.hooked)
    await note_deliveries(store, "cancel", rows)
    for row in rows:
        await tell_hook(connection, registry, row, "CANCELLED", error_class="cancelled")
    return [row["job_id"] for row in rows]


# --- queues --------------------------------------------------------------------------------------------------


async def pause_queue(connection: Connection, queue: str, *, by: str | None = None) -> Row:
    """Claim nothing more from a queue; jobs that run go on. Raises NotFound when nobody knows the queue."""
    return _known(await AdminStore(connection).pause_queue(queue, by=by), queue)


async def resume_queue(connection: Connection, queue: str) -> Row:
    """Claim from a queue again and wake its workers. Raises NotFound when nobody declared the queue."""
    return _known(await AdminStore(connection).resume_queue(queue), queue)


# --- shared --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def flushed(connection: Connection) -> AsyncIterator[None]:
    """A transaction whose commit is flushed, whatever the session says."""
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = on")
        yield


async def tell_hook(
    connection: Connection, registry: Registry, row: Row, transition: Transition, *, error_class: str | None
) -> None:
    """Call the kind's hook, if it has one, inside the transaction that moves the job."""
    kind = registry.get(row["kind"])
    if kind is None or kind.hook is None:
        return
    change = Change(
        job_id=row["job_id"],
        event_id=row["event_id"],
        kind=row["kind"],
        transition=transition,
        attempt=row["attempt"],
        next_attempt_at=row["next_attempt_at"],
        error_class=error_class,
        code=error_class,
        message=row["reason"],
    )
    await call_hook(kind.hook, connection, change)


def _page(limit: int) -> int:
    if not 1 <= limit <= PAGE_LIMIT:
        raise InvalidInput("invalid-limit", f"limit is 1 to {PAGE_LIMIT}, not {limit}")
    return limit


def _known(row: Row | None, queue: str) -> Row:
    if row is None:
        raise NotFound("unknown-queue", f"no worker has declared queue {queue!r}, and no job is ready in it")
    return {name: value for name, value in row.items() if name != "woken"}


def _no_job(job_id: int) -> NotFound:
    return NotFound("unknown-job", f"there is no job {job_id}", detail={"job_id": job_id})
