"""Holding a lease through a transaction: effects of a handler and the end of its job commit together.

The fence comes first (a stale token stops before any effect), the completion last. KEY SHARE on the lease row lets
heartbeats pass and makes rescue skip it; deleting it first would block the heartbeat of the very same job.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from app.errors import AppError, InvalidInput
from app.queue.store import Finish, Store, statement


class LeaseLost(AppError):
    """Another worker has or had the job: this try must not write anything."""

    @classmethod
    def of(cls, job_id: int) -> "LeaseLost":
        """The error for one job."""
        return cls("lease-lost", f"job {job_id} is no longer leased to this try", detail={"job_id": job_id})


async def fence(connection: AsyncConnection[Any], job_id: int, token: int) -> None:
    """Prove the lease as the first statement of a transaction. Raises LeaseLost, InvalidInput."""
    row = await Store(connection).fence_lease(job_id, token)
    _judge(None if row is None else row[1], job_id)


async def complete(
    connection: AsyncConnection[Any],
    job_id: int,
    token: int,
    *,
    ran_ms: float,
    result: str | None,
    ttl: float | None = None,
    delivery: bool = False,
) -> None:
    """End the job as the last statement of its transaction. Raises LeaseLost."""
    store = Store(connection)
    finish = store.finish_deliveries if delivery else store.finish_jobs
    if not await finish([Finish(job_id, token, ran_ms, result, ttl)]):
        raise LeaseLost.of(job_id)


@asynccontextmanager
async def job_transaction(
    connection: AsyncConnection[Any], job_id: int, token: int
) -> AsyncIterator[AsyncConnection[Any]]:
    """One READ COMMITTED transaction, fenced at its start; the caller calls `complete` before it ends."""
    async with connection.transaction():
        await fence(connection, job_id, token)
        yield connection


def fence_sync(connection: psycopg.Connection[Any], job_id: int, token: int) -> None:
    """`fence` for synchronous connections."""
    cursor = connection.cursor(row_factory=tuple_row)
    row = cursor.execute(statement("lease", "fence_lease"), {"job_id": job_id, "token": token}).fetchone()
    _judge(None if row is None else row[1], job_id)


def complete_sync(
    connection: psycopg.Connection[Any],
    job_id: int,
    token: int,
    *,
    ran_ms: float,
    result: str | None,
    ttl: float | None = None,
    delivery: bool = False,
) -> None:
    """`complete` for synchronous connections."""
    finish = statement("finish", "finish_deliveries" if delivery else "finish_jobs")
    params = {"job_ids": [job_id], "tokens": [token], "ran_ms": [ran_ms], "results": [result], "ttls": [ttl]}
    if connection.execute(finish, params).fetchone() is None:
        raise LeaseLost.of(job_id)


def _judge(isolation: str | None, job_id: int) -> None:
    if isolation is None:
        raise LeaseLost.of(job_id)
    if isolation != "read committed":
        # A later snapshot must see what a rescue committed meanwhile; an older one would not.
        raise InvalidInput(
            "isolation-level",
            f"job.transaction() needs READ COMMITTED, this transaction is {isolation.upper()}",
        )
