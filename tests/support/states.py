"""A database with jobs in every state, made by the queue's own statements; `blocked`, which nothing fills yet, by hand.

Queue `default` has a live worker, `mail` is paused, `reports` has no worker.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg

from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.queue.job import ClaimedJob
from app.queue.kinds import Registry
from app.queue.retry import Failure
from app.queue.settle import FailedJob, settle
from app.queue.store import Failed, Finish, Store
from tests.support.claims import LEASE, claim, every_lane
from tests.support.waiting import eventually_async
from workers.sweeper.floors import MoveFloors
from workers.sweeper.step import Settled

ALIVE = uuid.UUID("00000000-0000-4000-8000-000000000001")  # tests.support.claims claims for it
SILENT = uuid.UUID("00000000-0000-4000-8000-000000000002")


@dataclass
class States:
    """The address of the database, and the jobs of each state by its name."""

    url: str
    jobs: dict[str, list[int]] = field(default_factory=dict)

    def one(self, state: str) -> int:
        """The only job of a state."""
        [job] = self.jobs[state]
        return job


async def fill(url: str) -> States:
    """Make the jobs and answer their ids."""
    states = States(url)
    async with await connect(url, name="fill") as connection:
        await _declare(connection)
        await _end_some(connection, states)
        await _hold_some(connection, states)
        await _let_some_wait(connection, states)
        await _move_floors(connection)
    return states


async def _move_floors(connection: BoundedAsyncConnection) -> None:
    """Until this moment has settled: transactions of other databases on the server hold it up, too."""
    mover, (position, _) = MoveFloors(Settled()), await Store(connection).sample_position()

    async def settled() -> bool:
        await mover.run_once(connection)
        return mover.settled.position >= position

    await eventually_async(settled)


async def enqueue(
    connection: psycopg.AsyncConnection[Any],
    kind: str,
    *,
    queue: str = "default",
    ago: str = "0",
    due: str | None = None,
) -> int:
    """One job, as it would have been enqueued `ago` (an interval), due at `due` (an interval from now)."""
    await connection.execute("SELECT set_config('tandem.clock_offset', '-' || %s, false)", (ago,))
    cursor = await connection.execute(
        "SELECT tandem.enqueue(%s, '{\"n\": 1}', queue => %s, run_at => clock_timestamp() + %s::interval)",
        (kind, queue, due),
    )
    row = await cursor.fetchone()
    await connection.execute("RESET tandem.clock_offset")
    assert row is not None
    return int(row[0])


async def fail(
    connection: psycopg.AsyncConnection[Any],
    registry: Registry,
    job: ClaimedJob,
    message: str,
    *,
    fingerprint: str = "f" * 16,
    again: bool = False,
    outcome: str = "DEAD",
) -> None:
    """End a claimed job's try as failed."""
    failure = Failure("temporary", fingerprint, message, f"Traceback ...\n{message}")
    failed = Failed(
        job_id=job.id,
        token=job.token,
        ran_ms=25.0,
        error_class=failure.error_class,
        message=message,
        fingerprint=fingerprint,
        traceback=failure.traceback,
        delay=3600.0,
        outcome=outcome,
    )
    assert await settle(connection, registry, [FailedJob(job.kind, job.event_id, failed, again=again)])


async def _declare(connection: psycopg.AsyncConnection[Any]) -> None:
    store = Store(connection)
    await store.declare_queues(["default", "mail", "reports"])
    await store.declare_kinds([("scored", 5, 3, True), ("plain", 4, 3, False)])
    for worker, name, ago in ((ALIVE, "host:1", "0"), (SILENT, "host:2", "10 minutes")):
        await connection.execute("SELECT set_config('tandem.clock_offset', '-' || %s, false)", (ago,))
        await store.register_worker(
            worker=worker, name=name, mode="hybrid", queues=["default"], concurrency=4, version="0.1.0"
        )
    await connection.execute("RESET tandem.clock_offset")
    await connection.execute(
        "UPDATE tandem.queue SET paused_at = tandem.clock(), paused_by = 'ann' WHERE name = 'mail'"
    )


async def _claimed(connection: psycopg.AsyncConnection[Any], jobs: Sequence[int]) -> list[ClaimedJob]:
    held = await claim(connection, len(jobs))
    assert sorted(job.id for job in held) == sorted(jobs)
    return held


async def _end_some(connection: psycopg.AsyncConnection[Any], states: States) -> None:
    registry = Registry()
    jobs = states.jobs
    jobs["succeeded"] = [await enqueue(connection, "plain") for _ in range(3)]
    held = await _claimed(connection, jobs["succeeded"])
    assert await Store(connection).finish_jobs(
        [Finish(job.id, job.token, 40.0, '{"ok": true}') for job in held]
    )
    jobs["dead"] = [await enqueue(connection, "plain") for _ in range(3)]
    for number, job in enumerate(await _claimed(connection, jobs["dead"])):
        await fail(
            connection,
            registry,
            job,
            f"ValueError: number {number}",
            fingerprint="aaaa" if number else "bbbb",
        )
    jobs["cancelled"] = [await enqueue(connection, "plain")]
    for job in await _claimed(connection, jobs["cancelled"]):
        await fail(connection, registry, job, "not wanted", outcome="CANCELLED")
    jobs["retried"] = [await enqueue(connection, "plain")]
    for job in await _claimed(connection, jobs["retried"]):
        await fail(connection, registry, job, "ValueError: once more", again=True)


async def _hold_some(connection: psycopg.AsyncConnection[Any], states: States) -> None:
    jobs = states.jobs
    jobs["expired"] = [await enqueue(connection, "scored")]
    await connection.execute("SET tandem.clock_offset = '-2 minutes'")
    assert await claim(connection, 1, lease=timedelta(seconds=30))
    await connection.execute("RESET tandem.clock_offset")
    await connection.execute("UPDATE tandem.lease SET worker = %s", (SILENT,))
    jobs["running"] = [await enqueue(connection, "plain") for _ in range(2)]
    await claim(connection, 2, lanes=every_lane(), lease=LEASE)
    await connection.execute(
        "INSERT INTO tandem.cancel_intent (job_id, requested_at, requested_by) VALUES (%s, tandem.clock(), 'ann')",
        (jobs["running"][1],),
    )


async def _let_some_wait(connection: psycopg.AsyncConnection[Any], states: States) -> None:
    jobs = states.jobs
    jobs["ready"] = [await enqueue(connection, "plain") for _ in range(2)]
    jobs["forgotten"] = [await enqueue(connection, "plain", ago="5 minutes")]
    jobs["paused"] = [await enqueue(connection, "plain", queue="mail", ago="5 minutes")]
    jobs["unserved"] = [
        await enqueue(connection, "plain", queue="reports", ago="5 minutes") for _ in range(2)
    ]
    jobs["scheduled"] = [await enqueue(connection, "plain", due="1 hour")]
    jobs["overdue"] = [
        await enqueue(connection, "plain", queue="reports", ago="10 minutes", due="-3 minutes")
    ]
    jobs["blocked"] = [await enqueue(connection, "plain")]
    await connection.execute(
        "WITH gone AS (DELETE FROM tandem.ready WHERE job_id = %s RETURNING pos, job_id, priority, queue)"
        " INSERT INTO tandem.blocked (queue, partition_key, band, pos, job_id, blocked_at, priority, attempt, crashes,"
        " suspect, waiting_for)"
        " SELECT queue, 'customer-7', priority, pos, job_id, tandem.clock(), priority, 0, 0, false, 'key' FROM gone",
        (jobs["blocked"][0],),
    )
