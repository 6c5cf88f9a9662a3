"""Flat under a pinned snapshot: the pages that claim, floors, promotion and rescue read do not grow with dead rows.

Counts of pages, not times: the same on any machine.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.claim import END, Floors
from app.queue.job import ClaimedJob
from app.queue.kinds import Registry
from app.queue.store import Failed, Finish, Store, statement
from tests.support.claims import WORKER, add, claim, rows, worker_connection
from tests.support.waiting import eventually_async
from workers.sweeper.floors import MoveFloors
from workers.sweeper.promote import PromoteJobs
from workers.sweeper.rescue import LAST_JOB, RescueJobs
from workers.sweeper.step import Settled

ROUNDS = 8
PER_ROUND = 400
IN_A_QUIET_MOMENT = "ANALYZE " + ", ".join(
    f"tandem.{table}"
    for table in (
        "ready",
        "scheduled",
        "lease",
        "blocked",
        "touch",
        "turn",
        "admission",
        "attempt",
        "done",
        "job",
    )
)
"""What autovacuum does, in a moment without jobs: everything looks small afterwards, and is full of dead rows."""


@asynccontextmanager
async def pinned(url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection while somebody else holds an old snapshot, so that nothing dead can be removed."""
    async with await psycopg.AsyncConnection.connect(url) as pin, await worker_connection(url) as connection:
        await pin.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await pin.execute("SELECT count(*) FROM tandem.ready")
        await Store(connection).declare_queues(["default"])
        yield connection


