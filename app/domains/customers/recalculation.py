"""The dynamic priority of jobs that wait: what the sweep asks, again and again, for the customers' queue."""

from collections.abc import Sequence
from typing import Any

import psycopg

from app.domains.customers import repository
from app.domains.customers.priority import Factors, band_of, priority_of
from app.queue.priority import WaitingJob


async def recalculate(
    jobs: Sequence[WaitingJob], connection: psycopg.AsyncConnection[Any], *, factors: Factors
) -> list[int]:
    """The band of each job now: its customer's tier and history, deadline, hour and wait as they are.

    Jobs that no customer submitted (canaries) keep what they were enqueued with.
    """
    found = await repository.read_circumstances(connection, [job.job_id for job in jobs])
    return [
        band_of(priority_of(found[job.job_id], factors)) if job.job_id in found else job.base for job in jobs
    ]
