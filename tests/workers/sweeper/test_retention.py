"""Partitions: ahead of need, a new one each day, dropped when old; what has not ended outlives them."""

import uuid
from datetime import timedelta
from typing import Any

import psycopg

from app.database.connect import connect
from app.queue.store import Finish, Store
from tests.support.claims import WORKER, add, claim, rows, value
from tests.support.membership import assert_membership_async
from workers.sweeper.partitions import KeepPartitions
from workers.sweeper.retention import DropPartitions, ForgetExpired

WEEK = timedelta(days=7)
Connection = psycopg.AsyncConnection[Any]


async def later(connection: Connection, days: int) -> None:
    """Move this session's clock."""
    await connection.execute(f"SET tandem.clock_offset = '{days} days'".encode())


async def partitions(connection: Connection) -> list[str]:
    """The names of job's partitions."""
    query = "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'tandem.job'::regclass"
    return sorted(row[0] for row in await rows(connection, query))


async def test_partitions_are_there_before_they_are_needed(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await KeepPartitions().run_once(connection)
        assert await partitions(connection) == ["job_0", "job_1", "job_2", "job_kept"]
        assert (await KeepPartitions().run_once(connection)).rows == 0


async def test_a_day_later_the_ids_go_on_in_the_next_partition(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        [first] = await add(connection, 1)
        await KeepPartitions().run_once(connection)
        assert (await add(connection, 1)) == [first + 1], "the same day, the same partition"
        await later(connection, 2)
        await KeepPartitions().run_once(connection)
        [second] = await add(connection, 1)
        assert second == 100_000_001
        assert [job.id for job in await claim(connection)] == [first, first + 1, second]
        await KeepPartitions().run_once(connection)
        assert await value(connection, "SELECT count(*) FROM tandem.job_kept") == 0


async def finish(connection: Connection, count: int) -> list[int]:
    """Claim and finish `count` jobs."""
    jobs = await claim(connection, count)
    await Store(connection).finish_jobs([Finish(job.id, job.token, 1.0) for job in jobs])
    return [job.id for job in jobs]


async def test_an_old_partition_goes_and_its_unfinished_jobs_stay(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await add(connection, 30)
        ended = await finish(connection, 20)
        [leased] = [job.id for job in await claim(connection, 1)]
        await later(connection, 2)
        await KeepPartitions().run_once(connection)
        await KeepPartitions().run_once(connection)
        assert (await DropPartitions(retention=WEEK).run_once(connection)).rows == 0, "too young"
        await later(connection, 9)
        moved = await DropPartitions(retention=WEEK).run_once(connection)
        assert (moved.rows, moved.detail) == (1, {"kept": 10})
        left = [row[0] for row in await rows(connection, "SELECT id FROM tandem.job_kept ORDER BY id")]
        assert len(left) == 10
        assert leased in left
        assert not set(ended) & set(left)
        assert "job_0" not in await partitions(connection)
        await assert_membership_async(connection)
        # What was kept goes on as any other job.
        assert sorted(await finish(connection, 20)) == [one for one in left if one != leased]


async def test_what_ended_lately_is_kept_until_its_own_time_is_over(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await add(connection, 3)
        await finish(connection, 1)
        await later(connection, 2)
        await KeepPartitions().run_once(connection)
        await later(connection, 8)
        recent = await finish(connection, 1)
        await later(connection, 10)
        assert (await DropPartitions(retention=WEEK).run_once(connection)).detail == {"kept": 2}
        query = "SELECT status FROM tandem.job_status WHERE job_id = %s"
        assert await value(connection, query, recent[0]) == "SUCCEEDED"
        await later(connection, 16)
        assert (await ForgetExpired(retention=WEEK).run_once(connection)).detail["kept_jobs"] == 1
        assert await rows(connection, query, recent[0]) == []
        assert await value(connection, "SELECT count(*) FROM tandem.job_kept") == 1, "it never ran, it stays"
        await assert_membership_async(connection)


async def test_results_and_unique_keys_expire(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await connection.execute(
            "SELECT tandem.enqueue('test', unique_key => 'a', unique_scope => 'period', unique_period => '1 hour'),"
            " tandem.enqueue('test', unique_key => 'b')"
        )
        [first, second] = await claim(connection)
        await Store(connection).finish_jobs(
            [
                Finish(first.id, first.token, 1.0, '"gone"', 3600.0),
                Finish(second.id, second.token, 1.0, '"stays"'),
            ]
        )
        step = ForgetExpired(retention=WEEK)
        assert (await step.run_once(connection)).rows == 0
        await connection.execute("SET tandem.clock_offset = '2 hours'")
        assert (await step.run_once(connection)).detail == {
            "results": 1,
            "unique_keys": 1,
            "kept_jobs": 0,
            "ticks": 0,
            "progress": 0,
            "samples": 0,
            "rates": 0,
            "workers": 0,
        }
        found = await rows(connection, "SELECT result FROM tandem.done ORDER BY job_id")
        assert found == [(None,), ("stays",)]
        assert await rows(connection, "SELECT key FROM tandem.unique_key") == [("b",)]


async def test_workers_that_are_long_gone_are_forgotten_but_not_those_with_a_lease(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        store = Store(connection)
        for worker in (WORKER, uuid.uuid4()):
            await store.register_worker(
                worker=worker, name="here:1", mode="hybrid", queues=["default"], concurrency=1, version="0"
            )
        await add(connection, 1)
        await claim(connection)
        step = ForgetExpired(retention=WEEK)
        assert (await step.run_once(connection)).detail["workers"] == 0
        await later(connection, 8)
        assert (await step.run_once(connection)).detail["workers"] == 1
        assert await rows(connection, "SELECT id FROM tandem.worker") == [(WORKER,)]
