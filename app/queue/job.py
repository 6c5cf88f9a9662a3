"""What a job is: what producers write (NewJob, which other programs know as tandem.Job) and what a worker holds.

Knows nothing of SQL, of how a job runs, or of any domain.
"""

from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any
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
    "encode_json",
]

MOST_TRIES = 32_767
"""What the columns that count tries and crashes can hold: one more try could not even be claimed."""


@dataclass(slots=True)
class ClaimedJob:
    """A job as a worker holds it. `token` fences every later write; `payload` is decoded when it is read."""

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
    received_at: float = field(default_factory=monotonic)

    def own_limit(self, name: str) -> int | None:
        """A whole number from the job's own policy (max_attempts, crash_limit); what is none counts as absent.

        Any SQL client may have written the policy, so nothing about it is certain.
        """
        limit = read_mapping(self.raw_policy).get(name)
        if not isinstance(limit, int) or isinstance(limit, bool) or limit <= 0:
            return None
        return min(limit, MOST_TRIES)

    @property
    def context(self) -> dict[str, Any]:
        """Request id, trace and the like, as the producer gave them."""
        return dict(read_mapping(self.raw_context))
