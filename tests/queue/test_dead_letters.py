"""Dead letters as a heap: counted, grouped by cause, purged for good, and redriven at a rate."""

import asyncio
from time import monotonic
from typing import Any

import psycopg
import pytest

from app.database.connect import connect
from app.errors import Conflict, InvalidInput, NotFound
from app.queue import admin, dead_letters, pace
from app.queue.dead_letters import count_dead_letters, group_dead_letters, purge_dead_letters
from app.queue.enqueue import enqueue_async
from app.queue.job import NewJob, Unique
from app.queue.kinds import Registry
from app.queue.pace import Pace
from tests.support.claims import add, claim, every_lane, rows, value
from tests.support.states import fail

Connection = psycopg.AsyncConnection[Any]
REGISTRY = Registry()


async def die(
    connection: Connection, count: int, *, fingerprint: str = "f", queue: str = "default"
) -> list[int]:
    """Jobs of kind `test` that died at their first try."""
    jobs = await add(connection, count, queue=queue)
    lanes = every_lane([queue])
    for job in await claim(connection, count, lanes=lanes):
        await fail(connection, REGISTRY, job, f"ValueError: {job.id}", fingerprint=fingerprint)
    return jobs


async def left(connection: Connection) -> list[int]:
    """The dead letters that are there, by id."""
    return sorted(row["job_id"] for row in await admin.list_dead_letters(connection))


