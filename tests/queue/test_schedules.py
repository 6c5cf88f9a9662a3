"""Schedules in the database: each tick makes its job once, whatever the clock does and however many look at it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.database.deadline import BoundedAsyncConnection
from app.errors import Conflict, NotFound
from app.queue import schedules
from app.queue.kinds import Registry
from app.queue.schedule_store import ScheduleStore
from app.queue.schedules import Schedule, fire_schedules, put_schedule
from tests.support.claims import rows, value, worker_connection
from tests.support.membership import assert_membership_async
from workers.sweeper.cron import FireSchedules
from workers.sweeper.retention import ForgetExpired

NOON = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
MADE = "SELECT context ->> 'tick' FROM tandem.job ORDER BY id"
MINUTELY = Schedule("beat", "* * * * *", "beat", {"n": 1}, queue="beats", missed="catch_up")


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A connection at NOON, to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        await set_clock(connection, NOON)
        yield connection
        await assert_membership_async(connection)


async def set_clock(connection: BoundedAsyncConnection, at: datetime) -> None:
    """Move the queue's clock in this session."""
    query = "SELECT set_config('tandem.clock_offset', (%s - clock_timestamp())::text, false)"
    await connection.execute(query, (at,))


async def made(connection: BoundedAsyncConnection) -> list[str]:
    """The hours and minutes of the ticks that made jobs."""
    return [row[0][11:16] for row in await rows(connection, MADE)]


async def test_a_tick_makes_the_schedules_job(queue: BoundedAsyncConnection) -> None:
    await put_schedule(
        queue,
        Schedule("one", "* * * * *", "report", {"n": 1}, queue="reports", priority=7, partition_key="k"),
    )
    assert (await fire_schedules(queue)).ticks == 0
    await set_clock(queue, NOON + timedelta(minutes=1))
    assert (await fire_schedules(queue)).ticks == 1
    assert (await fire_schedules(queue)).ticks == 0
    query = "SELECT kind, payload, queue, priority, partition_key, context FROM tandem.job"
    context = {"schedule": "one", "tick": "2026-03-01T12:01:00Z"}
    assert await rows(queue, query) == [("report", {"n": 1}, "reports", 7, "k", context)]
    found = await schedules.read_schedule(queue, "one")
    assert found["last_tick_at"] == datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
    assert found["next_tick_at"] == datetime(2026, 3, 1, 12, 2, tzinfo=UTC)
    assert found["last_status"] == "PENDING"


async def test_after_an_outage_catch_up_makes_all_jobs_and_coalesce_one(
    queue: BoundedAsyncConnection,
) -> None:
    await put_schedule(queue, MINUTELY)
    await put_schedule(queue, Schedule("latest", "*/5 * * * *", "report"))
    await set_clock(queue, NOON + timedelta(hours=4))
    assert (await fire_schedules(queue)).ticks == 240 + 1
    ticks = await rows(queue, "SELECT context ->> 'tick' FROM tandem.job WHERE kind = 'beat' ORDER BY id")
    assert [tick for [tick] in ticks] == sorted({tick for [tick] in ticks})
    assert len(ticks) == 240
    assert (
        await value(queue, "SELECT context ->> 'tick' FROM tandem.job WHERE kind = 'report'")
        == "2026-03-01T16:00:00Z"
    )


async def test_a_clock_that_goes_back_fires_no_tick_again(queue: BoundedAsyncConnection) -> None:
    await put_schedule(queue, MINUTELY)
    for minutes in (1, 2, -60, 1, 2, 3):
        await set_clock(queue, NOON + timedelta(minutes=minutes))
        await fire_schedules(queue)
    assert await made(queue) == ["12:01", "12:02", "12:03"]
    await set_clock(queue, NOON)
    await schedules.resume_schedule(queue, "beat")  # its next tick is one that has fired
    await set_clock(queue, NOON + timedelta(minutes=4))
    await fire_schedules(queue)
    assert await made(queue) == ["12:01", "12:02", "12:03", "12:04"]


