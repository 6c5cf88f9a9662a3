"""Partitions: two are always ahead of the ids, a day's jobs share one, and ids never go backwards."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.store import Store
from tests.support.claims import add, rows, value, worker_connection
from tests.support.membership import assert_membership_async
from workers.sweeper.partitions import KeepPartitions

SIZE = 10**8


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        yield connection
        await assert_membership_async(connection)


async def numbers(connection: BoundedAsyncConnection, table: str) -> list[int]:
    query = (
        "SELECT substring(c.relname FROM '[0-9]+')::int FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = ('tandem.' || %s)::regclass AND c.relname ~ '[0-9]+$' ORDER BY 1"
    )
    return [row[0] for row in await rows(connection, query, table)]


async def test_two_partitions_are_always_ahead(queue: BoundedAsyncConnection) -> None:
    step = KeepPartitions()
    assert (await step.run_once(queue)).rows == 1
    for table in ("job", "done", "attempt"):
        assert await numbers(queue, table) == [0, 1, 2]
    assert (await step.run_once(queue)).rows == 0
    await queue.execute("SELECT setval('tandem.job_id', %s)", (2 * SIZE + 5,))
    assert (await step.run_once(queue)).rows == 2
    assert await numbers(queue, "job") == [0, 1, 2, 3, 4]


async def test_ids_go_on_in_the_next_partition_after_a_day(queue: BoundedAsyncConnection) -> None:
    step = KeepPartitions()
    await add(queue)
    await step.run_once(queue)
    assert await add(queue) == [2]
    await queue.execute("SET tandem.clock_offset = '25 hours'")
    await step.run_once(queue)
    assert await add(queue) == [SIZE + 1]
    await step.run_once(queue)
    assert await add(queue) == [SIZE + 2], "its first job is young"
    await queue.execute("SET tandem.clock_offset = '50 hours'")
    await step.run_once(queue)
    assert await add(queue) == [2 * SIZE + 1]
    await step.run_once(queue)
    assert await numbers(queue, "job") == [0, 1, 2, 3, 4]


async def test_a_partition_without_jobs_is_not_left_behind(queue: BoundedAsyncConnection) -> None:
    await queue.execute("SET tandem.clock_offset = '400 days'")
    await KeepPartitions().run_once(queue)
    assert await add(queue) == [1]


async def test_ids_never_go_backwards_whoever_asks(queue: BoundedAsyncConnection) -> None:
    await queue.execute("SELECT setval('tandem.job_id', %s)", (SIZE + 7,))
    store = Store(queue)
    assert not await store.start_partition(1)
    assert not await store.start_partition(0)
    assert await value(queue, "SELECT nextval('tandem.job_id')") == SIZE + 8
    assert await store.start_partition(2)


async def test_a_lock_that_is_not_free_ends_the_step_and_not_the_producers(db_url: str) -> None:
    async with (
        await worker_connection(db_url) as queue,
        await psycopg.AsyncConnection.connect(db_url) as reader,
    ):
        await reader.execute("SELECT count(*) FROM tandem.job_kept")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await KeepPartitions().run_once(queue)
        await reader.rollback()
        assert (await KeepPartitions().run_once(queue)).rows == 1
        await assert_membership_async(queue)


async def test_two_leaders_by_mistake_make_every_partition_once(db_url: str) -> None:
    async with await worker_connection(db_url) as first, await worker_connection(db_url) as second:
        await asyncio.gather(
            KeepPartitions().run_once(first), KeepPartitions().run_once(second), return_exceptions=True
        )
        await KeepPartitions().run_once(first)
        assert await numbers(first, "job") == [0, 1, 2]
        assert (await Store(first).find_partitions(every=timedelta(days=1)))[2] == [0, 1, 2]
