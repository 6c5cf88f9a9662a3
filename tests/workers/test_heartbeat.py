"""The heartbeat: it keeps what the process holds, tells what is lost, and survives its connection."""

import asyncio
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.running import Job
from app.queue.store import Store
from tests.support.claims import worker_connection
from tests.support.jobs import enqueue_all, outcome, outcomes
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async


class Holding:
    """A handler that runs until it is told to end, and says how it ended."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.stops: list[tuple[int, int]] = []

    async def hold(self, job: Job[Any]) -> None:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.stops.append((job.id, job.claimed.token))
            raise

    def registry(self) -> Registry:
        made = Registry()
        made.handler("hold")(self.hold)
        return made


KILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'tandem heartbeat' AND datname = current_database()"
)


def alter(statement: LiteralString, url: str) -> psycopg.sql.Composed:
    """A statement about the database of an address."""
    name = str(conninfo_to_dict(url)["dbname"])
    return psycopg.sql.SQL(statement).format(psycopg.sql.Identifier(name))


def expiry(url: str, job: int) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute("SELECT expires_at FROM tandem.lease WHERE job_id = %s", (job,)).fetchone()


async def test_a_running_job_keeps_its_lease_and_a_forgotten_one_loses_it(db_url: str) -> None:
    holding = Holding()
    async with supervised(db_url, holding.registry(), lease_seconds=0.9) as worker:
        kept, forgotten = enqueue_all(db_url, [NewJob("hold"), NewJob("hold")])
        await eventually_async(lambda: worker.slots.busy == 2)
        [token] = [token for job, token in worker.inbox.leases_older_than(0.0) if job == forgotten]
        worker.inbox.ended(forgotten, token)
        before, left = expiry(db_url, kept), expiry(db_url, forgotten)
        await eventually_async(lambda: expiry(db_url, kept) > before)
        assert expiry(db_url, forgotten) == left
        holding.go.set()


async def test_a_handler_whose_lease_is_lost_is_told_to_stop_and_writes_nothing(db_url: str) -> None:
    holding = Holding()
    async with supervised(db_url, holding.registry(), lease_seconds=0.9) as worker:
        lost, other = enqueue_all(db_url, [NewJob("hold"), NewJob("hold")])
        await eventually_async(lambda: worker.slots.busy == 2)
        with psycopg.connect(db_url, autocommit=True) as connection:
            connection.execute("UPDATE tandem.lease SET token = token + 1 WHERE job_id = %s", (lost,))
        await eventually_async(lambda: [job for job, _ in holding.stops] == [lost])
        await eventually_async(lambda: worker.inbox.held == 1)
        assert outcomes(db_url, [lost, other]) == ["RUNNING", "RUNNING"]
        holding.go.set()
        await eventually_async(lambda: outcome(db_url, other) == "SUCCEEDED")


async def test_a_newer_try_of_the_same_job_in_the_same_process_goes_on(db_url: str) -> None:
    # The process stood still for longer than its lease, and then claimed again what had been taken from it.
    holding = Holding()
    async with supervised(db_url, holding.registry(), lease_seconds=0.9, slots=2) as worker:
        [job] = enqueue_all(db_url, [NewJob("hold")])
        await eventually_async(lambda: worker.slots.busy == 1)
        [(_, old)] = worker.inbox.leases_older_than(0.0)
        async with await worker_connection(db_url) as connection:
            await connection.execute(
                "UPDATE tandem.lease SET expires_at = clock_timestamp() - interval '1 s' WHERE job_id = %s",
                (job,),
            )
            assert len(await Store(connection).rescue_jobs([(job, old)])) == 1
            await connection.execute("UPDATE tandem.ready SET suspect = false")
        await eventually_async(lambda: holding.stops == [(job, old)])
        await eventually_async(lambda: worker.inbox.held == 1)
        holding.go.set()
        await eventually_async(lambda: outcome(db_url, job) == "SUCCEEDED")
        assert holding.stops == [(job, old)]


@pytest.mark.parametrize("how", ["killed", "read-only"])
async def test_a_heartbeat_outlives_its_connection(db_url: str, how: str) -> None:
    holding = Holding()
    async with supervised(db_url, holding.registry(), lease_seconds=1.5) as worker:
        [job] = enqueue_all(db_url, [NewJob("hold")])
        await eventually_async(lambda: worker.heartbeat.beats > 1)
        with psycopg.connect(db_url, autocommit=True) as connection:
            if how == "read-only":
                connection.execute(alter("ALTER DATABASE {} SET default_transaction_read_only = on", db_url))
            connection.execute(KILL)
            await eventually_async(lambda: worker.heartbeat._connection.generation > 1)
            if how == "read-only":
                await eventually_async(lambda: worker.heartbeat.last_error is not None)
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(alter("ALTER DATABASE {} RESET default_transaction_read_only", db_url))
        before = expiry(db_url, job)
        await eventually_async(lambda: expiry(db_url, job) > before)
        await eventually_async(lambda: worker.heartbeat.last_error is None)
        holding.go.set()


async def test_without_its_heartbeat_a_worker_ends_itself(db_url: str) -> None:
    async with supervised(db_url, Registry()) as worker:
        worker.heartbeat.stop()
        await eventually_async(worker.stopping.is_set)
