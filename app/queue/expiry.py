"""Start deadlines: a job that waited too long for its first try ends as a dead letter of class `expired`.

A job has its own (start_by), a kind may have one for all its jobs (start_within). The sweep ends what waits; a worker
looks before it starts a job, so that none ever starts late.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from app.queue.admin import HOOK_PATIENCE, flushed, tell_hook
from app.queue.expiry_store import ExpiryStore
from app.queue.kinds import Registry

REASON = "it was not started in time"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Expired:
    """What a look did: jobs that ended, and jobs whose hook failed."""

    jobs: list[int] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)


async def expire_overdue(
    connection: AsyncConnection[Any], registry: Registry, *, after: datetime, most: int = 500
) -> Expired:
    """End waiting jobs whose own deadline lies in (after, now], in transactions of `most`, with their hooks."""
    store, report = ExpiryStore(connection), Expired()
    while found := await store.find_overdue(after=after, hooked_kinds=registry.hooked, most=most):
        await _expire(connection, registry, [(row["job_id"], row["start_by"]) for row in found], report)
        if len(found) < most:
            break
        if report.failed:
            after = found[-1]["start_by"]  # those that failed stay, and are tried again at the next turn
    return report


async def expire_stale(
    connection: AsyncConnection[Any], registry: Registry, *, after: int, most: int = 2000
) -> tuple[Expired, int]:
    """Look at the next `most` waiting jobs behind `after` for those past their kind's time; answers where to go on."""
    report = Expired()
    kinds = {kind.name: kind.start_within for kind in registry if kind.start_within is not None}
    if not kinds:
        return report, 0
    looked, last, stale = await ExpiryStore(connection).find_stale(after=after, kinds=kinds, most=most)
    if stale:
        await _expire(connection, registry, [(job, None) for job in stale], report)
    return report, last if last is not None and looked == most else 0


async def _expire(
    connection: AsyncConnection[Any],
    registry: Registry,
    jobs: Sequence[tuple[int, datetime | None]],
    report: Expired,
) -> None:
    """All in one transaction, or, when a hook raises, each in its own."""
    try:
        async with flushed(connection):
            await connection.execute(HOOK_PATIENCE)
            rows = await ExpiryStore(connection).expire_jobs(
                [job for job, _ in jobs], deadlines=[at for _, at in jobs], reason=REASON
            )
            for row in rows:
                await tell_hook(connection, registry, row, "DEAD", error_class="expired")
    except Exception as error:
        if connection.closed:
            raise
        if len(jobs) == 1:
            report.failed.add(jobs[0][0])
            _log.error("job %s cannot be expired: %s", jobs[0][0], error, exc_info=error)
            return
        for one in jobs:
            await _expire(connection, registry, [one], report)
        return
    report.jobs += [row["job_id"] for row in rows]
