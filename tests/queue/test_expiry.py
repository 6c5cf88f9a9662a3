"""Start deadlines: what waited too long ends as expired, with its hook, and never starts late."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from app.client.errors import InvalidInput
from app.database.deadline import BoundedAsyncConnection
from app.queue import admin
from app.queue.enqueue import enqueue, enqueue_async
from app.queue.job import NewJob
from app.queue.kinds import Change, Registry
from app.queue.running import Job
from app.queue.store import Store
from tests.support.claims import claim, pairs, rows, worker_connection
from tests.support.jobs import status, tries
from tests.support.membership import assert_membership_async
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async
from workers.sweeper.deadlines import ExpireJobs
from workers.sweeper.dependencies import ReleaseDependents
from workers.sweeper.step import Settled
from workers.testing import drain, fake_clock

HOUR = timedelta(hours=1)


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        yield connection
        await assert_membership_async(connection)


def soon(hours: float = 1.0) -> datetime:
    return datetime.now(UTC) + hours * HOUR


async def add(connection: BoundedAsyncConnection, **options: Any) -> int:
    return (await enqueue_async(connection, NewJob("test", **options))).job_id


async def sweep(connection: BoundedAsyncConnection, registry: Registry | None = None) -> int:
    return (await ExpireJobs(registry or Registry(), Settled()).run_once(connection)).rows


async def later(connection: BoundedAsyncConnection, hours: float) -> None:
    await connection.execute("SELECT set_config('tandem.clock_offset', %s, false)", (f"{hours} hours",))


async def ended(connection: BoundedAsyncConnection) -> list[tuple[Any, ...]]:
    return await rows(
        connection, "SELECT job_id, outcome, error_class, attempt FROM tandem.done ORDER BY job_id"
    )


async def test_what_waits_past_its_deadline_expires_wherever_it_waits(queue: BoundedAsyncConnection) -> None:
    ready, in_time = await add(queue, start_by=soon()), await add(queue, start_by=soon(3))
    delayed = await add(queue, start_by=soon(), run_at=soon(5))
    dependent = await add(queue, start_by=soon(), after=[in_time])
    cascade = await add(queue, after=[dependent])
    assert await sweep(queue) == 0
    await later(queue, 2)
    assert await sweep(queue) == 3
    assert await ended(queue) == [(job, "DEAD", "expired", 0) for job in (ready, delayed, dependent)]
    assert await rows(queue, "SELECT job_id FROM tandem.start_deadline") == [(in_time,)]
    await ReleaseDependents(Registry()).run_once(queue)
    assert await rows(queue, "SELECT outcome FROM tandem.done WHERE job_id = %s", cascade) == [("CANCELLED",)]


async def test_what_has_started_does_not_expire(queue: BoundedAsyncConnection) -> None:
    await add(queue, start_by=soon())
    [job] = await claim(queue)
    assert not job.expired(None)
    await later(queue, 2)
    assert await sweep(queue) == 0
    assert await ended(queue) == []
    assert await rows(queue, "SELECT job_id FROM tandem.start_deadline") == [], "its deadline is over"


async def test_what_was_claimed_late_or_handed_back_is_seen_by_the_worker(
    queue: BoundedAsyncConnection,
) -> None:
    await add(queue, start_by=soon())
    await Store(queue).hand_back_jobs(pairs(await claim(queue)), delay=timedelta(0))
    await later(queue, 2)
    [job] = await claim(queue)
    assert job.expired(None)
    assert not job._replace(attempt=2).expired(None), "its first try was in time"


@pytest.mark.parametrize(
    "policy", [{"start_by": 7}, {"start_by": "soon"}, {"start_by": "2020-01-01T00:00:00"}]
)
async def test_what_is_no_time_counts_as_none(queue: BoundedAsyncConnection, policy: dict[str, Any]) -> None:
    await add(queue, policy=policy)
    [job] = await claim(queue)
    assert not job.expired(None)


async def test_a_redrive_runs_it_all_the_same(queue: BoundedAsyncConnection) -> None:
    job = await add(queue, start_by=soon())
    await later(queue, 2)
    await sweep(queue)
    await admin.redrive_job(queue, Registry(), job)
    assert await sweep(queue) == 0


async def test_the_hook_hears_of_it_and_one_that_fails_holds_up_nobody(queue: BoundedAsyncConnection) -> None:
    heard: list[Change] = []

    async def hook(_: psycopg.AsyncConnection[Any], change: Change) -> None:
        if change.job_id == bad:
            raise RuntimeError("no")
        heard.append(change)

    registry = Registry()
    registry.handler("test", hook=hook)(lambda job: None)
    await Store(queue).declare_kinds([("test", 3, 3, True)])
    bad, good = await add(queue, start_by=soon()), await add(queue, start_by=soon())
    await later(queue, 2)
    assert await sweep(queue) == 0, "its hook is not known there"
    step = ExpireJobs(registry, Settled())
    moved = await step.run_once(queue)
    assert (moved.rows, moved.detail) == (1, {"failed": 1})
    assert [(one.job_id, one.transition, one.error_class) for one in heard] == [(good, "DEAD", "expired")]
    assert (await step.run_once(queue)).detail == {"failed": 1}, "tried again at each turn"


async def test_a_kinds_own_time_counts_for_all_its_jobs(queue: BoundedAsyncConnection) -> None:
    registry = Registry()
    registry.handler("test", start_within=3600)(lambda job: None)
    registry.handler("other")(lambda job: None)
    jobs = [await add(queue) for _ in range(7)]
    other = (await enqueue_async(queue, NewJob("other"))).job_id
    step = ExpireJobs(registry, Settled(), batch=3)
    assert (await step.run_once(queue)).rows == 0
    await later(queue, 2)
    step.reset()
    moved = [(await step.run_once(queue)).rows for _ in range(4)]
    assert (sum(moved), max(moved)) == (7, 3)
    assert [row[0] for row in await ended(queue)] == jobs
    [job] = await claim(queue)
    assert (job.id, job.expired(3600), job.expired(None)) == (other, True, False)


async def test_a_worker_ends_late_jobs_instead_of_starting_them(db_url: str) -> None:
    ran: list[int] = []
    registry = Registry()

    @registry.handler("test")
    async def test(job: Job[dict[str, Any]]) -> None:
        ran.append(job.id)

    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("SET tandem.clock_offset = '-2 hours'")
        at = datetime.now(UTC) - HOUR
        late = enqueue(connection, NewJob("test", start_by=at)).job_id
        fine = enqueue(connection, NewJob("test", start_by=soon())).job_id
        connection.execute("DELETE FROM tandem.start_deadline")  # so that only the worker can see it
    async with supervised(db_url, registry):
        await eventually_async(
            lambda: {status(db_url, job).status for job in (late, fine)} == {"DEAD", "SUCCEEDED"}
        )
    assert ran == [fine]
    found = status(db_url, late)
    assert (found.error_class, found.reason) == ("expired", "it was not started in time")
    assert [one.error_class for one in tries(db_url, late)] == ["expired"]


def test_drain_expires_by_the_fake_clock(db_url: str) -> None:
    registry = Registry()

    @registry.handler("test")
    async def test(job: Job[dict[str, Any]]) -> None:
        return None

    with psycopg.connect(db_url) as connection, fake_clock(connection) as clock:
        job = enqueue(connection, NewJob("test", start_by=clock.now() + HOUR)).job_id
        clock.advance(2 * HOUR)
        assert len(drain(connection, registry)) == 0
        query = "SELECT status, error_class FROM tandem.job_status WHERE job_id = %s"
        assert connection.execute(query, (job,)).fetchone() == ("DEAD", "expired")


def test_a_deadline_is_a_time_within_a_year() -> None:
    for start_by in (datetime(2026, 1, 1), soon(24 * 400), "tomorrow"):  # noqa: DTZ001 - it is refused
        with pytest.raises(InvalidInput) as refused:
            NewJob("test", start_by=start_by)  # type: ignore[arg-type]
        assert refused.value.code == "invalid-start-by"


async def test_only_the_transaction_that_enqueues_may_say_it(queue: BoundedAsyncConnection) -> None:
    job = await add(queue)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        await queue.execute("SELECT tandem.start_by(%s, now())", (job,))
    await queue.execute("SELECT tandem.start_by(tandem.enqueue('test'), tandem.clock() + interval '1 hour')")
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        await queue.execute("SELECT tandem.start_by(tandem.enqueue('test'), 'infinity')")
