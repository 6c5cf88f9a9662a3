"""The handlers of a chaos run, which write the effect ledger; `tandem worker --handlers` loads them by `register`."""

import asyncio
import time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.config import Settings
from app.queue.kinds import Kind, Registry
from app.queue.retry import HandlerError, Retrying, RetryPolicy
from app.queue.running import Job
from scripts.chaos_rig.ledger import WRITE

DIED = "SELECT count(*) FROM tandem.attempt WHERE job_id = %s AND verdict = 'DEAD'"
# Faults are no fault of the jobs: neither failed tries nor killed workers may end one here.
PATIENT: dict[str, Any] = {
    "retry": Retrying(own=RetryPolicy(10_000, delays=(0.2, 0.5, 1.0))),
    "crash_limit": 1_000,
    "timeout": 20.0,
}


def register(registry: Registry, *, sessions: async_sessionmaker[AsyncSession], settings: Settings) -> None:
    """At least once, and exactly once on every executor; one kind fails its first try, one is a dead letter once."""

    async def plain(job: Job[dict[str, Any]]) -> None:
        await asyncio.sleep(job.payload["work"])
        async with sessions() as session:
            at_once = await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            await at_once.exec_driver_sql(WRITE, effect(job))

    async def mortal(job: Job[dict[str, Any]]) -> None:
        async with sessions() as session:
            at_once = await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            died = (await at_once.exec_driver_sql(DIED, (job.id,))).scalar_one()
        if not died:
            raise HandlerError("dies until it is redriven", error_class="permanent")
        await once(job)

    async def managed(job: Job[dict[str, Any]]) -> None:
        if "dies" in job.payload:
            await mortal(job)
        else:
            await (flaky if "fails" in job.payload else once)(job)

    registry.add(Kind("chaos.mortal", mortal, **PATIENT))
    registry.add(Kind("chaos.ordered", managed, **PATIENT))
    registry.add(Kind("chaos.limited", managed, **PATIENT))
    registry.add(Kind("chaos.plain", plain, **PATIENT))
    registry.add(Kind("chaos.tx", once, **PATIENT))
    registry.add(Kind("chaos.flaky", flaky, **PATIENT))
    registry.add(Kind("chaos.thread", blocking, executor="thread", **PATIENT))
    registry.add(Kind("chaos.process", blocking, executor="process", **PATIENT))


async def once(job: Job[dict[str, Any]]) -> None:
    """Exactly once, as a coroutine."""
    await asyncio.sleep(job.payload["work"])
    async with job.transaction() as transaction:
        await transaction.connection.execute(WRITE, effect(job))
        transaction.result = {"op": job.payload["op"]}


async def flaky(job: Job[dict[str, Any]]) -> None:
    """Exactly once, after a first try that fails."""
    if job.attempt == 1:
        raise HandlerError("the first try fails")
    await once(job)


def blocking(job: Job[dict[str, Any]]) -> None:
    """Exactly once, in a thread or a process."""
    time.sleep(job.payload["work"])
    with job.transaction_sync() as transaction:
        transaction.connection.execute(WRITE, effect(job))


def effect(job: Job[Any]) -> tuple[str, int, int, int]:
    """The ledger's row for this try."""
    return (job.payload["op"], job.id, job.attempt, job.claimed.token)
