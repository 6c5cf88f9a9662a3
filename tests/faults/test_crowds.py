"""Much at once: bulk operations in each other's way, expired leases by the thousand, a producer that floods."""

import asyncio
import random
import resource
from collections import Counter
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.database.connect import connect
from app.errors import Conflict
from app.queue import admin
from app.queue.job import NewJob
from app.queue.kinds import Kind, Registry
from app.queue.retry import HandlerError, Retrying, RetryPolicy
from app.queue.running import Job
from tests.support.claims import claim, worker_connection
from tests.support.jobs import enqueue_all, outcomes, tries, unfinished
from tests.support.membership import check_membership
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async
from workers.sweeper.rescue import RescueJobs
from workers.sweeper.step import Settled

AGAIN = Retrying(own=RetryPolicy(2, delays=(0.02,)))


async def test_f40_everything_that_locks_jobs_at_once_never_deadlocks(db_url: str) -> None:
    registry, ended = Registry(), asyncio.Event()

    async def fickle(job: Job[dict[str, Any]]) -> None:
        if job.payload["n"] % 3 == 0:
            raise HandlerError("every third one fails")

    registry.add(Kind("fickle", fickle, retry=AGAIN))
    ids: list[int] = []
    did: Counter[str] = Counter()

    async def produce() -> None:
        for start in range(0, 600, 50):
            made = [NewJob("fickle", {"n": start + n}, priority=n % 10) for n in range(50)]
            ids.extend(await asyncio.to_thread(enqueue_all, db_url, made))
        ended.set()

    async def cancel(seed: int) -> None:
        choice = random.Random(seed)
        async with await connect(db_url, name="cancel") as connection:
            while not ended.is_set() or did["cancel"] < 40:
                for job in choice.sample(ids, min(5, len(ids))):
                    try:
                        await admin.cancel_job(connection, registry, job, by="x")
                        did["cancel"] += 1
                    except Conflict:
                        did["too late"] += 1
                await asyncio.sleep(0)

    async def redrive() -> None:
        async with await connect(db_url, name="redrive") as connection:
            while not ended.is_set() or did["redrive"] < 5:
                await asyncio.sleep(0)
                for job in ids:
                    try:
                        await admin.redrive_job(connection, registry, job)
                        did["redrive"] += 1
                    except Conflict:
                        did["no dead letter"] += 1
                    if did["redrive"] >= 20:
                        return

    options: dict[str, Any] = {"sweep": True, "sweeper": {"every_seconds": 0.1}, "slots": 20}
    async with supervised(db_url, registry, **options), supervised(db_url, registry, **options):
        async with asyncio.timeout(90):
            await asyncio.gather(produce(), cancel(1), cancel(2), redrive())
        await eventually_async(lambda: unfinished(db_url) == 0, timeout=60)
    check_membership(db_url)
    assert min(did["cancel"], did["redrive"]) > 0, did
    with psycopg.connect(db_url) as connection:
        found = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        assert found.fetchone() == (0,)


async def test_f51_thousands_of_expired_leases_are_taken_back_page_by_page(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(
            "SELECT count(*) FROM (SELECT tandem.enqueue('test', '{}'::jsonb) FROM generate_series(1, 10000)) x"
        )
    async with await worker_connection(db_url) as connection:
        while await claim(connection, 2000, lease=timedelta(seconds=-1)):
            pass
        moved = await RescueJobs(Registry(), Settled(), batch=500).run_once(connection)
        assert moved.rows == 10_000
        assert (await RescueJobs(Registry(), Settled()).run_once(connection)).rows == 0
    check_membership(db_url)


async def test_f48_a_queue_that_is_flooded_leaves_the_others_their_share(db_url: str) -> None:
    registry, order = Registry(), list[str]()

    async def note(job: Job[dict[str, Any]]) -> None:
        order.append(job.payload["of"])

    registry.add(Kind("note", note))
    for _ in range(3):
        enqueue_all(db_url, [NewJob("note", {"of": "flood"}, queue="flood") for _ in range(1000)])
    quiet = enqueue_all(db_url, [NewJob("note", {"of": "quiet"}, queue="quiet") for _ in range(20)])
    async with supervised(db_url, registry, queues={"flood": 1, "quiet": 1}, slots=5, claim_batch=20):
        await eventually_async(lambda: set(outcomes(db_url, quiet)) == {"SUCCEEDED"}, timeout=60)
        assert order.count("flood") < 3000
        await eventually_async(lambda: unfinished(db_url) == 0, timeout=60)
    last = max(place for place, of in enumerate(order) if of == "quiet")
    assert last < 1500, "long before the flood has passed"


async def test_f50_when_everything_fails_tries_spread_out_and_nothing_is_a_dead_letter_early(
    db_url: str,
) -> None:
    registry = Registry()

    async def down(_: Job[dict[str, Any]]) -> None:
        raise ConnectionError("the service downstream is away")

    registry.add(Kind("down", down))
    jobs = enqueue_all(db_url, [NewJob("down") for _ in range(200)])
    async with supervised(db_url, registry, slots=20):
        await eventually_async(lambda: sum(len(tries(db_url, job)) for job in jobs[:40]) >= 40, timeout=60)
        await eventually_async(lambda: set(outcomes(db_url, jobs)) == {"PENDING"}, timeout=60)
    with psycopg.connect(db_url) as connection:
        delays = connection.execute(
            "SELECT s.next_attempt_at - a.finished_at AS delay FROM tandem.scheduled AS s"
            " JOIN tandem.attempt AS a USING (job_id) WHERE s.attempt = 1 ORDER BY 1"
        ).fetchall()
    assert len(delays) > 150
    shortest, longest = delays[0][0].total_seconds(), delays[-1][0].total_seconds()
    assert longest > 1.05 * shortest, "a tenth of the delay is by chance"


@pytest.mark.chaos
async def test_f7_a_child_that_runs_out_of_memory_costs_its_own_job_a_try(db_url: str) -> None:
    registry = Registry()
    registry.add(Kind("hungry", hungry, executor="process", retry=AGAIN))
    registry.add(Kind("modest", modest, executor="process"))
    [hog] = enqueue_all(db_url, [NewJob("hungry")])
    others = enqueue_all(db_url, [NewJob("modest") for _ in range(5)])
    async with supervised(db_url, registry, slots=3) as supervisor:
        await eventually_async(lambda: tries(db_url, hog), timeout=60)
        await eventually_async(lambda: set(outcomes(db_url, others)) == {"SUCCEEDED"}, timeout=60)
        assert supervisor.heartbeat.alive
    assert "MemoryError" in tries(db_url, hog)[-1].traceback


def hungry(_: Job[dict[str, Any]]) -> None:
    """Ask for a gigabyte more than there is."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, before[1]))
    try:
        bytearray(2 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def modest(_: Job[dict[str, Any]]) -> None:
    """Nothing."""