async def pages(
    connection: psycopg.AsyncConnection[Any], area: str, name: str, params: dict[str, Any]
) -> int:
    """The pages that a statement of ours touches; it really runs."""
    explain = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement(area, name)
    row = await (await connection.execute(explain, params)).fetchone()
    assert row is not None
    plan = (row[0] if isinstance(row[0], list) else json.loads(row[0]))[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def claim_params(floor: int) -> dict[str, Any]:
    return {
        "queues": ["default"], "priorities": [5], "floors": [floor], "ceilings": [END], "want": 10, "token": 1,
        "worker": WORKER, "lease": timedelta(seconds=30),
    }  # fmt: skip


async def work(connection: psycopg.AsyncConnection[Any], floors: Floors) -> None:
    await add(connection, PER_ROUND)
    while jobs := await claim(connection, 100, lanes=floors.ahead()):
        floors.passed(jobs)
        await Store(connection).finish_jobs([Finish(job.id, job.token, 1.0, None) for job in jobs])


def assert_flat(readings: list[int]) -> None:
    # The tree may grow by a level; reading the dead rows would multiply the count with every round.
    assert max(readings[1:]) <= 1.5 * readings[0] + 20, readings


async def test_a_claim_reads_no_more_pages_the_more_rows_have_died_before_it(db_url: str) -> None:
    async with pinned(db_url) as connection:
        floors, readings = Floors({"default": 1}), []
        for nth in range(ROUNDS):
            await work(connection, floors)
            if nth == 1:
                await connection.execute(IN_A_QUIET_MOMENT)
            await add(connection, 10)
            [lane] = [lane for lane in floors.ahead() if lane.priority == 5]
            readings.append(await pages(connection, "claim", "claim_jobs", claim_params(lane.floor)))
            await connection.execute("DELETE FROM tandem.lease")
        assert_flat(readings)
        await add(connection, 10)
        from_zero = await pages(connection, "claim", "claim_jobs", claim_params(0))
        assert from_zero > max(readings) + 20, "without its floor the claim would read what is dead"


async def test_moving_the_floors_reads_no_more_pages_the_more_rows_have_died(db_url: str) -> None:
    async with pinned(db_url) as connection:
        floors, readings = Floors({"default": 1}), []
        mover = MoveFloors(Settled())
        for nth in range(ROUNDS):
            await work(connection, floors)
            if nth == 1:
                await connection.execute(IN_A_QUIET_MOMENT)
            await settle(mover.settled, connection)
            await mover.run_once(connection)
            params = {"settled": mover.settled.position}
            readings.append(await pages(connection, "floors", "advance_floors", params))
        assert_flat(readings)
        reading = await pages(connection, "floors", "read_floors", {"queues": ["default"]})
        assert reading <= 10 * 8, "ten lanes, a few pages each"


async def promote(connection: BoundedAsyncConnection, settled: Settled) -> Callable[[], Awaitable[int]]:
    step = PromoteJobs(settled)

    async def round() -> int:
        await add(connection, PER_ROUND)
        while jobs := await claim(connection, 100):
            await Store(connection).retry_jobs(
                [Failed(j.id, j.token, 1.0, "t", "x", delay=0.001) for j in jobs]
            )
        await settle(settled, connection)
        await step.run_once(connection)
        while jobs := await claim(connection, 100):
            await Store(connection).finish_jobs([Finish(j.id, j.token, 1.0, None) for j in jobs])
        await settle(settled, connection)
        await step.run_once(connection)
        return await pages(connection, "schedule", "promote_jobs", {"after": step._floor, "most": 100})

    return round


async def settle(settled: Settled, connection: BoundedAsyncConnection) -> None:
    """Sample until this moment has settled: transactions of other databases on the server hold it up, too."""
    store = Store(connection)
    _, now = await store.sample_position()

    async def past() -> bool:
        await settled.sample(store)
        return settled.at >= now

    await eventually_async(past)


async def rescue(connection: BoundedAsyncConnection, settled: Settled) -> Callable[[], Awaitable[int]]:
    step = RescueJobs(Registry(), settled)

    async def round() -> int:
        await add(connection, PER_ROUND)
        while jobs := await claim(connection, 100, lease=timedelta(0)):
            await Store(connection).finish_jobs([Finish(j.id, j.token, 1.0, None) for j in jobs])
        await settle(settled, connection)
        await step.run_once(connection)
        params = {"after": step._floor, "after_job": LAST_JOB, "most": 100, "hooked_kinds": list[str]()}
        return await pages(connection, "lease", "find_expired", params)

    return round


@pytest.mark.parametrize("make", [promote, rescue])
async def test_promotion_and_rescue_read_no_more_pages_the_more_rows_have_died(
    db_url: str, make: Callable[[BoundedAsyncConnection, Settled], Awaitable[Callable[[], Awaitable[int]]]]
) -> None:
    async with pinned(db_url) as connection:
        round = await make(connection, Settled())
        readings = [await round(), await round()]
        await connection.execute(IN_A_QUIET_MOMENT)
        readings += [await round() for _ in range(ROUNDS - 2)]
        assert_flat(readings)
        assert (
            await rows(connection, "SELECT 1 FROM tandem.scheduled UNION ALL SELECT 1 FROM tandem.lease")
            == []
        )


def ends(jobs: list[ClaimedJob]) -> dict[tuple[str, str], dict[str, Any]]:
    """The statements that end, hand back, extend and annotate leases, each with what it takes for these jobs."""
    ten: dict[str, Any] = {"job_ids": [job.id for job in jobs], "tokens": [job.token for job in jobs]}
    texts = {name: ["x"] * len(jobs) for name in ("error_classes", "fingerprints", "messages", "tracebacks")}
    ran = {**ten, "ran_ms": [1.0] * len(jobs)}
    none = [None] * len(jobs)
    second = [timedelta(seconds=1)] * len(jobs)
    return {
        ("finish", "finish_jobs"): {**ran, "results": none, "ttls": none},
        ("finish", "finish_deliveries"): {**ran, "results": none, "ttls": none},
        ("finish", "close_jobs"): {**ran, **texts, "outcomes": ["DEAD"] * len(jobs)},
        ("retry", "retry_jobs"): {**ran, **texts, "delays": second, "crashes": [0] * len(jobs)},
        ("claim", "hand_back_jobs"): {**ten, "delay": timedelta(0), "started": False},
        ("lease", "extend_leases"): {**ten, "lease": timedelta(seconds=30)},
        ("lease", "rescue_jobs"): ten,
        ("topics", "find_leases"): {**ten, "queue": "default"},
        ("progress", "write_progress"): {**ten, "percents": [1.0] * len(jobs), "stages": ["x"] * len(jobs)},
    }


LEASES = """
    INSERT INTO tandem.lease (job_id, token, worker, claimed_at, expires_at, priority, attempt, crashes, suspect, queue)
    SELECT %s + n, n, gen_random_uuid(), now(), now(), 5, 1, 0, false, 'default' FROM generate_series(1, 400) AS n
    ORDER BY hashint4(n)"""


async def test_the_end_of_a_job_reads_no_more_pages_the_more_have_ended(db_url: str) -> None:
    async with pinned(db_url) as connection:
        floors, readings = Floors({"default": 1}), dict[tuple[str, str], list[int]]()
        for nth in range(5):
            # Beside others: whoever follows the index goes from page to page of the table.
            await connection.execute(LEASES, (10**9 + nth * 1000,))
            await connection.execute("DELETE FROM tandem.lease")
            if nth == 1:
                await connection.execute(IN_A_QUIET_MOMENT)
            await add(connection, 10)
            jobs = await claim(connection, 10, lanes=floors.ahead())
            floors.passed(jobs)
            for (area, name), params in ends(jobs).items():
                both = []
                for _ in range(2):  # an ANALYZE of the server's own has plans made anew
                    async with connection.transaction(force_rollback=True):
                        both.append(await pages(connection, area, name, params))
                readings.setdefault((area, name), []).append(min(both))
            await Store(connection).finish_jobs([Finish(job.id, job.token, 1.0, None) for job in jobs])
        for counts in readings.values():
            assert_flat(counts)


READY = """
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue)
    SELECT nextval('tandem.ready_position'), %s + n, now(), 5, 0, 0, false, 'default' FROM generate_series(1, 400) AS n
    ORDER BY hashint4(n)"""
ASKED = """
    INSERT INTO tandem.cancel_intent (job_id, requested_at, requested_by)
    SELECT id, now(), 'test' FROM unnest(%s::bigint[]) AS id"""


async def test_a_cancel_and_a_deadline_read_no_more_pages_the_more_have_gone(db_url: str) -> None:
    async with pinned(db_url) as connection:
        readings = dict[str, list[int]]()
        for nth in range(5):
            await connection.execute(READY, (10**9 + nth * 1000,))
            await connection.execute("DELETE FROM tandem.ready")
            if nth == 1:
                await connection.execute(IN_A_QUIET_MOMENT)
            waiting = await add(connection, 10)
            late: dict[str, Any] = {"job_ids": waiting, "deadlines": [None] * len(waiting), "reason": "x"}
            cancelled: dict[str, Any] = {"job_ids": waiting, "hooked_kinds": list[str]()}
            calls = {("admin", "cancel_waiting"): cancelled, ("expiry", "expire_jobs"): late}
            for (area, name), params in calls.items():
                async with connection.transaction(force_rollback=True):
                    await connection.execute(ASKED, (waiting,))
                    readings.setdefault(name, []).append(await pages(connection, area, name, params))
        for counts in readings.values():
            assert_flat(counts)
