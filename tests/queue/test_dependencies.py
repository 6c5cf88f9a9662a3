"""Jobs that wait for others: when they may run, what a failure means for them, and that no circle can be made."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from app.client.errors import InvalidInput
from app.database.deadline import BoundedAsyncConnection
from app.queue import admin
from app.queue.enqueue import enqueue, enqueue_async, enqueue_copy_async, enqueue_many_async
from app.queue.explain import explain_job
from app.queue.job import ClaimedJob, NewJob, Unique
from app.queue.kinds import Change, Registry
from app.queue.store import Failed, Finish, Store
from tests.support.claims import claim, rows, value, worker_connection
from tests.support.membership import assert_membership_async
from tests.workers.testing.kinds import TABLE, make_registry
from workers.sweeper.cancels import SettleCancels
from workers.sweeper.dependencies import ReleaseDependents
from workers.sweeper.promote import PromoteJobs
from workers.sweeper.retention import DropPartitions, ForgetExpired
from workers.sweeper.step import Settled
from workers.testing import drain, drain_async

WEEK = timedelta(days=7)


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        yield connection
        await assert_membership_async(connection)
        orphans = (
            "SELECT job_id FROM tandem.dependency WHERE job_id NOT IN (SELECT job_id FROM tandem.dependent)"
        )
        assert await rows(connection, orphans) == []


async def add(connection: BoundedAsyncConnection, *after: int, **options: Any) -> int:
    """A job, after others."""
    return (await enqueue_async(connection, NewJob("test", after=after, **options))).job_id


async def finish(connection: BoundedAsyncConnection, jobs: Sequence[ClaimedJob]) -> None:
    await Store(connection).finish_jobs([Finish(job.id, job.token, 1.0) for job in jobs])


async def die(connection: BoundedAsyncConnection, job: ClaimedJob, outcome: str = "DEAD") -> None:
    failed = Failed(job.id, job.token, 1.0, "permanent", "no", fingerprint="f", outcome=outcome)
    assert await Store(connection).close_jobs([failed])


async def release(connection: BoundedAsyncConnection, registry: Registry | None = None) -> int:
    return (await ReleaseDependents(registry or Registry()).run_once(connection)).rows


async def ready(connection: BoundedAsyncConnection) -> list[int]:
    return [row[0] for row in await rows(connection, "SELECT job_id FROM tandem.ready ORDER BY pos")]


async def standing(connection: BoundedAsyncConnection, job: int) -> tuple[Any, ...]:
    query = "SELECT status, waiting_for, reason FROM tandem.job_status WHERE job_id = %s"
    return (await rows(connection, query, job))[0]


async def test_a_chain_runs_in_its_order(queue: BoundedAsyncConnection) -> None:
    first = await add(queue)
    second = await add(queue, first)
    third = await add(queue, second)
    assert await standing(queue, third) == ("PENDING", "job", None)
    for job in (first, second, third):
        assert await ready(queue) == [job]
        await finish(queue, await claim(queue))
        await release(queue)
    assert await value(queue, "SELECT count(*) FROM tandem.dependency") == 0


async def test_fan_out_and_fan_in(queue: BoundedAsyncConnection) -> None:
    start = await add(queue)
    parts = [one.job_id for one in await enqueue_many_async(queue, [NewJob("test", after=[start])] * 20)]
    callback = await add(queue, *parts)
    await finish(queue, await claim(queue))
    assert await release(queue) == 20
    claimed = await claim(queue, 20)
    for job in claimed:
        await release(queue)
        assert await ready(queue) == []
        await finish(queue, [job])
    await release(queue)
    assert await ready(queue) == [callback]


async def test_what_has_succeeded_already_is_not_waited_for(queue: BoundedAsyncConnection) -> None:
    first = await add(queue)
    await finish(queue, await claim(queue))
    second = await add(queue, first, first)
    assert await ready(queue) == [second]


@pytest.mark.parametrize("outcome", ["DEAD", "CANCELLED"])
async def test_by_default_a_failure_cancels_all_that_come_after(
    queue: BoundedAsyncConnection, outcome: str
) -> None:
    first, other = await add(queue), await add(queue)
    second = await add(queue, first, other)
    third = await add(queue, second)
    jobs = await claim(queue)
    await die(queue, jobs[0], outcome)
    assert await release(queue) == 1
    assert await standing(queue, second) == (
        "CANCELLED",
        None,
        f"job {first}, which it waited for, is {outcome}",
    )
    assert await release(queue) == 1
    assert await standing(queue, third) == (
        "CANCELLED",
        None,
        f"job {second}, which it waited for, is CANCELLED",
    )
    await finish(queue, jobs[1:])
    assert await release(queue) == 0


async def test_run_lets_it_run_all_the_same(queue: BoundedAsyncConnection) -> None:
    first, other = await add(queue), await add(queue)
    clean_up = await add(queue, first, other, on_failure="run")
    jobs = await claim(queue)
    await die(queue, jobs[0])
    await release(queue)
    assert await ready(queue) == []
    await die(queue, jobs[1], "CANCELLED")
    await release(queue)
    assert await ready(queue) == [clean_up]


async def test_wait_waits_for_the_redrive(queue: BoundedAsyncConnection) -> None:
    first = await add(queue)
    second = await add(queue, first, on_failure="wait")
    await die(queue, (await claim(queue))[0])
    assert await release(queue) == 0
    [reason, *_] = await explain_job(queue, second)
    assert (reason.code, reason.text) == ("blocked-job", f"it waits for job {first} (DEAD)")
    await admin.redrive_job(queue, Registry(), first)
    await finish(queue, await claim(queue))
    assert await release(queue) == 1
    assert await ready(queue) == [second]


async def test_wait_ends_when_there_is_nothing_left_to_redrive(queue: BoundedAsyncConnection) -> None:
    first, other = await add(queue), await add(queue)
    waiting = [await add(queue, job, on_failure="wait") for job in (first, other)]
    jobs = await claim(queue)
    await die(queue, jobs[0], "CANCELLED")
    await die(queue, jobs[1])
    await queue.execute("DELETE FROM tandem.done WHERE job_id = %s", (other,))  # as a purge does
    await queue.execute("DELETE FROM tandem.job WHERE id = %s", (other,))
    assert await release(queue) == 2
    assert [(await standing(queue, job))[2] for job in waiting] == [
        f"job {first}, which it waited for, is CANCELLED",
        f"job {other}, which it waited for, is gone",
    ]


async def test_a_hook_hears_of_the_cancel_and_one_that_is_not_known_here_keeps_its_job(
    queue: BoundedAsyncConnection,
) -> None:
    heard: list[Change] = []

    async def hook(_: psycopg.AsyncConnection[Any], change: Change) -> None:
        heard.append(change)

    registry = Registry()
    registry.handler("test", hook=hook)(lambda job: None)
    await Store(queue).declare_kinds([("test", 3, 3, True)])
    first = await add(queue)
    second = await add(queue, first)
    await die(queue, (await claim(queue))[0])
    await release(queue)
    assert (await standing(queue, second))[:2] == ("PENDING", "job")
    await SettleCancels(registry).run_once(queue)
    assert [(change.job_id, change.transition) for change in heard] == [(second, "CANCELLED")]
    assert (await standing(queue, second))[0] == "CANCELLED"


async def test_a_dependent_can_be_cancelled_and_looked_at(queue: BoundedAsyncConnection) -> None:
    parents = [await add(queue) for _ in range(5)]
    job = await add(queue, *parents, queue="later")
    listed = await admin.list_jobs(queue, status="PENDING", queue="later")
    assert [(row["job_id"], row["waiting_for"]) for row in listed] == [(job, "job")]
    [reason, *_] = await explain_job(queue, job)
    told = ", ".join(f"{parent} (PENDING)" for parent in parents[:3])
    assert reason.text == f"it waits for job {told} and 2 more"
    assert {row["queue"]: row["blocked"] for row in await admin.list_queues(queue)}["later"] == 1
    assert await admin.cancel_job(queue, Registry(), job) == "CANCELLED"


async def test_a_time_counts_after_the_others_have_ended(queue: BoundedAsyncConnection) -> None:
    first = await add(queue)
    later = await add(queue, first, run_at=datetime.now(UTC) + timedelta(hours=1), priority=7)
    await finish(queue, await claim(queue))
    await release(queue)
    assert (await standing(queue, later))[1] == "time"
    await queue.execute("SET tandem.clock_offset = '2 hours'")
    await PromoteJobs(Settled()).run_once(queue)
    assert [(job.id, job.priority) for job in await claim(queue)] == [(later, 7)]


async def test_in_a_managed_queue_they_wait_for_admission_afterwards(queue: BoundedAsyncConnection) -> None:
    await queue.execute("INSERT INTO tandem.queue (name, managed) VALUES ('limited', true)")
    first = await add(queue)
    second = await add(queue, first, queue="limited", partition_key="k", priority=7)
    assert (await standing(queue, second))[1] == "job"
    assert await value(queue, "SELECT count(*) FROM tandem.blocked") == 0
    await finish(queue, await claim(queue))
    assert await release(queue) == 1
    found = await rows(queue, "SELECT job_id, queue, partition_key, priority FROM tandem.blocked")
    assert found == [(second, "limited", "k", 7)]
    assert (
        await value(
            queue, "SELECT count(*) FROM tandem.touch WHERE queue = 'limited' AND partition_key = 'k'"
        )
        > 0
    )


# --- circles, and what is refused ----------------------------------------------------------------------------


async def test_a_job_cannot_wait_for_itself_or_a_later_one_so_there_are_no_circles(
    queue: BoundedAsyncConnection,
) -> None:
    first = await add(queue)
    second = await add(queue, first)
    with pytest.raises(psycopg.errors.CheckViolation, match="enqueued before it"):
        await queue.execute(
            "SELECT tandem.wait_for(j.id, ARRAY[j.id]) FROM (SELECT tandem.enqueue('test')) AS j(id)"
        )
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="does not exist"):
        await add(queue, second + 100)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="not enqueued by this transaction"):
        await queue.execute("SELECT tandem.wait_for(%s, ARRAY[%s]::bigint[])", (first, second))
    with pytest.raises(psycopg.errors.CheckViolation, match="dependency_order"):  # not even by hand
        await queue.execute(
            "INSERT INTO tandem.dependency (job_id, after_job) VALUES (%s, %s)", (first, second)
        )


async def test_ids_that_never_were_or_were_rolled_back_are_refused(
    queue: BoundedAsyncConnection, db_url: str
) -> None:
    with psycopg.connect(db_url) as other:
        lost = enqueue(other, NewJob("test")).job_id
        with pytest.raises(psycopg.errors.ForeignKeyViolation):  # nobody else can see it yet
            await add(queue, lost)
        other.rollback()
    for unknown in (lost, 99_999_999_999):
        with pytest.raises(
            psycopg.errors.ForeignKeyViolation, match=f"wait for job {unknown}, which does not exist"
        ):
            await add(queue, unknown)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"after": 17}, "invalid-after"),
        ({"after": [0]}, "invalid-after"),
        ({"after": [True]}, "invalid-after"),
        ({"after": "17"}, "invalid-after"),
        ({"after": range(1, 10_002)}, "invalid-after"),
        ({"on_failure": "explode"}, "invalid-after"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(options: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        NewJob("test", **options)
    assert refused.value.code == code


async def test_copy_refuses_dependents(queue: BoundedAsyncConnection) -> None:
    first = await add(queue)
    with pytest.raises(InvalidInput) as refused:
        await enqueue_copy_async(queue, [NewJob("test", after=[first])])
    assert refused.value.code == "after-in-copy"


async def test_a_unique_keys_first_job_keeps_what_it_waits_for(queue: BoundedAsyncConnection) -> None:
    first, other = await add(queue), await add(queue)
    once = NewJob("test", unique=Unique("k"), after=[first])
    made = await enqueue_async(queue, once)
    again = await enqueue_async(queue, NewJob("test", unique=Unique("k"), after=[other]))
    assert (again.job_id, again.created) == (made.job_id, False)
    assert await rows(queue, "SELECT after_job FROM tandem.dependency") == [(first,)]


def test_enqueued_in_savepoints_and_rolled_back_with_the_rest(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        with connection.transaction():
            first = enqueue(connection, NewJob("test")).job_id
            with connection.transaction():
                enqueue(connection, NewJob("test", after=[first]))
        assert connection.execute("SELECT count(*) FROM tandem.dependent").fetchone() == (1,)
        connection.rollback()
    with psycopg.connect(db_url) as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM tandem.job), (SELECT count(*) FROM tandem.dependency)"
        )
        assert found.fetchone() == (2, 1), "the outer block was a transaction of its own"


# --- many at once --------------------------------------------------------------------------------------------


async def test_two_sweeps_and_finishes_at_once_release_every_job_once(db_url: str) -> None:
    connections = [await worker_connection(db_url) for _ in range(4)]
    try:
        one = connections[0]
        parents = [answer.job_id for answer in await enqueue_many_async(one, [NewJob("test")] * 120)]
        dependents = [
            await add(one, *parents[number::7], *parents[number::11], queue="later") for number in range(40)
        ]

        async def finish_all(connection: BoundedAsyncConnection) -> None:
            while jobs := await claim(connection, 3):
                await finish(connection, jobs)

        async def sweep(connection: BoundedAsyncConnection) -> None:
            for _ in range(60):
                await ReleaseDependents(Registry(), batch=10).run_once(connection)
                await asyncio.sleep(0)

        await asyncio.gather(*(finish_all(c) for c in connections[:2]), *(sweep(c) for c in connections[2:]))
        await release(one)
        assert sorted(await ready(one)) == dependents
        await assert_membership_async(one)
    finally:
        for connection in connections:
            await connection.close()


async def test_batches_reach_every_awaited_job(queue: BoundedAsyncConnection) -> None:
    parents = [one.job_id for one in await enqueue_many_async(queue, [NewJob("test")] * 25)]
    for parent in parents:
        await add(queue, parent, queue="later")
    await finish(queue, await claim(queue, 25))
    step = ReleaseDependents(Registry(), batch=4)
    assert (await step.run_once(queue)).rows == 25


# --- retention -----------------------------------------------------------------------------------------------


async def test_a_dead_job_that_somebody_waits_for_outlives_its_partition(db_url: str) -> None:
    async with await worker_connection(db_url) as queue:
        first, plain = await add(queue), await add(queue)
        for job in await claim(queue):
            await die(queue, job)
        await Store(queue).start_partition(1)
        second = await add(queue, first, on_failure="wait")
        await queue.execute("SET tandem.clock_offset = '9 days'")
        assert (await DropPartitions(retention=WEEK).run_once(queue)).rows == 1
        await ForgetExpired(retention=WEEK).run_once(queue)
        assert await rows(queue, "SELECT id FROM tandem.job ORDER BY id") == [(first,), (second,)]
        third = await add(queue, plain)  # it has ended, and was dropped: that much is known
        assert (await standing(queue, third))[1] == "nothing"
        await admin.redrive_job(queue, Registry(), first)
        await finish(queue, [job for job in await claim(queue) if job.id == first])
        assert await release(queue) == 1
        await assert_membership_async(queue)


# --- the testing kit, SQL ------------------------------------------------------------------------------------


def test_drain_runs_dependents(db_url: str) -> None:
    registry = make_registry()
    with psycopg.connect(db_url) as connection:
        connection.execute(TABLE)
        first = enqueue(connection, NewJob("plain", {"number": 1})).job_id
        second = enqueue(connection, NewJob("plain", {"number": 2}, after=[first])).job_id
        dead = enqueue(connection, NewJob("decides", {"how": "dead"}, after=[second])).job_id
        lost = enqueue(connection, NewJob("plain", {"number": 3}, after=[dead])).job_id
        end = enqueue(connection, NewJob("plain", {"number": 4}, after=[lost], on_failure="run")).job_id
        report = drain(connection, registry)
        assert [job.job_id for job in report.jobs] == [first, second, dead, end]
        found = connection.execute(
            "SELECT status FROM tandem.job_status WHERE job_id = %s", (lost,)
        ).fetchone()
        assert found == ("CANCELLED",)


async def test_plain_sql_makes_jobs_wait(queue: BoundedAsyncConnection) -> None:
    first = await value(queue, "SELECT tandem.enqueue('plain', '{\"number\": 1}')")
    second = await value(
        queue,
        "SELECT tandem.wait_for(tandem.enqueue('plain', '{\"number\": 2}'), ARRAY[%s]::bigint[], 'wait')",
        first,
    )
    assert await rows(queue, "SELECT job_id, on_failure FROM tandem.dependent") == [(second, "wait")]
    report = await drain_async(queue, make_registry())
    assert [job.job_id for job in report.succeeded] == [first, second]


async def test_who_may_only_enqueue_may_make_jobs_wait(queue: BoundedAsyncConnection, db_url: str) -> None:
    await queue.execute("CREATE ROLE dependents_producer")
    try:
        await queue.execute("GRANT USAGE ON SCHEMA tandem TO dependents_producer")
        await queue.execute("SET ROLE dependents_producer")
        first = await add(queue)
        second = await add(queue, first)
        await queue.execute("RESET ROLE")
        assert (await standing(queue, second))[1] == "job"
    finally:
        await queue.execute("RESET ROLE")
        await queue.execute("REVOKE ALL ON SCHEMA tandem FROM dependents_producer")
        await queue.execute("DROP ROLE dependents_producer")
