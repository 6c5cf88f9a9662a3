"""The API's pool: what is lent, what is replaced, who waits and what waiting ends in. No HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.database.connect import connect, connect_sync
from app.database.deadline import BoundedAsyncConnection
from app.database.pool import AllLentError, Pool
from app.errors import Unavailable
from tests.support.waiting import eventually_async

KILL = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE application_name = 'tandem pooled' AND datname = current_database()"
)


@asynccontextmanager
async def _pool(url: str, *, most: int) -> AsyncIterator[Pool]:
    async def open_() -> BoundedAsyncConnection:
        return await connect(url, name="pooled")

    pool = Pool(open_, most=most)
    try:
        yield pool
    finally:
        pool.close()


async def _take(pool: Pool, wait: float = 30.0) -> BoundedAsyncConnection:
    return await pool.take(wait=wait, seconds=60.0)


async def _pid(connection: BoundedAsyncConnection) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    return int(row[0])


async def test_the_connection_used_last_is_lent_first(db_url: str) -> None:
    async with _pool(db_url, most=3) as pool:
        first, second = await _take(pool), await _take(pool)
        pool.give_back(second)
        pool.give_back(first)
        assert await _take(pool) is first
        assert (pool.size(), pool.checkedout()) == (3, 1)
        pool.give_back(first)


async def test_who_waits_longest_gets_the_next_and_late_ones_are_told(db_url: str) -> None:
    async with _pool(db_url, most=1) as pool:
        only = await _take(pool)
        waiting = [asyncio.ensure_future(_take(pool)) for _ in range(2)]
        with pytest.raises(AllLentError):
            await _take(pool, wait=0.01)
        pool.give_back(only)
        assert await waiting[0] is only
        assert not waiting[1].done()
        pool.give_back(only)
        assert await waiting[1] is only
        pool.give_back(only)
        assert pool.checkedout() == 0


async def test_a_borrower_that_gave_up_loses_no_connection(db_url: str) -> None:
    async with _pool(db_url, most=1) as pool:
        only = await _take(pool)
        for late in (False, True):
            waiting = asyncio.ensure_future(_take(pool))
            await asyncio.sleep(0)
            if late:
                pool.give_back(only)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await _take(pool) is only
        pool.give_back(only)


async def test_killed_connections_are_replaced_when_they_are_lent_or_given_back(db_url: str) -> None:
    async with _pool(db_url, most=2) as pool:
        idle, lent = await _take(pool), await _take(pool)
        pool.give_back(idle)
        with connect_sync(db_url, name="killer") as killer:
            killer.execute(KILL)
        fresh = await _take(pool)
        assert await _pid(fresh) != lent.info.backend_pid
        lent.pgconn.finish()
        waiting = asyncio.ensure_future(_take(pool))
        pool.give_back(lent)
        assert await _pid(await waiting)
        assert pool.checkedout() == 2
        pool.give_back(fresh)
        pool.give_back(await waiting)


async def test_a_connection_in_the_middle_of_a_transaction_is_not_lent_again(db_url: str) -> None:
    async with _pool(db_url, most=1) as pool:
        begun = await _take(pool)
        await begun.execute("BEGIN")
        pool.give_back(begun)
        assert begun.closed
        other = await _take(pool)
        assert other is not begun
        pool.give_back(other)


async def test_a_server_that_is_away_is_reported_to_everybody_who_waits() -> None:
    async with _pool("postgresql://127.0.0.1:1/none", most=1) as pool:
        results = await asyncio.gather(*(_take(pool) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 3
        assert pool.checkedout() == 0


async def test_a_connection_that_comes_late_is_kept_for_the_next(db_url: str) -> None:
    may_open = asyncio.Event()

    async def open_() -> BoundedAsyncConnection:
        await may_open.wait()
        return await connect(db_url, name="pooled")

    pool = Pool(open_, most=1)
    with pytest.raises(TimeoutError):
        await pool.take(wait=0.01, seconds=0.02)
    may_open.set()
    await eventually_async(lambda: pool.checkedout() == 0)
    connection = await _take(pool)
    pool.close()
    pool.give_back(connection)
    assert connection.closed
