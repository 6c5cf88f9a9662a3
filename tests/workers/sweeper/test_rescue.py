"""Rescue: every expired lease is taken back, whatever fails, hangs or runs beside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from app.database.deadline import BoundedAsyncConnection
from app.queue import lease
from app.queue.job import ClaimedJob
from app.queue.kinds import Change, Registry
from app.queue.store import Store
from tests.support.claims import LEASE, add, claim, pairs, rows, value, worker_connection
from tests.support.membership import assert_membership_async
from workers.sweeper.rescue import RescueJobs
from workers.sweeper.step import BEGINNING, Settled


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        await connection.execute("CREATE TABLE seen (job bigint, transition text, error_class text)")
        yield connection
        await assert_membership_async(connection)


async def note(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
    await connection.execute(
        "INSERT INTO seen VALUES (%s, %s, %s)", (change.job_id, change.transition, change.error_class)
    )


def hooked(hook: Any = note) -> Registry:
    registry = Registry()
    registry.handler("hooked", hook=hook)(note)
    return registry


async def declare(connection: BoundedAsyncConnection, registry: Registry) -> None:
    await Store(connection).declare_kinds(
        [(one.name, 4, one.crash_limit, one.hook is not None) for one in registry]
    )


def rescuer(registry: Registry | None = None, *, batch: int = 200) -> RescueJobs:
    return RescueJobs(registry or Registry(), Settled(), batch=batch)


async def dead(connection: BoundedAsyncConnection, count: int = 1, **options: Any) -> list[ClaimedJob]:
    """Jobs whose worker is gone: leases of one claim share one expiry, which is over."""
    await add(connection, count, **options)
    return await claim(connection, count, lease=timedelta(seconds=-1))


async def test_an_expired_lease_comes_back_as_a_suspect_with_its_attempt_refunded(
    queue: BoundedAsyncConnection,
) -> None:
    [job] = await dead(queue)
    assert (await rescuer().run_once(queue)).detail["rescued"] == 1
    assert await rows(queue, "SELECT job_id, attempt, crashes, suspect FROM tandem.ready") == [
        (job.id, 0, 0, True)
    ]
    assert await rows(queue, "SELECT verdict, error_class, attempt FROM tandem.attempt") == [
        ("RESCUED", "crash", 1)
    ]


async def test_a_live_lease_is_left_alone(queue: BoundedAsyncConnection) -> None:
    await add(queue)
    await claim(queue)
    assert (await rescuer().run_once(queue)).rows == 0


async def test_only_crashes_alone_count_and_the_last_one_makes_a_dead_letter(
    queue: BoundedAsyncConnection,
) -> None:
    await declare(queue, hooked())
    [job] = await dead(queue, kind="hooked")
    step = rescuer(hooked())
    await step.run_once(queue)
    for crashes in range(3):
        [again] = await claim(queue, lease=timedelta(seconds=-1))
        assert (again.id, again.attempt, again.crashes) == (job.id, 1, crashes)
        await Store(queue).mark_alone(again.id, again.token)
        await step.run_once(queue)
    assert await rows(queue, "SELECT outcome, error_class, attempt FROM tandem.done") == [
        ("DEAD", "crash", 1)
    ]
    assert await rows(queue, "SELECT transition, error_class FROM seen") == [("RESCUED", "crash")] * 3 + [
        ("DEAD", "crash")
    ]


@pytest.mark.parametrize(
    ("policy", "limit"),
    [({"crash_limit": 1}, 1), ({"crash_limit": "two"}, 3), ({"crash_limit": -7}, 1), ([2], 3), (7, 3)],
)
async def test_a_jobs_own_crash_limit_counts_and_a_senseless_one_harms_nobody(
    queue: BoundedAsyncConnection, policy: Any, limit: int
) -> None:
    await queue.execute("SELECT tandem.enqueue('test', policy => %s)", (Jsonb(policy),))
    others = await dead(queue, 3)
    found = await Store(queue).find_expired(after=(BEGINNING, 0), most=10, hooked_kinds=[])
    assert sorted(row.crash_limit for row in found) == sorted([limit, 3, 3])
    assert (await rescuer().run_once(queue)).detail["rescued"] == len(others)


async def test_a_job_that_was_asked_to_cancel_is_cancelled(queue: BoundedAsyncConnection) -> None:
    [job] = await dead(queue)
    await queue.execute(
        "INSERT INTO tandem.cancel_intent (job_id, requested_at) VALUES (%s, now())", (job.id,)
    )
    assert (await rescuer().run_once(queue)).detail["cancelled"] == 1
    assert await rows(queue, "SELECT job_id, outcome FROM tandem.done") == [(job.id, "CANCELLED")]
    assert await rows(queue, "SELECT 1 FROM tandem.cancel_intent") == []


async def test_one_stuck_job_behind_a_thousand_long_ones_is_found(queue: BoundedAsyncConnection) -> None:
    # R12: a batch full of leases that must not be rescued hides nothing.
    await declare(queue, hooked())
    for _ in range(5):
        await dead(queue, 200, kind="hooked")
    [stuck] = await dead(queue)
    report = await rescuer(Registry()).run_once(queue)
    assert report.detail == {"rescued": 1, "dead": 0, "cancelled": 0, "failed": 0}
    assert await rows(queue, "SELECT job_id FROM tandem.ready") == [(stuck.id,)]
    assert await value(queue, "SELECT count(*) FROM tandem.lease") == 1000, (
        "their hook is known to another sweeper"
    )
    assert (await rescuer(hooked()).run_once(queue)).detail["rescued"] == 1000


@pytest.mark.parametrize("batch", [2, 3, 200])
async def test_hooks_that_fail_never_hold_up_other_rescues(queue: BoundedAsyncConnection, batch: int) -> None:
    # R10, R18: more failing rows than a batch holds, all of one expiry, and good ones before, among and behind them.
    async def refuse_odd(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
        await note(connection, change)
        if change.job_id % 3:
            raise ValueError("the hook does not like it")

    registry = hooked(refuse_odd)
    await declare(queue, registry)
    jobs = await dead(queue, 30, kind="hooked")
    good = [job.id for job in jobs if job.id % 3 == 0]
    report = await rescuer(registry, batch=batch).run_once(queue)
    assert report.detail == {"rescued": 10, "dead": 0, "cancelled": 0, "failed": 20}
    assert [row[0] for row in await rows(queue, "SELECT job_id FROM tandem.ready ORDER BY job_id")] == good
    assert [row[0] for row in await rows(queue, "SELECT job FROM seen ORDER BY job")] == good
    assert (await rescuer(hooked()).run_once(queue)).detail["rescued"] == 20, (
        "a hook that was mended gets the rest"
    )


async def test_a_hook_that_waits_for_a_lock_holds_up_only_itself(db_url: str) -> None:
    async with await worker_connection(db_url) as queue, await worker_connection(db_url) as other:
        await queue.execute("CREATE TABLE counter (n int)")
        await queue.execute("INSERT INTO counter VALUES (0)")

        async def count(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
            if change.job_id == 2:
                await connection.execute("UPDATE counter SET n = n + 1")

        registry = hooked(count)
        await declare(queue, registry)
        await dead(queue, 4, kind="hooked")
        async with other.transaction():
            await other.execute("UPDATE counter SET n = n + 1")
            report = await rescuer(registry).run_once(queue)
        assert report.detail == {"rescued": 3, "dead": 0, "cancelled": 0, "failed": 1}
        assert (await rescuer(registry).run_once(queue)).detail["rescued"] == 1
        await assert_membership_async(queue)


async def test_a_lease_held_by_a_running_transaction_is_skipped_and_the_others_are_not(db_url: str) -> None:
    async with await worker_connection(db_url) as queue, await worker_connection(db_url) as sweeper:
        held, *others = await dead(queue, 5)
        async with lease.job_transaction(queue, held.id, held.token):
            async with asyncio.timeout(10):
                assert (await rescuer().run_once(sweeper)).detail["rescued"] == len(others)
            await lease.complete(queue, held.id, held.token, ran_ms=1.0, result=None)
        assert await value(queue, "SELECT outcome FROM tandem.done WHERE job_id = %s", held.id) == "SUCCEEDED"
        await assert_membership_async(queue)


async def test_a_lease_that_is_extended_while_it_is_found_stays(queue: BoundedAsyncConnection) -> None:
    [job] = await dead(queue)
    await Store(queue).extend_leases(pairs([job]), lease=LEASE)
    assert (await rescuer().run_once(queue)).rows == 0


async def test_two_sweepers_at_once_rescue_every_job_once(db_url: str) -> None:
    async with await worker_connection(db_url) as first, await worker_connection(db_url) as second:
        for _ in range(5):
            await dead(first, 60)
        reports = await asyncio.gather(rescuer(batch=7).run_once(first), rescuer(batch=7).run_once(second))
        await rescuer().run_once(first)
        assert sum(one.detail["rescued"] for one in reports) <= 300
        assert await value(first, "SELECT count(*) FROM tandem.ready") == 300
        assert await value(first, "SELECT count(*) FROM tandem.attempt") == 300
        await assert_membership_async(first)


@pytest.mark.parametrize("words", ["SELECT 1 / 0", "ROLLBACK", "COMMIT"])
async def test_a_hook_that_breaks_its_transaction_in_silence_holds_up_only_itself(
    queue: BoundedAsyncConnection, words: str
) -> None:
    async def broken(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
        if change.job_id == 2:
            with suppress(psycopg.Error):
                await connection.execute(words.encode())

    registry = hooked(broken)
    await declare(queue, registry)
    await dead(queue, 4, kind="hooked")
    with suppress(psycopg.ProgrammingError):
        await rescuer(registry).run_once(queue)
    assert await value(queue, "SELECT count(*) FROM tandem.ready WHERE job_id <> 2") == 3
