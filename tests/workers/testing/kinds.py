"""Handlers for the tests of the testing kit: one of every sort, with effects that can be looked at."""

from dataclasses import dataclass
from typing import Any

from app.queue.enqueue import enqueue_async
from app.queue.job import NewJob
from app.queue.kinds import Change, Registry
from app.queue.outcomes import Cancel, Dead, Retry, Snooze
from app.queue.retry import HandlerError, Retrying, RetryPolicy
from app.queue.running import Job

TABLE = "CREATE TABLE IF NOT EXISTS effect (job_id bigint, note text)"
NOTE = "INSERT INTO effect VALUES (%s, %s)"


@dataclass
class Order:
    number: int
    note: str = "none"


def in_process(job: Job[dict[str, Any]]) -> dict[str, Any]:
    """For a process: at the top of its module."""
    with job.transaction_sync() as tx:
        tx.connection.execute(NOTE, (job.id, "process"))
        tx.result = {"by": "process"}
    return {}


def make_registry() -> Registry:
    """All kinds."""
    registry = Registry()

    @registry.handler("plain", payload=Order)
    async def plain(job: Job[Order]) -> dict[str, Any]:
        return {"number": job.payload.number + 1}

    @registry.handler("effect", payload=Order)
    async def effect(job: Job[Order]) -> None:
        async with job.transaction() as tx:
            await tx.connection.execute(NOTE, (job.id, job.payload.note))
            await enqueue_async(tx.connection, NewJob("plain", {"number": job.payload.number}))
            tx.result = {"noted": job.payload.note}

    @registry.handler("thread", executor="thread")
    def thread(job: Job[dict[str, Any]]) -> None:
        with job.transaction_sync() as tx:
            tx.connection.execute(NOTE, (job.id, "thread"))

    registry.handler("process", executor="process")(in_process)

    async def hook(connection: Any, change: Change) -> None:
        await connection.execute(NOTE, (change.job_id, f"{change.transition} {change.error_class}"))

    @registry.handler("fails", hook=hook, retry=Retrying(own=RetryPolicy(2, delays=(60.0,))))
    async def fails(job: Job[dict[str, Any]]) -> None:
        raise HandlerError(f"no luck at try {job.attempt}", error_class="temporary")

    @registry.handler("spoils")
    async def spoils(job: Job[dict[str, Any]]) -> None:
        async with job.transaction() as tx:
            await tx.connection.execute(NOTE, (job.id, "taken back"))
            await tx.connection.execute("SELECT 1/0")

    decisions = {
        "snooze": Snooze(30, "not yet"),
        "retry": Retry(after=10),
        "cancel": Cancel("no longer wanted"),
        "dead": Dead("never"),
    }

    @registry.handler("decides")
    async def decides(job: Job[dict[str, Any]]) -> Any:
        return decisions[job.payload["how"]]

    @registry.handler("batch", batch=10)
    async def batch(jobs: list[Job[dict[str, Any]]]) -> list[Any]:
        return [ValueError("odd") if job.payload["n"] % 2 else job.payload["n"] for job in jobs]

    return registry
