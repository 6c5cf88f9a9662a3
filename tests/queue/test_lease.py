"""Leases: a stale token writes nothing anywhere, a heartbeat extends what is held, an expired lease can be lost."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue import lease
from app.queue.job import ClaimedJob
from app.queue.kinds import Registry
from app.queue.lease import LeaseLost
from app.queue.settle import FailedJob, settle
from app.queue.store import Failed, Finish, Store
from tests.support.claims import LEASE, add, claim, pairs, rows, value, worker_connection
from tests.support.membership import assert_membership_async
from workers.sweeper.step import BEGINNING

EVERYTHING = """
SELECT (SELECT array_agg(r ORDER BY r.job_id) FROM tandem.ready AS r), (SELECT array_agg(l) FROM tandem.lease AS l),
       (SELECT array_agg(s) FROM tandem.scheduled AS s), (SELECT array_agg(d) FROM tandem.done AS d),
       (SELECT array_agg(a) FROM tandem.attempt AS a)
"""
Write = Callable[[Store, ClaimedJob, int], Awaitable[Any]]


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        yield connection
        await assert_membership_async(connection)


async def expire(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute("UPDATE tandem.lease SET expires_at = clock_timestamp() - interval '1 second'")


async def finish(store: Store, job: ClaimedJob, token: int) -> Any:
    return await store.finish_jobs([Finish(job.id, token, 1.0, None)])


async def retry(store: Store, job: ClaimedJob, token: int) -> Any:
    return await store.retry_jobs([Failed(job.id, token, 1.0, "temporary", "x")])


async def close(store: Store, job: ClaimedJob, token: int) -> Any:
    return await store.close_jobs([Failed(job.id, token, 1.0, "permanent", "x")])


async def hand_back(store: Store, job: ClaimedJob, token: int) -> Any:
    return await store.hand_back_jobs([(job.id, token)], delay=timedelta(0))


async def extend(store: Store, job: ClaimedJob, token: int) -> Any:
    return await store.extend_leases([(job.id, token)], lease=LEASE)


async def mark(store: Store, job: ClaimedJob, token: int) -> Any:
    return await store.mark_alone(job.id, token)


async def rescue(store: Store, job: ClaimedJob, token: int) -> Any:
    return await store.rescue_jobs([(job.id, token)])


async def settled(store: Store, job: ClaimedJob, token: int) -> Any:
    failed = FailedJob("test", None, Failed(job.id, token, 1.0, "temporary", "x"), again=True)
    return await settle(store.connection, Registry(), [failed])


WRITES: list[Write] = [finish, retry, close, hand_back, extend, mark, rescue, settled]


@pytest.mark.parametrize("write", WRITES)
async def test_a_stale_token_writes_nothing(queue: BoundedAsyncConnection, write: Write) -> None:
    await add(queue)
    [job] = await claim(queue)
    await expire(queue)
    before = await rows(queue, EVERYTHING)
    assert not await write(Store(queue), job, job.token ^ 1)
    assert await rows(queue, EVERYTHING) == before


@pytest.mark.parametrize("write", WRITES)
async def test_a_job_that_another_worker_claimed_since_is_not_touched_by_the_first(
    queue: BoundedAsyncConnection, write: Write
) -> None:
    await add(queue)
    [old] = await claim(queue)
    await expire(queue)
    await Store(queue).rescue_jobs(pairs([old]))
    [new] = await claim(queue)
    assert new.id == old.id and new.token != old.token
    before = await rows(queue, EVERYTHING)
    assert not await write(Store(queue), old, old.token)
    assert await rows(queue, EVERYTHING) == before
    assert await finish(Store(queue), new, new.token) == {new.id}


@pytest.mark.parametrize("write", [finish, close, hand_back, retry])
async def test_the_same_end_twice_writes_once(queue: BoundedAsyncConnection, write: Write) -> None:
    await add(queue)
    [job] = await claim(queue)
    assert await write(Store(queue), job, job.token)
    before = await rows(queue, EVERYTHING)
    assert not await write(Store(queue), job, job.token)
    assert await rows(queue, EVERYTHING) == before


async def test_rescue_leaves_a_lease_that_was_extended_since_it_was_found(
    queue: BoundedAsyncConnection,
) -> None:
    # R1: found as expired, extended meanwhile; the rescue repeats token and expiry.
    await add(queue)
    [job] = await claim(queue)
    await expire(queue)
    await extend(Store(queue), job, job.token)
    assert await rescue(Store(queue), job, job.token) == []
    assert await finish(Store(queue), job, job.token) == {job.id}


async def test_an_expired_lease_that_nobody_took_is_still_ours(queue: BoundedAsyncConnection) -> None:
    await add(queue)
    [job] = await claim(queue)
    await expire(queue)
    assert await finish(Store(queue), job, job.token) == {job.id}


async def test_a_heartbeat_extends_by_the_databases_clock_and_tells_of_cancels(
    queue: BoundedAsyncConnection,
) -> None:
    await add(queue, 2)
    first, second = await claim(queue)
    await queue.execute(
        "INSERT INTO tandem.cancel_intent (job_id, requested_at) VALUES (%s, now())", (second.id,)
    )
    await queue.execute("SET tandem.clock_offset = '1 hour'")
    gone = (first.id, first.token ^ 1)
    told = await Store(queue).extend_leases([*pairs([first, second]), gone], lease=timedelta(minutes=2))
    assert told == {(first.id, first.token): False, (second.id, second.token): True}
    left = "SELECT min(expires_at - tandem.clock()) FROM tandem.lease"
    assert timedelta(minutes=1) < await value(queue, left) <= timedelta(minutes=2)


# --- job.transaction() -------------------------------------------------------------------------------------------


async def test_the_effect_and_the_end_of_the_job_commit_together(db_url: str) -> None:
    async with await worker_connection(db_url) as queue, await worker_connection(db_url) as other:
        await queue.execute("CREATE TABLE effect (job bigint)")
        await add(queue)
        [job] = await claim(queue)
        async with lease.job_transaction(queue, job.id, job.token):
            await queue.execute("INSERT INTO effect VALUES (%s)", (job.id,))
            assert await value(other, "SELECT count(*) FROM effect") == 0
            await lease.complete(queue, job.id, job.token, ran_ms=1.0, result='{"n": 1}')
            assert await value(other, "SELECT count(*) FROM tandem.done") == 0
        assert await value(other, "SELECT count(*) FROM effect") == 1
        assert await rows(other, "SELECT job_id, token, result FROM tandem.done") == [
            (job.id, job.token, {"n": 1})
        ]
        await assert_membership_async(other)


async def test_a_stale_try_is_stopped_before_its_effect(queue: BoundedAsyncConnection) -> None:
    await queue.execute("CREATE TABLE effect (job bigint)")
    await add(queue)
    [job] = await claim(queue)
    with pytest.raises(LeaseLost):
        async with lease.job_transaction(queue, job.id, job.token ^ 1):
            await queue.execute("INSERT INTO effect VALUES (1)")
    assert await value(queue, "SELECT count(*) FROM effect") == 0


async def test_an_effect_without_its_job_rolls_back(queue: BoundedAsyncConnection) -> None:
    await queue.execute("CREATE TABLE effect (job bigint)")
    await add(queue)
    [job] = await claim(queue)
    with pytest.raises(ZeroDivisionError):
        async with lease.job_transaction(queue, job.id, job.token):
            await queue.execute("INSERT INTO effect VALUES (1)")
            raise ZeroDivisionError
    assert await value(queue, "SELECT count(*) FROM effect") == 0
    assert await value(queue, "SELECT count(*) FROM tandem.lease") == 1


async def test_while_a_transaction_runs_heartbeats_pass_and_rescue_skips(db_url: str) -> None:
    async with await worker_connection(db_url) as queue, await worker_connection(db_url) as other:
        await add(queue)
        [job] = await claim(queue)
        await expire(queue)
        async with lease.job_transaction(queue, job.id, job.token):
            await other.execute("SET lock_timeout = '2s'")
            found = await Store(other).find_expired(after=(BEGINNING, 0), most=10, hooked_kinds=[])
            assert found == []
            assert await Store(other).extend_leases(pairs([job]), lease=LEASE) == {(job.id, job.token): False}
            assert await value(other, "SELECT expires_at > clock_timestamp() FROM tandem.lease")
            await lease.complete(queue, job.id, job.token, ran_ms=1.0, result=None)
        await assert_membership_async(other)
        assert await value(other, "SELECT outcome FROM tandem.done") == "SUCCEEDED"


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_snapshot_that_does_not_move_is_refused(queue: BoundedAsyncConnection, level: str) -> None:
    await add(queue)
    [job] = await claim(queue)
    await queue.execute(psycopg.sql.SQL("SET default_transaction_isolation = {}").format(level.lower()))
    with pytest.raises(Exception, match="needs READ COMMITTED"):
        async with lease.job_transaction(queue, job.id, job.token):
            pytest.fail("the block must not run")
    await queue.execute("RESET default_transaction_isolation")
    assert await finish(Store(queue), job, job.token) == {job.id}


async def test_its_commit_is_flushed_on_a_connection_that_does_not_flush(
    queue: BoundedAsyncConnection,
) -> None:
    await queue.execute("SET synchronous_commit = off")
    await add(queue)
    [job] = await claim(queue)
    async with lease.job_transaction(queue, job.id, job.token):
        assert await value(queue, "SHOW synchronous_commit") == "on"
        await lease.complete(queue, job.id, job.token, ran_ms=1.0, result=None)
    assert await value(queue, "SHOW synchronous_commit") == "off"


async def test_f46_times_are_not_those_of_the_transactions_beginning(queue: BoundedAsyncConnection) -> None:
    """What was due a moment after BEGIN is due, and a lease begins when it is taken."""
    async with queue.transaction():
        due = await value(queue, "SELECT now() + interval '0.5 seconds'")
        await queue.execute("SELECT pg_sleep(1)")
        [job] = await add(queue, run_at=due)
        assert [one.id for one in await claim(queue)] == [job]
        left = await value(queue, "SELECT expires_at - now() FROM tandem.lease")
        assert left >= LEASE + timedelta(seconds=1)
