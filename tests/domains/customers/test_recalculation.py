"""Priorities of customers' jobs while they wait: what changes with time, tier and history, and what does not."""

from datetime import UTC, datetime, timedelta
from functools import partial

from app.applications import make_registry
from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.domains.customers.health import KEY, QUEUE
from app.domains.customers.priority import Factors
from app.domains.customers.recalculation import recalculate
from app.queue.enqueue import enqueue_async
from app.queue.job import NewJob
from app.queue.kinds import Registry
from tests.support.claims import rows
from tests.support.conversations import opened_sessions
from tests.support.customers import make_settings, set_tier, submit
from workers.sweeper.priorities import RecalculatePriorities


async def bands(connection: BoundedAsyncConnection, url: str, hours: float = 0.0) -> dict[int, int]:
    """The priority of each waiting job after a sweep so many hours from now."""
    async with opened_sessions(url) as sessions:
        registry = make_registry(make_settings(), sessions)
    await connection.execute("SELECT set_config('tandem.clock_offset', %s, false)", (f"{hours} hours",))
    report = await RecalculatePriorities(registry).run_once(connection)
    assert report.detail == {"failed": 0}
    query = "SELECT job_id, priority FROM tandem.job_status WHERE status = 'PENDING' AND queue = 'customers'"
    return {row[0]: row[1] for row in await rows(connection, query)}


async def test_wait_deadline_and_tier_lift_a_job(db_url: str) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=45)
    pro = (await submit(db_url, "pia", "pro")).accepted.job_id
    due = (await submit(db_url, "dan", "pro", deadline=soon)).accepted.job_id
    free = (await submit(db_url, "fay", "free")).accepted.job_id
    async with await connect(db_url, name="test") as connection:
        await rows(connection, "UPDATE public.customer_jobs SET light = false RETURNING 1")
        assert await bands(connection, db_url) == {pro: 1, due: 2, free: 0}
        half = await bands(connection, db_url, 0.5)
        assert (half[pro], half[due]) == (1, 3)
        later = await bands(connection, db_url, 1.5)
        assert (later[pro], later[due]) == (2, 4)
        set_tier(db_url, "free", base_priority=64)
        assert (await bands(connection, db_url))[free] == 6


async def test_history_counts_and_canaries_keep_their_band(db_url: str) -> None:
    job = (await submit(db_url, "ann", "vip", importance="critical")).accepted.job_id
    async with await connect(db_url, name="test") as connection:
        canary = (
            await enqueue_async(connection, NewJob("x", queue=QUEUE, priority=7, partition_key=KEY))
        ).job_id
        await rows(
            connection, "UPDATE public.customers SET recent_succeeded = 10, recent_ended = 40 RETURNING 1"
        )
        await rows(connection, "UPDATE public.customer_jobs SET light = false RETURNING 1")
        doubled = partial(recalculate, factors=Factors(unstable=0.25))
        registry = Registry()
        registry.priority(QUEUE, doubled)
        await RecalculatePriorities(registry).run_once(connection)
        query = "SELECT job_id, priority FROM tandem.job_status WHERE queue = 'customers'"
        assert dict(await rows(connection, query)) == {job: 3, canary: 7}
