"""Time limits, suspects and limits per kind: what a handler that will not end costs, and what it must not cost."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.retry import Retrying, RetryPolicy
from app.queue.running import Job
from tests.support.jobs import enqueue_all, outcomes, tries
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async

ONCE = Retrying(own=RetryPolicy(max_attempts=1))


async def succeed(_: Job[Any]) -> None:
    return None


async def hold_out(_: Job[Any]) -> None:
    """Ignore every cancel until the test is over."""
    while not FOREVER.is_set():
        try:
            await FOREVER.wait()
        except asyncio.CancelledError:
            continue


FOREVER = asyncio.Event()


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    """Handlers that hold out end with the test."""
    global FOREVER
    FOREVER = asyncio.Event()
    yield
    FOREVER.set()


async def test_an_async_handler_is_cancelled_at_its_soft_limit_and_the_try_counts_as_timeout(
    db_url: str,
) -> None:
    registry = Registry()
    cancelled: list[bool] = []

    async def slow(job: Job[Any]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(job.stop_requested.is_set())
            raise

    registry.handler("slow", timeout=0.1, retry=ONCE)(slow)
    [job] = enqueue_all(db_url, [NewJob("slow")])
    async with supervised(db_url, registry):
        await eventually_async(lambda: outcomes(db_url, [job]) == ["DEAD"])
    assert cancelled == [True]
    [kept] = tries(db_url, job)
    assert kept.error_class == "timeout"


async def test_a_handler_that_answers_its_cancel_with_another_error_leaves_a_whole_slot(db_url: str) -> None:
    registry = Registry()

    async def stubborn(_: Job[Any]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("not now") from None

    async def group(_: Job[Any]) -> None:
        # A task group in a task with a cancel left over raises CancelledError instead of its group.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())

    async def fail() -> None:
        raise ValueError("inside the group")

    registry.handler("stubborn", timeout=0.1, retry=ONCE)(stubborn)
    registry.handler("group", retry=ONCE)(group)
    registry.handler("succeed")(succeed)
    ids = enqueue_all(db_url, [NewJob("stubborn"), NewJob("group"), NewJob("succeed")])
    async with supervised(db_url, registry, slots=1):
        await eventually_async(lambda: outcomes(db_url, ids) == ["DEAD", "DEAD", "SUCCEEDED"])
    [kept] = tries(db_url, ids[1])
    assert "ExceptionGroup" in kept.message


@pytest.mark.parametrize("suspect", [False, True], ids=["plain", "suspect"])
async def test_a_handler_that_ignores_its_cancel_loses_its_slot_and_the_worker_goes_on(
    db_url: str, suspect: bool
) -> None:
    registry = Registry()
    registry.handler("hold-out", timeout=0.1, hard_timeout=0.3, retry=ONCE)(hold_out)
    registry.handler("succeed")(succeed)
    ids = enqueue_all(db_url, [NewJob("hold-out"), NewJob("succeed")])
    if suspect:
        make_suspect(db_url, ids[0])
    async with supervised(db_url, registry, slots=2) as worker:
        await eventually_async(lambda: outcomes(db_url, ids) == ["DEAD", "SUCCEEDED"])
        assert worker.slots.stuck == 1
        more = enqueue_all(db_url, [NewJob("succeed") for _ in range(3)])
        await eventually_async(lambda: set(outcomes(db_url, more)) == {"SUCCEEDED"})
        assert len(worker.slots.slots) == 2
        FOREVER.set()
    assert tries(db_url, ids[0])[0].error_class == "timeout"


async def test_a_thread_that_ignores_its_limit_loses_its_slot_and_sees_that_it_should_stop(
    db_url: str,
) -> None:
    registry = Registry()
    seen, end = threading.Event(), threading.Event()

    def busy(job: Job[Any]) -> None:
        if job.stop_requested.wait(30):
            seen.set()
        end.wait(30)

    registry.handler("busy", executor="thread", timeout=0.1, hard_timeout=0.4, retry=ONCE)(busy)
    registry.handler("succeed")(succeed)
    ids = enqueue_all(db_url, [NewJob("busy"), NewJob("succeed")])
    async with supervised(db_url, registry, slots=2):
        await eventually_async(lambda: outcomes(db_url, ids) == ["DEAD", "SUCCEEDED"])
        assert seen.is_set()
        end.set()


async def test_a_given_up_handler_frees_the_limit_of_its_kind(db_url: str) -> None:
    registry = Registry()
    started: list[int] = []

    async def first_holds_out(job: Job[Any]) -> None:
        started.append(job.id)
        if len(started) == 1:
            await hold_out(job)

    registry.handler("one", concurrency=1, timeout=0.1, hard_timeout=0.3, retry=ONCE)(first_holds_out)
    ids = enqueue_all(db_url, [NewJob("one") for _ in range(4)])
    async with supervised(db_url, registry, slots=2):
        await eventually_async(lambda: sorted(outcomes(db_url, ids)) == ["DEAD"] + ["SUCCEEDED"] * 3)
        FOREVER.set()


async def test_a_kind_never_runs_more_often_at_once_than_its_limit(db_url: str) -> None:
    registry = Registry()
    running, most = 0, 0

    async def counted(_: Job[Any]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    registry.handler("limited", concurrency=2)(counted)
    ids = enqueue_all(db_url, [NewJob("limited") for _ in range(40)])
    async with supervised(db_url, registry, slots=10):
        await eventually_async(lambda: set(outcomes(db_url, ids)) == {"SUCCEEDED"})
    assert most == 2


async def test_a_suspect_runs_with_nothing_beside_it(db_url: str) -> None:
    registry = Registry()
    running: set[int] = set()
    beside: dict[int, int] = {}

    async def watched(job: Job[Any]) -> None:
        running.add(job.id)
        for _ in range(20):
            beside[job.id] = max(beside.get(job.id, 0), len(running))
            await asyncio.sleep(0)
        running.remove(job.id)

    registry.handler("watched")(watched)
    ids = enqueue_all(db_url, [NewJob("watched") for _ in range(60)])
    suspects = ids[10:40:10]
    for job in suspects:
        make_suspect(db_url, job)
    async with supervised(db_url, registry, slots=8):
        await eventually_async(lambda: set(outcomes(db_url, ids)) == {"SUCCEEDED"})
    assert [beside[job] for job in suspects] == [1, 1, 1]
    assert max(beside.values()) > 1, "the others did run side by side"


async def test_waiting_suspects_keep_no_other_job_out(db_url: str) -> None:
    registry = Registry()
    end = asyncio.Event()

    async def wait(_: Job[Any]) -> None:
        await end.wait()

    registry.handler("wait")(wait)
    registry.handler("succeed")(succeed)
    suspects = enqueue_all(db_url, [NewJob("wait") for _ in range(6)])
    for job in suspects:
        make_suspect(db_url, job)
    [other] = enqueue_all(db_url, [NewJob("succeed")])
    async with supervised(db_url, registry, slots=2) as worker:
        await eventually_async(lambda: worker.inbox.set_aside >= 5)
        end.set()
        await eventually_async(lambda: outcomes(db_url, [other]) == ["SUCCEEDED"])
        await eventually_async(lambda: set(outcomes(db_url, suspects)) == {"SUCCEEDED"})


def make_suspect(url: str, job: int) -> None:
    """As rescue leaves a job whose worker died."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE tandem.ready SET suspect = true WHERE job_id = %s", (job,))


async def test_a_worker_that_gave_up_as_many_handlers_as_it_has_slots_ends_itself(db_url: str) -> None:
    registry = Registry()
    registry.handler("hold-out", timeout=0.05, hard_timeout=0.1, retry=ONCE)(hold_out)
    ids = enqueue_all(db_url, [NewJob("hold-out"), NewJob("hold-out")])
    async with supervised(db_url, registry, slots=2) as worker:
        await eventually_async(lambda: outcomes(db_url, ids) == ["DEAD", "DEAD"])
        await eventually_async(worker.stopping.is_set)
        FOREVER.set()
