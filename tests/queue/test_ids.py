"""Ids are 64 bits wide everywhere, and a job finds its partition whatever its id."""

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.kinds import Change, Registry
from app.queue.settle import FailedJob, settle
from app.queue.store import Failed, Finish, Store
from tests.support.claims import LEASE, add, claim, pairs, rows, value, worker_connection
from tests.support.membership import assert_membership_async
from tests.support.waiting import eventually_async
from workers.sweeper.floors import MoveFloors
from workers.sweeper.partitions import KeepPartitions
from workers.sweeper.step import Settled

SIZE = 10**8


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        yield connection
        await assert_membership_async(connection)


@pytest.mark.parametrize("start", [2**31 - 3, 2**33 - 3, 2**53])
async def test_a_job_lives_its_whole_life_under_a_large_id_and_position(
    queue: BoundedAsyncConnection, start: int
) -> None:
    await queue.execute(
        "SELECT setval('tandem.job_id', %s), setval('tandem.ready_position', %s)", (start, start)
    )
    store = Store(queue)
    await store.declare_queues(["default"])
    ids = await add(queue, 6)
    assert ids == list(range(start + 1, start + 7))
    jobs = await claim(queue, 5)
    assert [job.id for job in jobs] == ids[:5]
    assert [job.position for job in jobs] == list(range(start + 1, start + 6))
    assert set(await store.extend_leases(pairs(jobs), lease=LEASE)) == set(pairs(jobs))
    done, again, dead, back, fenced = jobs
    assert await store.finish_jobs([Finish(done.id, done.token, 1.0, '{"n": 1}')]) == {done.id}
    assert await store.find_finished([(done.id, done.token)]) == {done.id}
    retried = FailedJob("test", uuid4(), Failed(again.id, again.token, 1.0, "temporary", "x"), again=True)
    closed = FailedJob("test", None, Failed(dead.id, dead.token, 1.0, "permanent", "x"))
    seen: list[Change] = []
    assert await settle(queue, Registry(), [retried, closed]) == {again.id: "RETRY", dead.id: "DEAD"}
    assert not seen
    assert [row[0] for row in await store.hand_back_jobs([(back.id, back.token)], delay=LEASE * 0)] == [
        back.id
    ]
    assert await store.fence_lease(fenced.id, fenced.token) is not None
    mover = MoveFloors(Settled())

    async def moved() -> bool:  # once every transaction of the server at the sample's time has ended
        await mover.run_once(queue)
        return start < (await store.read_floors(["default"]))["default", 5] <= start + 8

    await eventually_async(moved)


async def test_ids_reach_into_the_next_partition(queue: BoundedAsyncConnection) -> None:
    await queue.execute("SELECT setval('tandem.job_id', %s)", (SIZE - 3,))
    ids = await add(queue, 5)
    assert ids == [SIZE - 2, SIZE - 1, SIZE, SIZE + 1, SIZE + 2]
    where = "SELECT id, split_part(tableoid::regclass::text, '.', -1) FROM tandem.job ORDER BY id"
    assert [row[1] for row in await rows(queue, where)] == ["job_0"] * 2 + ["job_1"] * 3
    jobs = await claim(queue, 5)
    await Store(queue).finish_jobs([Finish(job.id, job.token, 1.0, None) for job in jobs])
    where = "SELECT job_id, split_part(tableoid::regclass::text, '.', -1) FROM tandem.done ORDER BY job_id"
    assert [row[1] for row in await rows(queue, where)] == ["done_0"] * 2 + ["done_1"] * 3


async def test_a_job_beyond_every_partition_is_kept_and_the_next_partitions_come_all_the_same(
    queue: BoundedAsyncConnection,
) -> None:
    await queue.execute("SELECT setval('tandem.job_id', %s)", (7 * SIZE,))
    [lost] = await add(queue)
    where = "SELECT split_part(tableoid::regclass::text, '.', -1) FROM tandem.job WHERE id = %s"
    assert await value(queue, where, lost) == "job_kept"
    with pytest.raises(psycopg.errors.CheckViolation):
        await KeepPartitions().run_once(queue)
    made = (await Store(queue).find_partitions(every=LEASE))[2]
    assert {8, 9} <= set(made), "the partition that cannot be made does not stop those ahead"
    assert len(await claim(queue)) == 1
