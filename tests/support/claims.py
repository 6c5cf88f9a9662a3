"""The queue's statements as a test calls them: connections set up like a worker's, claims without ceremony."""

import secrets
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import psycopg

from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.queue.claim import END
from app.queue.enqueue import enqueue_many_async
from app.queue.job import ClaimedJob, NewJob
from app.queue.store import PINNED_PLANS, Lane, Store

LEASE = timedelta(seconds=30)
WORKER = uuid.UUID("00000000-0000-4000-8000-000000000001")


async def worker_connection(url: str, **session: str) -> BoundedAsyncConnection:
    """A connection with the plans pinned as a worker pins them."""
    return await connect(url, name="test", session={**PINNED_PLANS, **session})


def every_lane(queues: Sequence[str] = ("default",), floor: int = 0, ceiling: int = END) -> list[Lane]:
    """All priorities of these queues, highest first."""
    return [Lane(queue, priority, floor, ceiling) for queue in queues for priority in range(9, -1, -1)]


async def claim(
    connection: psycopg.AsyncConnection[Any],
    want: int = 10,
    *,
    lanes: Sequence[Lane] | None = None,
    lease: timedelta = LEASE,
) -> list[ClaimedJob]:
    """Claim from the beginning of every lane of `default`, unless told otherwise."""
    return await Store(connection).claim_jobs(
        lanes if lanes is not None else every_lane(),
        want=want,
        token=secrets.randbits(63),
        worker=WORKER,
        lease=lease,
    )


async def add(connection: psycopg.AsyncConnection[Any], count: int = 1, **options: Any) -> list[int]:
    """Enqueue jobs of kind `test` with payloads {"n": 0}, {"n": 1}, …; answers their ids."""
    jobs = [NewJob(options.get("kind", "test"), {"n": n}, **_without_kind(options)) for n in range(count)]
    return [one.job_id for one in await enqueue_many_async(connection, jobs)]


def _without_kind(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "kind"}


async def rows(connection: psycopg.AsyncConnection[Any], query: str, *params: Any) -> list[tuple[Any, ...]]:
    """All rows of a fixed query."""
    cursor = await connection.execute(query.encode(), params or None)
    return await cursor.fetchall()


async def value(connection: psycopg.AsyncConnection[Any], query: str, *params: Any) -> Any:
    """The first column of the first row."""
    return (await rows(connection, query, *params))[0][0]


def pairs(jobs: Sequence[ClaimedJob]) -> list[tuple[int, int]]:
    """(job, token) of claimed jobs."""
    return [(job.id, job.token) for job in jobs]