async def test_a_clock_that_jumped_far_ahead_is_made_up_for_by_resume(queue: BoundedAsyncConnection) -> None:
    await put_schedule(queue, Schedule("one", "* * * * *", "report"))
    await set_clock(queue, NOON + timedelta(days=365))
    assert (await fire_schedules(queue)).ticks == 1
    await set_clock(queue, NOON + timedelta(minutes=1))
    assert (await fire_schedules(queue)).ticks == 0
    found = await schedules.resume_schedule(queue, "one")
    assert found["next_tick_at"] == datetime(2026, 3, 1, 12, 2, tzinfo=UTC)


async def test_three_at_once_make_each_job_once(db_url: str) -> None:
    connections = [await worker_connection(db_url) for _ in range(3)]
    try:
        for number in range(4):
            await set_clock(connections[0], NOON)
            await put_schedule(connections[0], Schedule(f"s{number}", "* * * * *", "beat", missed="catch_up"))
        for hour in range(1, 4):
            for connection in connections:
                await set_clock(connection, NOON + timedelta(hours=hour))
            fired = await asyncio.gather(*(fire_schedules(connection) for connection in connections))
            assert sum(one.ticks for one in fired) == 4 * 60
            assert sum(one.failed for one in fired) == 0
        query = (
            "SELECT count(*), count(DISTINCT (context ->> 'schedule', context ->> 'tick')) FROM tandem.job"
        )
        assert await rows(connections[0], query) == [(720, 720)]
        await assert_membership_async(connections[0])
    finally:
        for connection in connections:
            await connection.close()


async def test_a_paused_schedule_fires_nothing_and_makes_up_for_nothing(
    queue: BoundedAsyncConnection,
) -> None:
    await put_schedule(queue, MINUTELY)
    await schedules.pause_schedule(queue, "beat", by="ann")
    assert (await schedules.pause_schedule(queue, "beat", by="bob"))["paused_by"] == "ann"
    await set_clock(queue, NOON + timedelta(minutes=10))
    assert (await fire_schedules(queue)).ticks == 0
    await schedules.resume_schedule(queue, "beat")
    assert (await fire_schedules(queue)).ticks == 0
    await set_clock(queue, NOON + timedelta(minutes=11))
    await fire_schedules(queue)
    assert await made(queue) == ["12:11"]


async def test_without_overlap_a_tick_waits_for_the_job_of_an_earlier_one(
    queue: BoundedAsyncConnection,
) -> None:
    await put_schedule(queue, Schedule("one", "* * * * *", "report", overlap=False))
    for minutes in (1, 2, 3):
        await set_clock(queue, NOON + timedelta(minutes=minutes))
        await fire_schedules(queue)
    assert await made(queue) == ["12:01"]
    ended = """WITH gone AS (DELETE FROM tandem.ready RETURNING job_id)
        INSERT INTO tandem.done (job_id, finished_at, attempt, outcome)
        SELECT job_id, tandem.clock(), 1, 'SUCCEEDED' FROM gone"""
    await queue.execute(ended)
    await set_clock(queue, NOON + timedelta(minutes=4))
    await fire_schedules(queue)
    assert await made(queue) == ["12:01", "12:04"]


async def test_a_change_of_the_times_counts_from_now_and_another_change_leaves_them(
    queue: BoundedAsyncConnection,
) -> None:
    await put_schedule(queue, Schedule("one", "0 13 * * *", "report"))
    changed = await put_schedule(queue, Schedule("one", "0 13 * * *", "other", {"n": 2}))
    assert (changed["kind"], changed["next_tick_at"]) == ("other", datetime(2026, 3, 1, 13, tzinfo=UTC))
    changed = await put_schedule(queue, Schedule("one", "0 13 * * *", "other", timezone="Asia/Ho_Chi_Minh"))
    assert changed["next_tick_at"] == datetime(2026, 3, 2, 6, tzinfo=UTC)


