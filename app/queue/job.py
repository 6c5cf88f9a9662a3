"""What a job is: what producers write (NewJob, which other programs know as tandem.Job) and what a worker holds.

Knows nothing of SQL, of how a job runs, or of any domain.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

from app.client.encoding import encode_json
from app.client.job import (
    BATCH_LIMIT,
    DEFAULT_PRIORITY,
    FURTHEST,
    NAME,
    PAYLOAD_LIMIT_BYTES,
    PRIORITIES,
    Enqueued,
    Unique,
    UniqueScope,
    check_name,
)
from app.client.job import Job as NewJob
from app.queue.stored_json import read_mapping

__all__ = [
    "BATCH_LIMIT",
    "DEFAULT_PRIORITY",
    "DELIVERIES",
    "FURTHEST",
    "MOST_TRIES",
    "NAME",
    "PAYLOAD_LIMIT_BYTES",
    "PRIORITIES",
    "ClaimedJob",
    "Enqueued",
    "NewJob",
    "Unique",
    "UniqueScope",
    "check_name",
    "claimed_jobs",
    "encode_json",
    "is_delivery",
]

MOST_TRIES = 32_767
"""What the columns that count tries and crashes can hold: one more try could not even be claimed."""
DELIVERIES = "topic."
"""How the names of queues of topics' groups, and of the kinds in them, begin (sql/functions/topic_queue.sql)."""


def claimed_jobs(token: int, rows: Iterable[Sequence[Any]]) -> list["ClaimedJob"]:
    """Jobs of the rows of a claim, whose columns are those of ClaimedJob from the second to the last but one."""
    now, make = monotonic(), tuple.__new__
    return [make(ClaimedJob, (token, *row, now)) for row in rows]


def is_delivery(name: str) -> bool:
    """Whether jobs of a queue or kind of this name deliver messages: how they end is noted for the audit log."""
    return name.startswith(DELIVERIES)


class ClaimedJob(NamedTuple):
    """A job as a worker holds it. `token` fences every later write; `payload` is decoded when it is read.

    A tuple, because a worker makes one of every row that it claims: a dataclass takes four times as long.
    """

    token: int
    id: int
    position: int
    queue: str
    priority: int
    attempt: int
    crashes: int
    suspect: bool
    partition_key: str | None
    ready_at: datetime
    claimed_at: datetime
    kind: str
    raw_payload: str
    event_id: UUID | None
    raw_policy: str | None
    raw_context: str | None
    created_at: datetime
    cancelled: bool
    received_at: float
    """When the claim's answer was here, monotonic seconds."""

    def own_limit(self, name: str) -> int | None:
        """A whole number from the job's own policy (max_attempts, crash_limit); what is none counts as absent.

        Any SQL client may have written the policy, so nothing about it is certain.
        """
        limit = read_mapping(self.raw_policy).get(name)
        if not isinstance(limit, int) or isinstance(limit, bool) or limit <= 0:
            return None
        return min(limit, MOST_TRIES)

    def expired(self, start_within: float | None) -> bool:
        """Whether this is a first try that comes after the job's own deadline, or its kind's `start_within` seconds.

        By the database's clock up to the claim, then by ours. What is no time in the policy counts as absent.
        """
        own = self.raw_policy is not None and '"start_by"' in self.raw_policy
        if not own and start_within is None or self.attempt > 1 or self.suspect:
            return False
        now = self.claimed_at + timedelta(seconds=monotonic() - self.received_at)
        if start_within is not None and now > self.ready_at + timedelta(seconds=start_within):
            return True
        deadline = self._start_by() if own else None
        return deadline is not None and now > deadline

    def _start_by(self) -> datetime | None:
        told = read_mapping(self.raw_policy).get("start_by")
        try:
            deadline = datetime.fromisoformat(told) if isinstance(told, str) else None
        except ValueError:
            return None
        return deadline if deadline is not None and deadline.utcoffset() is not None else None

    @property
    def context(self) -> dict[str, Any]:
        """Request id, trace and the like, as the producer gave them."""
        return dict(read_mapping(self.raw_context))
