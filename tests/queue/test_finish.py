"""Ending batches: good rows are written whatever stands beside them, lost answers are looked up, the rest is fenced."""

from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.finish import finish_batch
from app.queue.job import ClaimedJob
from app.queue.store import Finish, Store
from tests.support.claims import add, claim, rows, value, worker_connection
from tests.support.membership import assert_membership_async

BAD = {"a NUL": '"\\u0000"', "no JSON": "{", "a number too large": "1e200000"}


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        yield connection
        await assert_membership_async(connection)


def row(job: ClaimedJob, result: str | None = None) -> Finish:
    return Finish(job.id, job.token, 12.5, result)


async def test_a_batch_is_finished_with_results_and_times(queue: BoundedAsyncConnection) -> None:
    await add(queue, 3)
    jobs = await claim(queue)
    report = await finish_batch(Store(queue), [row(job, f'{{"n": {job.id}}}') for job in jobs])
    assert report.done == {job.id for job in jobs} and not report.fenced and not report.refused
    found = await rows(
        queue,
        "SELECT job_id, result, attempt, outcome, worker IS NOT NULL, started_at < finished_at FROM tandem.done",
    )
    assert sorted(found) == [(job.id, {"n": job.id}, 1, "SUCCEEDED", True, True) for job in jobs]


@pytest.mark.parametrize("place", [0, 77, 199])
@pytest.mark.parametrize("what", sorted(BAD))
async def test_one_bad_result_never_holds_up_199_good_ones(
    queue: BoundedAsyncConnection, what: str, place: int
) -> None:
    await add(queue, 200)
    jobs = await claim(queue, 200)
    batch = [row(job, BAD[what] if n == place else "1") for n, job in enumerate(jobs)]
    report = await finish_batch(Store(queue), batch)
    assert len(report.done) == 199 and not report.fenced
    [(refused, reason)] = report.refused
    assert refused.job_id == jobs[place].id and reason
    assert await rows(queue, "SELECT job_id FROM tandem.lease") == [(jobs[place].id,)]


async def test_bad_rows_fenced_rows_and_good_rows_are_told_apart(queue: BoundedAsyncConnection) -> None:
    await add(queue, 20)
    jobs = await claim(queue, 20)
    fenced, bad, good = jobs[:5], jobs[5::4], [job for job in jobs[5:] if job not in jobs[5::4]]
    for job in fenced:
        await Store(queue).hand_back_jobs([(job.id, job.token)], delay=timedelta(0))
    report = await finish_batch(
        Store(queue), [row(job, BAD["a NUL"] if job in bad else None) for job in jobs]
    )
    assert report.fenced == {job.id for job in fenced}
    assert {refused.job_id for refused, _ in report.refused} == {job.id for job in bad}
    assert report.done == {job.id for job in good}


async def test_a_job_that_is_done_already_does_not_spoil_its_batch(queue: BoundedAsyncConnection) -> None:
    # Cannot happen, and if it does (a row written by hand) it must cost one job, not two hundred.
    await add(queue, 10)
    jobs = await claim(queue, 10)
    twice = jobs[4]
    row_by_hand = (
        "INSERT INTO tandem.done (job_id, finished_at, attempt, outcome) VALUES (%s, now(), 1, 'DEAD')"
    )
    await queue.execute(row_by_hand, (twice.id,))
    report = await finish_batch(Store(queue), [row(job) for job in jobs])
    assert len(report.done) == 9
    assert [refused.job_id for refused, _ in report.refused] == [twice.id]
    await queue.execute("DELETE FROM tandem.lease WHERE job_id = %s", (twice.id,))


async def test_a_batch_committed_unseen_is_recognised_by_its_tokens(queue: BoundedAsyncConnection) -> None:
    await add(queue, 4)
    jobs = await claim(queue)
    await Store(queue).finish_jobs([row(job) for job in jobs[:3]])
    stale = jobs[2]
    await queue.execute("UPDATE tandem.done SET token = token + 1 WHERE job_id = %s", (stale.id,))
    report = await finish_batch(Store(queue), [row(job) for job in jobs], repeated=True)
    assert report.done == {jobs[0].id, jobs[1].id, jobs[3].id}
    assert report.fenced == {stale.id}, "finished under another token: by somebody else"


async def test_without_a_repeat_nothing_is_looked_up(queue: BoundedAsyncConnection) -> None:
    await add(queue)
    [job] = await claim(queue)
    await Store(queue).finish_jobs([row(job)])
    assert (await finish_batch(Store(queue), [row(job)])).fenced == {job.id}


async def test_a_lost_connection_is_the_callers_business(db_url: str) -> None:
    async with await worker_connection(db_url) as queue, await worker_connection(db_url) as other:
        await add(queue)
        [job] = await claim(queue)
        await other.execute("SELECT pg_terminate_backend(%s)", (queue.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            await finish_batch(Store(queue), [row(job)])
        assert await value(other, "SELECT count(*) FROM tandem.lease") == 1
        assert (await finish_batch(Store(other), [row(job)], repeated=True)).done == {job.id}
