"""The workflows' periodic health checks: a canary job each, whose answer shows that the whole way works.

Canaries go through the real queue under a key of their own; no customer pays or waits for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg

from app.config import CustomerSettings
from app.domains.customers import repository
from app.domains.customers.workflows import Workflow
from app.queue.enqueue import enqueue_async
from app.queue.job import NewJob

TIER: Final = "canary"
KEY: Final = "~canary"
"""The canaries' partition key: `~` begins no customer's id."""
QUEUE: Final = "customers"
BAND: Final = 9
MOST: Final = 3
Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class WorkflowHealth:
    """A workflow's last canary, without what went wrong, which is for operators: `workflow_health.error`.

    `healthy` is None before the first answer is due.
    """

    workflow: str
    healthy: bool | None
    asked_at: datetime
    answered_at: datetime | None
    seconds: float | None


async def send_canaries(
    connection: Connection, *, workflows: Mapping[str, Workflow], settings: CustomerSettings
) -> int:
    """Send a canary to each workflow whose last one was answered, or has had time enough; answers how many."""
    sent = 0
    for workflow in workflows.values():
        async with connection.transaction():
            if not await repository.ask_canary(
                connection, workflow.name, every=settings.health_every_seconds
            ):
                continue
            await repository.manage_queue(connection)
            await repository.share_terms(
                connection, customer_id=KEY, max_running=MOST, weight=1.0, exempt=True
            )
            payload = {"customer_id": KEY, "tier": TIER, "input": dict(workflow.canary)}
            made = await enqueue_async(
                connection,
                NewJob(workflow.kind, payload, queue=QUEUE, priority=BAND, partition_key=KEY),
            )
            await repository.note_canary(connection, workflow.name, made.job_id)
            sent += 1
    return sent


async def read_health(connection: Connection, settings: CustomerSettings) -> list[WorkflowHealth]:
    """Every workflow that has had a canary."""
    rows = await repository.read_health(connection, late=2 * settings.health_every_seconds)
    return [WorkflowHealth(**row) for row in rows]