async def test_what_code_declares_is_written_by_its_first_sweep_and_an_operator_may_only_pause_it(
    queue: BoundedAsyncConnection,
) -> None:
    registry = Registry()
    registry.cron("nightly", "0 3 * * *", kind="report", timezone="Europe/Berlin")
    step = FireSchedules(registry)
    assert (await step.run_once(queue)).rows == 0
    found = await schedules.read_schedule(queue, "nightly")
    assert (found["source"], found["next_tick_at"]) == ("code", datetime(2026, 3, 2, 2, tzinfo=UTC))
    with pytest.raises(Conflict) as refused:
        await put_schedule(queue, Schedule("nightly", "@daily", "report"))
    assert refused.value.code == "declared-in-code"
    await schedules.pause_schedule(queue, "nightly", by="ann")
    await FireSchedules(registry).run_once(queue)
    assert (await schedules.read_schedule(queue, "nightly"))["paused_by"] == "ann"


async def test_one_that_cannot_fire_does_not_stop_the_others(
    queue: BoundedAsyncConnection, caplog: pytest.LogCaptureFixture
) -> None:
    await put_schedule(queue, Schedule("bad", "* * * * *", "report"))
    await put_schedule(queue, Schedule("good", "* * * * *", "report"))
    await queue.execute("UPDATE tandem.schedule SET cron = 'never' WHERE name = 'bad'")
    await set_clock(queue, NOON + timedelta(minutes=1))
    with caplog.at_level(logging.ERROR):
        fired = await fire_schedules(queue)
    assert (fired.ticks, fired.failed) == (1, 1)
    assert "schedule bad cannot fire" in caplog.text


async def test_a_stale_look_at_the_clock_moves_nothing(queue: BoundedAsyncConnection) -> None:
    await put_schedule(queue, MINUTELY)
    store, tick = ScheduleStore(queue), datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
    minute = timedelta(minutes=1)
    assert await store.fire_schedule("beat", expected=tick, ticks=[tick], following=tick + minute) == [], (
        "not yet"
    )
    await set_clock(queue, NOON + minute)
    other = tick - minute
    assert await store.fire_schedule("beat", expected=other, ticks=[other], following=tick) == []
    assert len(await store.fire_schedule("beat", expected=tick, ticks=[tick], following=tick + minute)) == 1
    assert await store.fire_schedule("beat", expected=tick, ticks=[tick], following=tick + minute) == []


async def test_run_makes_a_job_beside_the_ticks(queue: BoundedAsyncConnection) -> None:
    await put_schedule(queue, MINUTELY)
    await schedules.pause_schedule(queue, "beat")
    job = await schedules.run_schedule(queue, "beat")
    assert await rows(queue, "SELECT id, kind, context FROM tandem.job") == [
        (job, "beat", {"schedule": "beat"})
    ]
    assert await schedules.coming_ticks(queue, "beat", count=2) == [
        datetime(2026, 3, 1, 12, minute, tzinfo=UTC) for minute in (1, 2)
    ]


async def test_old_ticks_are_forgotten_but_for_the_last(queue: BoundedAsyncConnection) -> None:
    await put_schedule(queue, MINUTELY)
    await set_clock(queue, NOON + timedelta(minutes=3))
    await fire_schedules(queue)
    await set_clock(queue, NOON + timedelta(days=8))
    moved = await ForgetExpired(retention=timedelta(days=7)).run_once(queue)
    assert moved.detail["ticks"] == 2
    assert await rows(queue, "SELECT tick FROM tandem.schedule_tick") == [
        (datetime(2026, 3, 1, 12, 3, tzinfo=UTC),)
    ]


@pytest.mark.parametrize(
    "verb", ["read_schedule", "pause_schedule", "resume_schedule", "remove_schedule", "run_schedule"]
)
async def test_a_schedule_that_is_not_there_is_an_error(queue: BoundedAsyncConnection, verb: str) -> None:
    call: Any = getattr(schedules, verb)
    with pytest.raises(NotFound):
        await call(queue, "none")
    await put_schedule(queue, MINUTELY)
    await schedules.remove_schedule(queue, "beat")
    assert await schedules.list_schedules(queue) == []
