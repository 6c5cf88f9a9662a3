"""Promotion: what is due becomes ready in the order of its times: nothing early, nothing twice, nothing never."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.enqueue import enqueue_async, enqueue_many_async
from app.queue.job import NewJob
from app.queue.store import Store
from tests.support.claims import claim, rows, value, worker_connection
from tests.support.membership import assert_membership_async
from workers.sweeper.promote import PromoteJobs, next_floor
from workers.sweeper.step import BEGINNING, Settled

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        yield connection
        await assert_membership_async(connection)


async def later(connection: BoundedAsyncConnection, *minutes: float) -> list[int]:
    """Jobs due in so many minutes."""
    now = datetime.now(UTC)
    jobs = [NewJob("test", run_at=now + timedelta(minutes=one)) for one in minutes]
    return [answer.job_id for answer in await enqueue_many_async(connection, jobs)]


async def move_clock(connection: BoundedAsyncConnection, offset: str) -> None:
    await connection.execute("SELECT set_config('tandem.clock_offset', %s, false)", (offset,))


async def test_due_jobs_become_ready_in_the_order_of_their_times(queue: BoundedAsyncConnection) -> None:
    ids = await later(queue, 30, 10, 20, 90)
    step = PromoteJobs(Settled())
    assert (await step.run_once(queue)).rows == 0
    await move_clock(queue, "1 hour")
    assert (await step.run_once(queue)).rows == 3
    assert [job.id for job in await claim(queue)] == [ids[1], ids[2], ids[0]]
    assert await rows(queue, "SELECT job_id FROM tandem.scheduled") == [(ids[3],)]


async def test_a_promoted_job_has_waited_since_it_was_due(queue: BoundedAsyncConnection) -> None:
    await later(queue, 10)
    due = await value(queue, "SELECT next_attempt_at FROM tandem.scheduled")
    await move_clock(queue, "1 hour")
    await PromoteJobs(Settled()).run_once(queue)
    [job] = await claim(queue)
    assert job.ready_at == due


async def test_a_large_backlog_is_promoted_in_batches(queue: BoundedAsyncConnection) -> None:
    ids = await later(queue, *([5] * 250))
    await move_clock(queue, "1 hour")
    assert (await PromoteJobs(Settled(), batch=40).run_once(queue)).rows == 250
    assert sorted(job.id for job in await claim(queue, 300)) == ids


async def test_two_promoters_at_once_move_every_job_once(db_url: str) -> None:
    async with await worker_connection(db_url) as first, await worker_connection(db_url) as second:
        ids = await later(first, *([5] * 200))
        await move_clock(first, "1 hour")
        await move_clock(second, "1 hour")
        moved = await asyncio.gather(
            PromoteJobs(Settled(), batch=7).run_once(first), PromoteJobs(Settled(), batch=7).run_once(second)
        )
        await PromoteJobs(Settled()).run_once(first)
        assert sum(one.rows for one in moved) <= 200
        assert sorted(job.id for job in await claim(first, 300)) == ids
        await assert_membership_async(first)


async def test_a_job_that_commits_late_is_promoted_although_others_came_due_since(db_url: str) -> None:
    async with await worker_connection(db_url) as mine, await psycopg.AsyncConnection.connect(db_url) as late:
        settled = Settled()
        step = PromoteJobs(settled)
        job = (
            await enqueue_async(late, NewJob("test", run_at=datetime.now(UTC) + timedelta(seconds=30)))
        ).job_id
        await later(mine, 1)
        await move_clock(mine, "1 hour")
        for _ in range(3):
            await settled.sample(Store(mine))
            await step.run_once(mine)
        await late.commit()
        await step.run_once(mine)
        assert job in [one.id for one in await claim(mine)]
        await assert_membership_async(mine)


async def test_a_clock_that_was_set_back_is_made_up_for_by_a_reset(queue: BoundedAsyncConnection) -> None:
    settled = Settled()
    step = PromoteJobs(settled)
    await move_clock(queue, "10 hours")
    await settled.sample(Store(queue))
    await step.run_once(queue)
    await move_clock(queue, "0")
    ids = await later(queue, 1)
    await move_clock(queue, "5 minutes")
    step.reset()
    settled.forget()
    await step.run_once(queue)
    assert [job.id for job in await claim(queue)] == ids


@pytest.mark.parametrize(
    ("floor", "earliest", "settled", "expected"),
    [
        (BEGINNING, None, NOW, NOW),
        (BEGINNING, NOW, NOW, NOW - timedelta(microseconds=1)),
        (BEGINNING, NOW + timedelta(hours=1), NOW, NOW),
        (BEGINNING, NOW - timedelta(hours=1), NOW, NOW - timedelta(hours=1, microseconds=1)),
        (NOW, NOW - timedelta(hours=1), NOW, NOW),
        (NOW, None, BEGINNING, NOW),
    ],
)
def test_the_floor_of_times_passes_no_row_and_nothing_unsettled(
    floor: datetime, earliest: datetime | None, settled: datetime, expected: datetime
) -> None:
    assert next_floor(floor, earliest, settled) == expected
