"""Why a job does not run: tandem.explain as Python sees it. Reads only; the reasons are found in SQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from app.queue.admin_store import AdminStore

UNKNOWN_JOB = "unknown-job"
CODES = (
    *("waiting", "queue-paused", "no-worker", "kind-unknown", "not-due", "due", "no-sweeper"),
    *("blocked-limit", "blocked-key", "blocked-job", "blocked-queue"),
    *("running", "suspect", "suspect-waits", "lease-overdue", "cancel-asked", "start-deadline"),
    *("succeeded", "dead", "cancelled", "lost", UNKNOWN_JOB),
)
"""Every reason there is."""
_LAST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason. `code` is stable, for programs; `text` is for people; the times are None where they mean nothing."""

    code: str
    text: str
    since: datetime | None
    until: datetime | None


async def explain_job(connection: AsyncConnection[Any], job_id: int) -> list[Reason]:
    """Why the job does not run, or how it ended, what matters most first; `unknown-job` alone when there is none."""
    # An id that is none at all is as unknown as one that was never given out.
    rows = await AdminStore(connection).explain_job(job_id if 0 < job_id <= _LAST_ID else 0)
    return [Reason(row["reason"], row["explanation"], row["since"], row["until"]) for row in rows]
