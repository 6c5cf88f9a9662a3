"""Run everything that a worker would run now, here and to the end, with the real executor and finisher."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from app.client.places import AsyncPlace, SyncPlace
from app.client.statements import load
from app.queue.job import ClaimedJob
from app.queue.kinds import Registry
from app.queue.schedules import declare_schedules, fire_schedules
from app.queue.store import Store
from workers.sweeper.deadlines import ExpireJobs
from workers.sweeper.dependencies import ReleaseDependents
from workers.sweeper.step import BEGINNING, Settled
from workers.testing.ground import Ground, ground_of, ground_of_async
from workers.testing.report import DrainReport, read_report
from workers.testing.runner import Runner, lane_of

Answer = TypeVar("Answer")
_READY = load(__package__, "find_ready")
_BLOCKED = load(__package__, "find_blocked")
_OUTCOMES = load(__package__, "read_outcomes")
PROMOTED_AT_ONCE = 1_000


def drain(
    place: str | SyncPlace,
    registry: Registry,
    *,
    due: bool = True,
    queues: Sequence[str] | None = None,
    slots: int = 10,
    timeout: float = 60.0,
    most: int = 10_000,
) -> DrainReport:
    """Run ready jobs until none is left, also those that handlers enqueue meanwhile; answers what became of each.

    `place` is the database's address (connections of its own, `slots` handlers at once, each result committed), or
    the test's connection or session on psycopg: then jobs run one after the other on it, inside its transaction, and
    nothing is committed. `due=True` also runs what has come due by the queue's clock (see `fake_clock`), schedules
    too. Unlike a worker it claims from all queues, unless told otherwise; what is paused, or held back by a limit, rate
    or order, waits here too. Raises
    TimeoutError after `timeout` seconds, AssertionError after `most` tries.
    """
    return until_done(_drain(ground_of(place), registry, due, queues, slots, timeout, most), "drain")


async def drain_async(
    place: str | AsyncPlace,
    registry: Registry,
    *,
    due: bool = True,
    queues: Sequence[str] | None = None,
    slots: int = 10,
    timeout: float = 60.0,  # noqa: ASYNC109 - the same shape as its synchronous twin
    most: int = 10_000,
) -> DrainReport:
    """`drain` for asynchronous tests."""
    return await _drain(await ground_of_async(place), registry, due, queues, slots, timeout, most)


def until_done(work: Coroutine[Any, Any, Answer], name: str) -> Answer:
    """Run a coroutine from synchronous code. Raises RuntimeError inside an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise RuntimeError(f"{name}() inside an event loop: await {name}_async(...)")


async def _drain(
    ground: Ground,
    registry: Registry,
    due: bool,
    queues: Sequence[str] | None,
    slots: int,
    seconds: float,
    most: int,
) -> DrainReport:
    async with Runner(ground, registry, slots=slots) as runner:
        await declare_schedules(await ground.claiming.get(), registry.schedules)
        try:
            async with asyncio.timeout(seconds):
                while jobs := await _next(runner, registry, due, queues):
                    if sum(runner.tries.values()) + len(jobs) > most:
                        raise AssertionError(f"more than {most} tries, and still jobs: {_names(jobs)}")
                    await runner.run(jobs)
        except TimeoutError:
            raise TimeoutError(
                f"not done after {seconds:g} s; still running: {_names(runner.running)}"
            ) from None
        return await report_of(runner)


async def report_of(runner: Runner) -> DrainReport:
    """What has become of all jobs that ran."""
    rows = await runner.ground.rows(_OUTCOMES, {"job_ids": list(runner.tries)})
    return read_report(rows, tries=runner.tries, errors=runner.errors)


async def _next(
    runner: Runner, registry: Registry, due: bool, queues: Sequence[str] | None
) -> list[ClaimedJob]:
    if due:
        connection = await runner.ground.claiming.get()
        await fire_schedules(connection)
        await ExpireJobs(registry, Settled()).run_once(connection)
        while (await ReleaseDependents(registry).run_once(connection)).rows:
            pass
        store = Store(connection)
        while (await store.promote_jobs(after=BEGINNING, most=PROMOTED_AT_ONCE))[0] == PROMOTED_AT_ONCE:
            pass
    wanted = None if queues is None else list(queues)
    lanes = [lane_of(*row) for row in await runner.ground.rows(_READY, {"queues": wanted})]
    if lanes and (jobs := await runner.claim(lanes)):
        return jobs
    for (queue,) in await runner.ground.rows(_BLOCKED, {"queues": wanted}):
        if jobs := await runner.admit(queue):
            return jobs
    return []


def _names(jobs: Sequence[ClaimedJob]) -> str:
    return ", ".join(f"#{job.id} {job.kind}" for job in jobs[:5]) or "nothing"