async def test_dead_letters_are_counted_by_what_they_have_in_common(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        alike = await die(connection, 3, fingerprint="aaaa")
        await die(connection, 2, fingerprint="bbbb", queue="mail")
        until = await value(connection, "SELECT tandem.clock()")
        await die(connection, 1, fingerprint="aaaa")
        await add(connection, 2)
        assert await count_dead_letters(connection) == 6
        assert await count_dead_letters(connection, queue="mail") == 2
        assert await count_dead_letters(connection, kind="other") == 0
        assert await count_dead_letters(connection, fingerprint="aaaa", until=until) == 3
        assert await count_dead_letters(connection, job_ids=[alike[0], 4711]) == 1
        assert await count_dead_letters(connection, job_ids=[]) == 0


async def test_they_are_grouped_by_cause_the_largest_group_first(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await die(connection, 1, fingerprint="bbbb", queue="mail")
        alike = await die(connection, 3, fingerprint="aaaa")
        first, second = await group_dead_letters(connection)
        assert (first["fingerprint"], first["error_class"], first["jobs"]) == ("aaaa", "temporary", 3)
        assert (first["example"], first["reason"]) == (alike[-1], f"ValueError: {alike[-1]}")
        assert first["first_died_at"] < first["last_died_at"]
        assert (second["fingerprint"], second["jobs"], second["queue"]) == ("bbbb", 1, "mail")
        assert await group_dead_letters(connection, queue="mail") == [second]
        assert await group_dead_letters(connection, limit=1) == [first]
        with pytest.raises(InvalidInput, match="limit is 1 to 1000"):
            await group_dead_letters(connection, limit=0)


async def test_purging_leaves_nothing_but_what_did_not_fit(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "PURGE_BATCH", 2)
    async with await connect(db_url, name="test") as connection:
        await die(connection, 5, fingerprint="aaaa")
        others = await die(connection, 2, fingerprint="bbbb")
        waiting = await add(connection, 1)
        seen: list[int] = []
        assert await purge_dead_letters(connection, fingerprint="aaaa", on_progress=seen.append) == 5
        assert seen == [2, 4, 5]
        assert await left(connection) == others
        ids = await rows(
            connection,
            "SELECT ARRAY(SELECT id FROM tandem.job ORDER BY 1), ARRAY(SELECT job_id FROM tandem.done ORDER BY 1),"
            " ARRAY(SELECT DISTINCT job_id FROM tandem.attempt ORDER BY 1)",
        )
        assert ids == [([*others, *waiting], others, others)]
        assert await admin.check_membership(connection) == []


async def test_single_ones_are_purged_and_nothing_else_ever(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        jobs = await die(connection, 3)
        waiting = await add(connection, 1)
        assert await purge_dead_letters(connection, job_ids=[jobs[1], waiting[0], 4711]) == 1
        assert await left(connection) == [jobs[0], jobs[2]]
        assert await purge_dead_letters(connection, job_ids=[]) == 0
        assert (await admin.read_job(connection, waiting[0]))["status"] == "PENDING"
        with pytest.raises(NotFound):
            await admin.read_job(connection, jobs[1])


async def test_a_purge_is_bounded_by_number_and_by_age(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        old = await die(connection, 3)
        until = await value(connection, "SELECT tandem.clock()")
        young = await die(connection, 1)
        assert await purge_dead_letters(connection, until=until, limit=2) == 2
        assert await left(connection) == [old[2], *young], "the oldest first"
        assert await purge_dead_letters(connection, until=until) == 1
        assert await left(connection) == young


async def test_a_purge_is_flushed(db_url: str) -> None:
    async with await connect(db_url, name="test", session={"synchronous_commit": "off"}) as connection:
        await die(connection, 1)
        await connection.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN ASSERT current_setting('synchronous_commit') = 'on'; RETURN OLD; END $$"
        )
        await connection.execute(
            "CREATE TRIGGER note BEFORE DELETE ON tandem.done FOR EACH ROW EXECUTE FUNCTION note()"
        )
        assert await purge_dead_letters(connection) == 1


async def test_what_is_just_redriven_is_not_purged(db_url: str) -> None:
    async with await connect(db_url, name="one") as one, await connect(db_url, name="two") as two:
        [job] = await die(one, 1)
        async with one.transaction():
            await admin.redrive_job(one, REGISTRY, job)
            assert await purge_dead_letters(two) == 0
        assert (await admin.read_job(one, job))["status"] == "PENDING"


async def test_what_is_just_purged_is_not_redriven(db_url: str) -> None:
    async with await connect(db_url, name="one") as one, await connect(db_url, name="two") as two:
        [job] = await die(one, 1)
        async with one.transaction():
            assert await purge_dead_letters(one) == 1
            redrive = asyncio.ensure_future(admin.redrive_job(two, REGISTRY, job))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
            while not await value(one, waiting, two.info.backend_pid) and not redrive.done():
                await asyncio.sleep(0)
        with pytest.raises((NotFound, Conflict)):
            await redrive
        assert await admin.check_membership(one) == []
        assert await value(one, "SELECT count(*) FROM tandem.ready") == 0


async def test_a_purged_job_keeps_its_unique_key(db_url: str) -> None:
    once = NewJob("test", {"n": 1}, unique=Unique("order-7"))
    async with await connect(db_url, name="test") as connection:
        first = await enqueue_async(connection, once)
        [job] = await claim(connection)
        await fail(connection, REGISTRY, job, "ValueError: no")
        assert await purge_dead_letters(connection) == 1
        again = await enqueue_async(connection, once)
        assert (again.job_id, again.created) == (first.job_id, False)


async def test_redriving_and_purging_keep_to_their_rate(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await die(connection, 12)
        seen: list[int] = []
        started = monotonic()
        report = await admin.redrive_jobs(
            connection, REGISTRY, limit=6, rate=30, on_progress=lambda one: seen.append(len(one.jobs))
        )
        assert monotonic() - started > 0.9 * 6 / 30
        assert (len(report.jobs), seen) == (6, [6])
        started = monotonic()
        assert await purge_dead_letters(connection, rate=15, on_progress=seen.append) == 6
        assert monotonic() - started > 0.9 * 6 / 15
        assert seen[1:] == [3, 6]


def test_a_pace_gives_small_batches_for_small_rates() -> None:
    assert [Pace(rate).batch(100) for rate in (None, 0.5, 4, 50, 10_000)] == [100, 1, 1, 10, 100]
    assert pace.TURNS_PER_SECOND == 5
    for rate in (0, -1, float("nan"), float("inf"), 2e6):
        with pytest.raises(InvalidInput, match="a rate is"):
            Pace(rate)
