"""The sweeper: one leader at a time, steps that do not stop each other, one pass for cron, nothing done twice."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest

from app.config import SweeperSettings
from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.database.reconnecting import Open, Reconnecting
from app.queue.kinds import Registry
from app.queue.store import Store
from tests.support.claims import add, claim, every_lane, rows, value, worker_connection
from tests.support.membership import assert_membership_async
from tests.support.waiting import eventually_async
from workers.sweeper.floors import MoveFloors
from workers.sweeper.leader import Leadership
from workers.sweeper.reconcile import Reconciler
from workers.sweeper.step import Moved, Settled, Step
from workers.sweeper.sweeper import StepReport, Sweeper, all_steps, run_step, sweep_once

QUICK = SweeperSettings(every_seconds=0.05, leader_lease_seconds=1.0)


class Counting(Step):
    """Notes when it runs; can be told to fail or to lose its connection."""

    def __init__(self, name: str = "counting", every: float = 0.05) -> None:
        self.name = name
        self.every = every
        self.runs = 0
        self.resets = 0
        self.error: BaseException | None = None
        self.loses_connection = False

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        self.runs += 1
        if self.loses_connection:
            with suppress(psycopg.OperationalError):
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            await connection.execute("SELECT 1")
        if self.error is not None:
            raise self.error
        return Moved(1)

    def reset(self) -> None:
        self.resets += 1


def opener(url: str) -> Open:
    async def open_connection() -> BoundedAsyncConnection:
        return await connect(url, name="sweeper")

    return open_connection


@asynccontextmanager
async def reconnecting(url: str) -> AsyncIterator[Reconnecting]:
    """Closed at the end, also of a test that fails: who finds it open later is another test."""
    connection = Reconnecting("test", opener(url))
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def sweeping(url: str, *steps: Step, lease: float = 1.0) -> AsyncIterator[Sweeper]:
    sweeper = Sweeper(steps=steps, opener=opener(url), leader_lease=lease)
    sweeper.start()
    try:
        yield sweeper
    finally:
        sweeper.stop()


# --- leadership --------------------------------------------------------------------------------------------------


async def test_of_three_sweepers_one_works(db_url: str) -> None:
    counters = [Counting() for _ in range(3)]
    async with AsyncExitStack() as stack:
        for counter in counters:
            await stack.enter_async_context(sweeping(db_url, counter))
        await eventually_async(lambda: sum(counter.runs for counter in counters) > 10)
        assert sorted(counter.runs > 0 for counter in counters) == [False, False, True]


async def test_another_takes_over_from_a_leader_that_ends_and_from_one_that_is_gone(db_url: str) -> None:
    first, second, third = Counting(), Counting(), Counting()
    async with await connect(db_url, name="test") as connection:
        ghost = Leadership(uuid.uuid4(), lease=1.0)
        assert await ghost.acquire(connection), "a leader that will never renew"
        async with sweeping(db_url, second) as alive:
            await eventually_async(lambda: second.runs > 0)
            assert alive.leadership.held and not await ghost.acquire(connection)
        assert await value(connection, "SELECT count(*) FROM tandem.leader") == 0, "given up at a clean end"
        async with sweeping(db_url, third, lease=600.0):
            await eventually_async(lambda: third.runs > 0)
    assert first.runs == 0


async def test_a_leadership_counts_from_before_it_was_asked_for(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        mine, theirs = Leadership(uuid.uuid4(), lease=30.0), Leadership(uuid.uuid4(), lease=30.0)
        both = (mine, theirs)
        assert [await one.acquire(connection) for one in both] == [True, False]
        assert [one.held for one in both] == [True, False]
        since = await value(connection, "SELECT acquired_at FROM tandem.leader")
        assert await mine.acquire(connection)
        assert await value(connection, "SELECT acquired_at FROM tandem.leader") == since
        await theirs.release(connection)
        assert await value(connection, "SELECT holder FROM tandem.leader") == mine.holder
        await mine.release(connection)
        assert [one.held for one in both] == [False, False]
        assert await theirs.acquire(connection)


async def test_an_expired_leader_is_replaced_by_the_databases_clock(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        mine, theirs = Leadership(uuid.uuid4(), lease=30.0), Leadership(uuid.uuid4(), lease=30.0)
        await mine.acquire(connection)
        await connection.execute("SET tandem.clock_offset = '31 seconds'")
        assert await theirs.acquire(connection)
        assert not await mine.acquire(connection)


# --- steps -------------------------------------------------------------------------------------------------------


async def test_a_step_that_fails_or_loses_its_connection_stops_no_other(db_url: str) -> None:
    good, bad, lost = Counting("good"), Counting("bad"), Counting("lost")
    bad.error, lost.loses_connection = ValueError("always"), True
    reports: list[StepReport] = []
    async with sweeping(db_url, bad, lost, good) as sweeper:
        sweeper.on_report = reports.append
        await eventually_async(lambda: min(good.runs, bad.runs, lost.runs) > 5)
    errors = {report.name: report.error for report in reports}
    assert errors["good"] is None
    assert errors["bad"] == "ValueError: always"
    assert errors["lost"]


async def test_a_step_forgets_what_it_remembers_when_its_connection_is_another(db_url: str) -> None:
    step = Counting()
    async with reconnecting(db_url) as connection:
        await run_step(step, connection)
        await run_step(step, connection)
        assert step.resets == 1
        await connection.close()
        await run_step(step, connection)
        assert step.resets == 2


async def run_until_settled(mover: MoveFloors, connection: Reconnecting, *, at_least: int) -> None:
    """Transactions of other databases on the server hold it up, too."""

    async def settled() -> bool:
        report = await run_step(mover, connection)
        assert report.error is None, report
        return mover.settled.position >= at_least

    await eventually_async(settled, timeout=60)


async def test_floors_do_not_pass_positions_that_a_crash_gives_out_again(db_url: str) -> None:
    mover = MoveFloors(Settled())
    async with await worker_connection(db_url) as queue, reconnecting(db_url) as connection:
        await Store(queue).declare_queues(["default"])
        await add(queue, 20)
        await claim(queue, 20)
        await run_until_settled(mover, connection, at_least=20)
        # What an unflushed sequence does in a crash, and the floors that were not flushed either.
        await queue.execute("DELETE FROM tandem.lane_floor")
        await queue.execute("ALTER SEQUENCE tandem.ready_position RESTART WITH 10")
        await connection.close()
        await run_step(mover, connection)
        [job] = await add(queue)
        await run_until_settled(mover, connection, at_least=1)
        floor = (await Store(queue).read_floors(["default"]))["default", 5]
        assert [one.id for one in await claim(queue, lanes=every_lane(floor=floor))] == [job]


# --- one pass for cron ---------------------------------------------------------------------------------------------


async def test_one_pass_runs_every_step_and_gives_leadership_back(db_url: str) -> None:
    good, bad = Counting("good"), Counting("bad")
    bad.error = ValueError("no")
    leadership = Leadership(uuid.uuid4(), lease=30.0)
    reports = await sweep_once([bad, good], opener(db_url), leadership)
    assert reports is not None
    assert [(one.name, one.moved, one.error) for one in reports] == [
        ("bad", 0, "ValueError: no"),
        ("good", 1, None),
    ]
    async with await connect(db_url, name="test") as connection:
        assert await value(connection, "SELECT count(*) FROM tandem.leader") == 0


async def test_one_pass_leaves_the_work_to_a_leader(db_url: str) -> None:
    counter = Counting()
    async with await connect(db_url, name="test") as connection:
        await Leadership(uuid.uuid4(), lease=30.0).acquire(connection)
        assert await sweep_once([counter], opener(db_url), Leadership(uuid.uuid4(), lease=30.0)) is None
    assert counter.runs == 0


async def test_two_passes_do_no_more_than_one(db_url: str) -> None:
    async with await worker_connection(db_url) as queue:
        await Store(queue).declare_queues(["default"])
        await add(queue, 3)
        await queue.execute("SELECT tandem.enqueue('test', run_at => now() + interval '1 second')")
        from_claim = await claim(queue, 1)
        await queue.execute("UPDATE tandem.lease SET expires_at = now() - interval '1 second'")
        await queue.execute("UPDATE tandem.scheduled SET next_attempt_at = now() - interval '1 second'")
        moved: list[dict[str, int]] = []
        for _ in range(3):
            steps = all_steps(Registry(), [], QUICK)
            reports = await sweep_once(steps, opener(db_url), Leadership(uuid.uuid4(), lease=30.0))
            assert reports is not None and not [one for one in reports if one.error]
            moved.append({one.name: one.moved for one in reports})
            await assert_membership_async(queue)
        assert (moved[0]["promote"], moved[0]["rescue"]) == (1, 1)
        assert [one["promote"] + one["rescue"] + one["partitions"] for one in moved[1:]] == [0, 0]
        assert await value(queue, "SELECT count(*) FROM tandem.ready") == 4
        assert await rows(queue, "SELECT job_id FROM tandem.ready WHERE suspect") == [(from_claim[0].id,)]


async def test_without_queues_and_jobs_a_pass_moves_nothing(db_url: str) -> None:
    reports = await sweep_once(
        all_steps(Registry(), [], QUICK), opener(db_url), Leadership(uuid.uuid4(), lease=9.0)
    )
    assert reports is not None
    assert {one.name for one in reports if one.error} == set()
    assert {one.name: one.moved for one in reports if one.moved} == {"partitions": 1}


@pytest.mark.parametrize("fails", [False, True])
async def test_an_applications_repair_is_a_step_of_its_own(db_url: str, fails: bool) -> None:
    async def repair(connection: BoundedAsyncConnection) -> int:
        if fails:
            raise RuntimeError("not today")
        return 7

    steps = all_steps(Registry(), [Reconciler("events", repair, 1.0)], QUICK)
    reports: dict[str, Any] = {
        one.name: one
        for one in await sweep_once(steps, opener(db_url), Leadership(uuid.uuid4(), lease=9.0)) or []
    }
    assert reports["reconcile-events"].moved == (0 if fails else 7)
    assert (reports["reconcile-events"].error is not None) is fails
    assert reports["rescue"].error is None
