"""Bugs that others had (docs/reliability.md lists them all) and that no other test of ours would notice by name."""

import threading
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app import events
from app.database.deadline import BoundedAsyncConnection
from app.queue.facts import Ended
from app.queue.job import NewJob
from app.queue.kinds import Kind, Registry
from app.queue.running import Job
from app.queue.store import Store
from tests.support.admission import admit, finish, limit, manage
from tests.support.claims import add, claim, every_lane, pairs, rows, value, worker_connection
from tests.support.jobs import enqueue_all, outcome
from tests.support.membership import assert_membership_async
from tests.support.supervised import quick_settings, supervised
from tests.support.waiting import eventually_async
from workers.supervisor import Supervisor
from workers.sweeper.rescue import RescueJobs
from workers.sweeper.step import Settled

GONE = timedelta(seconds=-1)


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        yield connection
        await assert_membership_async(connection)


async def rescue(connection: BoundedAsyncConnection, registry: Registry | None = None) -> int:
    return (await RescueJobs(registry or Registry(), Settled()).run_once(connection)).rows


async def test_r01_a_rescue_takes_back_only_the_try_that_it_found(queue: BoundedAsyncConnection) -> None:
    """river#1302: found by state, updated by id alone; it overwrote a job that had ended, or run again, meanwhile."""
    await add(queue)
    [stale] = await claim(queue, lease=GONE)
    assert await rescue(queue) == 1
    [current] = await claim(queue)
    assert current.id == stale.id
    assert await Store(queue).rescue_jobs(pairs([stale])) == []
    assert await rows(queue, "SELECT token FROM tandem.lease") == [(current.token,)]


async def test_r04_a_late_finish_frees_no_slot_of_a_limit(queue: BoundedAsyncConnection) -> None:
    """solid_queue#761: each late finish gave the slot back once more; a job limited to one ran eleven times at once."""
    await manage(queue, key_limit=1)
    await limit(queue, "queue:default", max_running=1)
    await add(queue, 4, partition_key="a")
    [stale] = await admit(queue, lease=GONE)
    assert await rescue(queue) == 1
    [current] = await admit(queue)
    for _ in range(3):
        await finish(queue, [stale])
        assert await admit(queue) == []
    assert await rows(queue, "SELECT token FROM tandem.lease") == [(current.token,)]
    await finish(queue, [current])
    assert len(await admit(queue)) == 1


async def test_r09_a_lease_that_was_taken_back_counts_against_no_limit(queue: BoundedAsyncConnection) -> None:
    """pgqueuer#475: jobs of dead workers filled the limit for ever, so nothing ran that could have replaced them."""
    await manage(queue, key_limit=2)
    await limit(queue, "queue:default", max_running=2)
    await limit(queue, "global", max_running=2)
    await add(queue, 3, partition_key="a")
    assert len(await admit(queue, lease=GONE)) == 2
    assert await admit(queue) == [], "until the sweep has been there"
    assert await rescue(queue) == 2
    assert len(await admit(queue)) == 2


async def test_r06_a_lease_needs_no_row_of_its_worker_and_no_name_revives_it(
    queue: BoundedAsyncConnection, db_url: str
) -> None:
    """procrastinate#1518, oban#862: the dead worker's row was gone, or a namesake's heartbeat kept its jobs alive."""
    await add(queue, 2)
    assert len(await claim(queue, lease=GONE)) == 2
    assert await value(queue, "SELECT count(*) FROM tandem.worker") == 0
    settings, registry = quick_settings(), Registry()
    one, two = (Supervisor(settings, db_url, registry) for _ in range(2))
    assert (one.name, one.id == two.id) == (two.name, False), "one name, and still two workers"
    await Store(queue).register_worker(
        worker=uuid.uuid4(), name=one.name, mode="poll", queues=["default"], concurrency=1, version="x"
    )
    assert await rescue(queue) == 2


def test_r08_a_lease_outlives_two_missed_heartbeats() -> None:
    """pgqueuer#430: the heartbeat came as often as the time-out, so jobs that lived were taken."""
    settings = quick_settings(lease_seconds=9.0)
    supervisor = Supervisor(settings, "postgresql://nobody@127.0.0.1:1/nothing", Registry())
    assert supervisor.heartbeat.every * 3 <= settings.worker.lease_seconds
    assert isinstance(supervisor.heartbeat._thread, threading.Thread)


async def test_r17_a_sweeper_that_knows_no_kind_discards_nothing(queue: BoundedAsyncConnection) -> None:
    """river#1105: a worker not registered for a kind threw the jobs of other queues away."""
    await add(queue, kind="elsewhere", queue="others")
    assert len(await claim(queue, lanes=every_lane(("others",)), lease=GONE)) == 1
    assert await rescue(queue, Registry()) == 1
    assert await rows(queue, "SELECT kind, status FROM tandem.job_status") == [("elsewhere", "PENDING")]
    assert await value(queue, "SELECT count(*) FROM tandem.done") == 0


async def test_r21_what_fails_after_the_commit_does_not_run_the_job_again(db_url: str) -> None:
    """langwatch#5948: an audit hook that failed after the commit sent a job that had ended back to the queue."""
    registry, ran = Registry(), list[int]()

    async def once(job: Job[dict[str, Any]]) -> None:
        ran.append(job.id)

    def breaks(_: Ended) -> None:
        raise RuntimeError("the audit is away")

    registry.add(Kind("once", once))
    leave = events.subscribe(Ended, breaks)
    try:
        async with supervised(db_url, registry, sweep=True) as supervisor:
            jobs = enqueue_all(db_url, [NewJob("once") for _ in range(5)])
            await eventually_async(lambda: all(outcome(db_url, job) == "SUCCEEDED" for job in jobs))
            await eventually_async(lambda: supervisor.slots.busy == 0)
            assert not any(supervisor.inbox.holds(job, 0) for job in jobs)
    finally:
        leave()
    assert sorted(ran) == jobs
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT count(*) FROM tandem.lease").fetchone() == (0,)
