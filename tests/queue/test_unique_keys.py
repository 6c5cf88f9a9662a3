"""Unique keys: when one is taken in each scope, what a repeat answers, what two transactions do to each other."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection, BoundedConnection
from app.queue.enqueue import UniqueConflict, enqueue, enqueue_async, enqueue_many, enqueue_many_async
from app.queue.job import NewJob, Unique, UniqueScope
from app.queue.store import Failed, Finish, Store
from tests.support.claims import claim, value, worker_connection
from tests.support.membership import assert_membership, assert_membership_async, check_membership
from tests.support.steps import blocked_by

FOREVER = Unique("k")


def keyed(body: object, unique: Unique = FOREVER, **options: Any) -> NewJob:
    return NewJob("test", {"body": body}, unique=unique, **options)


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        yield connection
        await assert_membership_async(connection)


def test_the_same_key_and_body_answer_the_first_job(tx: BoundedConnection) -> None:
    first = enqueue(tx, keyed({"a": 1, "b": [1, 2]}))
    again = enqueue(tx, keyed({"b": [1, 2], "a": 1}))
    assert first.created and not again.created
    assert again.job_id == first.job_id
    assert tx.execute("SELECT count(*) FROM tandem.job").fetchone() == (1,)
    assert_membership(tx)


def test_another_body_is_an_error_that_names_the_first_job_and_spoils_nothing(tx: BoundedConnection) -> None:
    first = enqueue(tx, keyed(1))
    with pytest.raises(UniqueConflict) as refused:
        enqueue(tx, keyed(2))
    assert refused.value.detail == {"key": "k", "queue": "default", "job_id": first.job_id}
    enqueue(tx, keyed(3, Unique("other")))
    assert tx.execute("SELECT count(*) FROM tandem.job").fetchone() == (2,)
    assert_membership(tx)


def test_plain_sql_answers_and_refuses_alike(tx: BoundedConnection) -> None:
    call = "SELECT tandem.enqueue('test', %s::jsonb, unique_key => 'k')"
    first = tx.execute(call, ('{"a":1}',)).fetchone()
    assert tx.execute(call, ('{ "a" : 1.0e0 }'.replace("1.0e0", "1"),)).fetchone() == first
    with pytest.raises(psycopg.errors.UniqueViolation, match="another payload"):
        tx.execute(call, ('{"a":2}',))


def test_a_key_belongs_to_its_queue_and_scope(tx: BoundedConnection) -> None:
    jobs = [
        keyed(1),
        keyed(2, queue="mail"),
        keyed(3, Unique("k", "unfinished")),
        keyed(4, Unique("k", "pending")),
    ]
    assert all(one.created for one in enqueue_many(tx, jobs))


def test_a_batch_may_name_a_key_twice(tx: BoundedConnection) -> None:
    answers = enqueue_many(
        tx, [keyed(1), NewJob("test", {"body": 1}), keyed(1), keyed(5, Unique("z")), keyed(1)]
    )
    assert [one.created for one in answers] == [True, True, False, True, False]
    assert answers[0].job_id == answers[2].job_id == answers[4].job_id
    assert tx.execute("SELECT count(*) FROM tandem.job").fetchone() == (3,)
    assert_membership(tx)


def test_a_conflict_inside_a_batch_is_noticed(tx: BoundedConnection) -> None:
    with pytest.raises(UniqueConflict):
        enqueue_many(tx, [keyed(1), keyed(2)])
    assert_membership(tx)


def test_a_committed_conflict_never_fails_other_rows(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        enqueue(connection, keyed(1))
        connection.commit()
        with pytest.raises(UniqueConflict):
            enqueue_many(connection, [keyed("other"), keyed(7, Unique("free")), NewJob("test")])
        connection.commit()
        row = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE payload ->> 'body' = '7') FROM tandem.job"
        )
        assert row.fetchone() == (3, 1)
    check_membership(db_url)


def test_fewer_payloads_than_kinds_are_an_error_and_never_a_lost_job(tx: BoundedConnection) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation):
        tx.execute(
            "SELECT * FROM tandem.enqueue_jobs(ARRAY['a', 'b'], ARRAY['{}']::jsonb[], unique_keys => ARRAY['k'])"
        )


async def test_pending_holds_until_a_worker_claims(queue: BoundedAsyncConnection) -> None:
    unique = Unique("k", "pending")
    first = await enqueue_async(queue, keyed(1, unique))
    assert not (await enqueue_async(queue, keyed(1, unique))).created
    await claim(queue)
    second = await enqueue_async(queue, keyed(2, unique))
    assert second.created and second.job_id != first.job_id


async def test_pending_holds_for_a_delayed_job(queue: BoundedAsyncConnection) -> None:
    unique = Unique("k", "pending")
    later = datetime.now(UTC) + timedelta(hours=1)
    first = await enqueue_async(queue, keyed(1, unique, run_at=later))
    assert (await enqueue_async(queue, keyed(1, unique))).job_id == first.job_id


@pytest.mark.parametrize("end", ["SUCCEEDED", "DEAD", "CANCELLED"])
async def test_unfinished_holds_until_the_job_ends(queue: BoundedAsyncConnection, end: str) -> None:
    unique, store = Unique("k", "unfinished"), Store(queue)
    first = await enqueue_async(queue, keyed(1, unique))
    [job] = await claim(queue)
    assert (await enqueue_async(queue, keyed(1, unique))).job_id == first.job_id
    await store.retry_jobs([Failed(job.id, job.token, 1.0, "temporary", "again")])
    assert (await enqueue_async(queue, keyed(1, unique))).job_id == first.job_id
    [job] = await claim(queue)
    if end == "SUCCEEDED":
        await store.finish_jobs([Finish(job.id, job.token, 1.0, None)])
    else:
        await store.close_jobs([Failed(job.id, job.token, 1.0, "permanent", "over", outcome=end)])
    assert (await enqueue_async(queue, keyed(2, unique))).created


async def test_forever_holds_after_the_job_has_ended(queue: BoundedAsyncConnection) -> None:
    first = await enqueue_async(queue, keyed(1))
    [job] = await claim(queue)
    await Store(queue).finish_jobs([Finish(job.id, job.token, 1.0, None)])
    assert await enqueue_async(queue, keyed(1)) == type(first)(first.job_id, False)
    with pytest.raises(UniqueConflict):
        await enqueue_async(queue, keyed(2))


async def test_a_period_ends_by_the_databases_clock(queue: BoundedAsyncConnection) -> None:
    unique = Unique("k", "period", timedelta(hours=1))
    first = await enqueue_async(queue, keyed(1, unique))
    await queue.execute("SET tandem.clock_offset = '59 minutes'")
    assert (await enqueue_async(queue, keyed(1, unique))).job_id == first.job_id
    await queue.execute("SET tandem.clock_offset = '61 minutes'")
    second = await enqueue_async(queue, keyed(2, unique))
    assert second.created
    await queue.execute("SET tandem.clock_offset = '120 minutes'")
    assert (await enqueue_async(queue, keyed(2, unique))).job_id == second.job_id, "the period began again"


async def test_a_second_transaction_waits_and_answers_the_first_ones_job(db_url: str) -> None:
    async with (
        await psycopg.AsyncConnection.connect(db_url) as first,
        await psycopg.AsyncConnection.connect(db_url) as second,
    ):
        job = await enqueue_async(first, keyed(1))
        waiting = asyncio.create_task(enqueue_async(second, keyed(1)))
        await blocked_by(second, first)
        await first.commit()
        answer = await waiting
        await second.commit()
        assert (answer.job_id, answer.created) == (job.job_id, False)
    check_membership(db_url)


async def test_a_second_transaction_with_another_body_is_refused_after_the_firsts_commit(db_url: str) -> None:
    async with (
        await psycopg.AsyncConnection.connect(db_url) as first,
        await psycopg.AsyncConnection.connect(db_url) as second,
    ):
        await enqueue_async(first, keyed(1))
        waiting = asyncio.create_task(enqueue_async(second, keyed(2)))
        await blocked_by(second, first)
        await first.commit()
        with pytest.raises(UniqueConflict):
            await waiting
    check_membership(db_url)


async def test_a_rollback_of_the_first_frees_the_key(db_url: str) -> None:
    async with (
        await psycopg.AsyncConnection.connect(db_url) as first,
        await psycopg.AsyncConnection.connect(db_url) as second,
    ):
        await enqueue_async(first, keyed(1))
        waiting = asyncio.create_task(enqueue_async(second, keyed(2)))
        await blocked_by(second, first)
        await first.rollback()
        assert (await waiting).created
        await second.commit()
        assert await value(second, "SELECT count(*) FROM tandem.job") == 1
    check_membership(db_url)


@pytest.mark.parametrize("scope", ["pending", "unfinished"])
async def test_a_second_transaction_sees_what_the_first_committed_while_it_waited(
    db_url: str, scope: UniqueScope
) -> None:
    # The waiting statement's own snapshot is older than the job it must find.
    async with (
        await psycopg.AsyncConnection.connect(db_url) as first,
        await psycopg.AsyncConnection.connect(db_url) as second,
    ):
        job = await enqueue_async(first, keyed(1, Unique("k", scope)))
        waiting = asyncio.create_task(enqueue_async(second, keyed(1, Unique("k", scope))))
        await blocked_by(second, first)
        await first.commit()
        assert (await waiting).job_id == job.job_id
        await second.commit()
    check_membership(db_url)


async def test_batches_with_the_same_keys_in_any_order_never_deadlock(db_url: str) -> None:
    keys = [f"k{n}" for n in range(50)]

    async def batch(names: list[str]) -> list[int]:
        async with await psycopg.AsyncConnection.connect(db_url) as connection:
            answers = await enqueue_many_async(connection, [keyed(1, Unique(name)) for name in names])
        return sorted(one.job_id for one in answers)

    found = await asyncio.gather(*(batch(names) for names in (keys, keys[::-1], keys[25:] + keys[:25]) * 2))
    assert len({tuple(ids) for ids in found}) == 1
    check_membership(db_url)


async def test_a_held_key_fails_an_impatient_producer_and_no_one_else(db_url: str) -> None:
    async with (
        await psycopg.AsyncConnection.connect(db_url) as first,
        await psycopg.AsyncConnection.connect(db_url) as second,
    ):
        await enqueue_async(first, keyed(1))
        await second.execute("SET lock_timeout = '50ms'")
        await second.commit()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await enqueue_async(second, keyed(1))
        await second.rollback()
        assert (await enqueue_async(second, keyed(1, Unique("free")))).created
        await second.commit()
        await first.commit()
    check_membership(db_url)
