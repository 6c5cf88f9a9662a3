"""The dynamic priority of jobs that wait: what the sweep asks, again and again, for the customers' queue."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from app.domains.customers.priority import Circumstances, Factors, band_of, priority_of
from app.queue.priority import WaitingJob
from app.queue.store import statement


async def recalculate(
    jobs: Sequence[WaitingJob], connection: psycopg.AsyncConnection[Any], *, factors: Factors
) -> list[int]:
    """The band of each job now: its customer's tier and history, deadline, hour and wait as they are.

    Jobs that no customer submitted (canaries) keep what they were enqueued with.
    """
    found = await read_circumstances(connection, [job.job_id for job in jobs])
    return [
        band_of(priority_of(found[job.job_id], factors)) if job.job_id in found else job.base for job in jobs
    ]


async def read_circumstances(
    connection: psycopg.AsyncConnection[Any], job_ids: Sequence[int]
) -> dict[int, Circumstances]:
    """What the formula asks, by job; jobs that no customer submitted are left out."""
    cursor = connection.cursor(row_factory=dict_row)
    query = statement("customers", "read_circumstances")
    rows = await (await cursor.execute(query, {"job_ids": list(job_ids)}, prepare=True)).fetchall()
    return {row.pop("job_id"): Circumstances(**row) for row in rows}
