"""Writing failed tries: retry, dead letter or cancel, with the kind's hook in the same transaction.

Used by workers for their own jobs and by the sweeper for jobs whose worker is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from app.queue.job import is_delivery
from app.queue.kinds import Change, Registry, Transition, call_hook
from app.queue.store import Failed, Moved, Store


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A failed try with what its hook needs. `failed.outcome` decides, or RETRY when `again` is set."""

    kind: str
    event_id: UUID | None
    failed: Failed
    again: bool = False
    code: str | None = None


async def settle(
    connection: AsyncConnection[Any], registry: Registry, jobs: Sequence[FailedJob], *, note: bool = True
) -> dict[int, Transition]:
    """Write failed tries in one flushed transaction, hooks included; answers what each job became.

    Jobs that are not answered were no longer ours. A job to retry that somebody asked to cancel becomes CANCELLED.
    With `note` the audit log hears of those that deliver messages; callers who tell it more than that write their own
    entry. Raises what a hook raises: then nothing of this call is written.
    """
    store = Store(connection)
    became: dict[int, Transition] = {}
    by_id = {job.failed.job_id: job for job in jobs}
    async with connection.transaction():
        # Flushed; and the transaction has its id before any clock is read, as the sweeper's floors need it.
        await connection.execute(
            "SELECT set_config('synchronous_commit', 'on', true), pg_current_xact_id()::text"
        )
        moves: list[tuple[Moved, Transition]] = []
        retries = [job.failed for job in jobs if job.again]
        if retries:
            moves += [(moved, "RETRY") for moved in await store.retry_jobs(retries)]
        again = {moved.job_id for moved, _ in moves}
        closing = [job.failed for job in jobs if not job.again]
        closing += [_cancelled(one) for one in retries if one.job_id not in again]
        if closing:
            outcomes = {one.job_id: one.outcome for one in closing}
            for moved in await store.close_jobs(closing):
                moves.append((moved, "CANCELLED" if outcomes[moved.job_id] == "CANCELLED" else "DEAD"))
        if note:
            await note_deliveries(store, [by_id[moved.job_id] for moved, _ in moves])
        for moved, transition in moves:
            became[moved.job_id] = transition
            await run_hook(connection, registry, by_id[moved.job_id], moved, transition)
    return became


async def note_deliveries(store: Store, tried: Sequence[FailedJob]) -> None:
    """Let the audit log hear of those of these failed tries that deliver messages."""
    pairs = [(one.failed.job_id, one.failed.token) for one in tried if is_delivery(one.kind)]
    if pairs:
        await store.note_tries(pairs)


async def run_hook(
    connection: AsyncConnection[Any], registry: Registry, job: FailedJob, moved: Moved, transition: Transition
) -> None:
    """Call the kind's hook, if it has one, inside the transaction that moves the job."""
    kind = registry.get(job.kind)
    if kind is None or kind.hook is None:
        return
    change = Change(
        job_id=moved.job_id,
        event_id=job.event_id,
        kind=job.kind,
        transition=transition,
        attempt=moved.attempt,
        next_attempt_at=moved.next_attempt_at,
        error_class=job.failed.error_class,
        code=job.code,
        message=job.failed.message,
    )
    await call_hook(kind.hook, connection, change)


def _cancelled(failed: Failed) -> Failed:
    return Failed(
        job_id=failed.job_id,
        token=failed.token,
        ran_ms=failed.ran_ms,
        error_class=failed.error_class,
        message=failed.message,
        fingerprint=failed.fingerprint,
        traceback=failed.traceback,
        outcome="CANCELLED",
    )
