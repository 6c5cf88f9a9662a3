"""Cancelling a job that runs: its worker is told at once, long before the next heartbeat."""

import asyncio

from app.database.connect import connect
from app.queue import admin
from app.queue.enqueue import enqueue_async
from app.queue.job import NewJob
from app.queue.kinds import Kind, Registry
from app.queue.running import Job
from tests.support.claims import rows, value
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async

LONG_LEASE = 600.0
"""Heartbeats every 200 s: what happens in this test is not theirs."""


async def test_a_running_job_is_cancelled_without_waiting_for_a_heartbeat(db_url: str) -> None:
    running, ended = asyncio.Event(), asyncio.Event()

    async def handler(job: Job[dict[str, str]]) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    registry = Registry()
    registry.add(Kind("endless", handler))
    async with await connect(db_url, name="test") as connection:
        job_id = (await enqueue_async(connection, NewJob("endless"))).job_id
        async with supervised(db_url, registry, lease_seconds=LONG_LEASE):
            async with asyncio.timeout(20):
                await running.wait()
            assert (
                await admin.cancel_job(connection, registry, job_id, by="ann", reason="no need")
                == "REQUESTED"
            )
            async with asyncio.timeout(20):
                await ended.wait()

            found = await eventually_async(
                lambda: rows(connection, "SELECT outcome, reason FROM tandem.done")
            )
            assert found == [("CANCELLED", "no need")]
        assert await value(connection, "SELECT count(*) FROM tandem.cancel_intent") == 0
        assert await value(connection, "SELECT count(*) FROM tandem.lease") == 0
