"""Slots outlive whatever handlers do: odd exceptions, ignored cancels, wedged suspects, limits per kind."""

import asyncio
from typing import Any

import psycopg
import pytest

from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.retry import HandlerError, Retrying, RetryPolicy
from app.queue.running import Job
from tests.support.jobs import enqueue_all, outcomes
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async

ONCE = Retrying(own=RetryPolicy(max_attempts=1))


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even this fails")


class Foreign(BaseException):
    """As some libraries raise to pass every `except Exception`."""


FAILURES: dict[str, BaseException] = {
    "unprintable": Unprintable(),
    "foreign": Foreign("past every handler"),
    "stop-iteration": StopIteration("ends generators"),
    "odd-class": type("Odd", (Exception,), {"error_class": ["a", "list"]})("odd"),
    "crash-by-name": HandlerError("called a crash", error_class="crash"),
    "own-cancel": asyncio.CancelledError(),
    "exit": SystemExit(3),
}


@pytest.mark.parametrize("executor", ["async", "thread"])
@pytest.mark.parametrize("name", sorted(FAILURES))
async def test_whatever_a_handler_raises_ends_its_job_and_not_its_slot(
    db_url: str, name: str, executor: Any
) -> None:
    registry = Registry()

    def fail(_: Job[Any]) -> None:
        raise FAILURES[name]

    async def fail_async(job: Job[Any]) -> None:
        fail(job)

    async def succeed(_: Job[Any]) -> None:
        return None

    registry.handler("fail", executor=executor, retry=ONCE, crash_limit=1)(
        fail_async if executor == "async" else fail
    )
    registry.handler("succeed")(succeed)
    ids = enqueue_all(db_url, [NewJob("fail"), NewJob("succeed")])
    async with supervised(db_url, registry, slots=1, drain_seconds=0.2) as worker:
        await eventually_async(lambda: outcomes(db_url, ids) == ["DEAD", "SUCCEEDED"], timeout=4)
        await eventually_async(lambda: worker.inbox.held == 0)


async def test_a_job_whose_lease_ran_out_before_a_slot_was_free_is_not_started(db_url: str) -> None:
    """A process that stood still: somebody else may run the job by now."""
    registry, started = Registry(), list[int]()

    async def note(job: Job[Any]) -> None:
        started.append(job.id)

    registry.handler("note")(note)
    async with supervised(db_url, registry, slots=2) as worker:
        worker.inbox.lease = -1.0  # as if it had lain here for longer than its lease
        [late] = enqueue_all(db_url, [NewJob("note")])
        await eventually_async(lambda: holders(db_url, late) == 1 and worker.inbox.held == 0)
        worker.inbox.lease = 30.0
        [next_one] = enqueue_all(db_url, [NewJob("note")])
        await eventually_async(lambda: started == [next_one])


def holders(url: str, job_id: int) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM tandem.lease WHERE job_id = %s", (job_id,)).fetchone()
    return int(row[0]) if row else 0
