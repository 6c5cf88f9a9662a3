"""Rates of requests over any number of processes: so many per period, by the database's clock, in one statement.

For starting jobs at a rate see the managed queues (docs/limits.md). Nothing here sleeps: who is refused decides.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from app.errors import InvalidInput
from app.queue.store import statement


@dataclass(frozen=True, slots=True)
class RateAnswer:
    """What a rate says. Times are seconds: until all of the burst is there again, and until `cost` would be allowed."""

    allowed: bool
    limit: int
    remaining: int
    reset_after: float
    retry_after: float


async def take(
    connection: AsyncConnection[Any],
    name: str,
    *,
    limit: int,
    period: float = 60.0,
    burst: int | None = None,
    cost: int = 1,
) -> RateAnswer:
    """Take `cost` from the rate `name`, which gives `limit` per `period` seconds and keeps at most `burst` (`limit`).

    Generic cell rate algorithm (ITU-T I.371). Exact over all processes; a refusal takes nothing. It is part of the
    caller's transaction: rolled back with it, and other takers of the name wait for its end, so keep it short.
    Raises InvalidInput.
    """
    burst = limit if burst is None else burst
    if limit < 1 or burst < 1 or cost < 0 or period <= 0 or cost > burst:
        raise InvalidInput("invalid-rate", "limit, burst and period are positive, cost is 0 to burst")
    every = timedelta(seconds=period / limit)
    params = {"name": name, "every": every, "burst": burst, "cost": cost}
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(statement("rates", "take_rate"), params, prepare=True)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - the function answers one row
    return _answer(*row, limit=limit, every=every, burst=burst, cost=cost)


async def forget_rates(connection: AsyncConnection[Any], *, most: int) -> int:
    """Delete the rows of rates that are full again, up to `most`; answers how many."""
    cursor = await connection.execute(statement("rates", "forget_rates"), {"most": most})
    return cursor.rowcount


def _answer(
    allowed: bool, at: datetime, tat: datetime, *, limit: int, every: timedelta, burst: int, cost: int
) -> RateAnswer:
    taken = max(timedelta(0), tat - at)
    short = taken + cost * every - burst * every
    return RateAnswer(
        allowed=allowed,
        limit=limit,
        remaining=max(0, math.floor(burst - taken / every + 1e-9)),
        reset_after=taken.total_seconds(),
        retry_after=0.0 if allowed else max(0.0, short.total_seconds()),
    )
