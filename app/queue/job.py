"""What a job is: what producers write (NewJob, which other programs know as tandem.Job) and what a worker holds.

Knows nothing of SQL, of how a job runs, or of any domain.
"""

import json
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

__all__ = [
    "BATCH_LIMIT",
    "DEFAULT_PRIORITY",
    "FURTHEST",
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
        policy = json.loads(self.raw_policy) if self.raw_policy else None
        limit = policy.get(name) if isinstance(policy, dict) else None
        return limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None

    @property
    def context(self) -> dict[str, Any]:
        """Request id, trace and the like, as the producer gave them."""
        context = json.loads(self.raw_context) if self.raw_context else None
        return context if isinstance(context, dict) else {}
