"""Of many sleeping workers two are told: who cannot take the jobs tells others, and no job waits for a busy worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest

from app.queue import wake
from app.queue.enqueue import enqueue
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.running import Job
from app.queue.sleep_store import Place, SleepStore
from tests.support.jobs import enqueue_all, outcomes
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async
from workers.producer import Producer
from workers.supervisor import Supervisor

MANY = {f"q{number}": 1 for number in range(40)}


class Gate:
    """Handlers of kind `wait` begin, and end when they are let."""

    def __init__(self) -> None:
        self.begun = 0
        self.open = asyncio.Event()
        self.registry = Registry()
        self.registry.handler("wait")(self._wait)
        self.registry.handler("succeed")(self._succeed)

    async def _wait(self, _: Job[Any]) -> None:
        self.begun += 1
        await self.open.wait()

    async def _succeed(self, _: Job[Any]) -> None:
        return None


@pytest.fixture(autouse=True)
def no_rechecks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sleeper is woken by notifications alone, for hours."""
    monkeypatch.setattr(wake, "RECHECKS", ())
    monkeypatch.setattr("workers.producer.LISTEN_RECHECK", 3600.0)


@asynccontextmanager
async def fleet(url: str, gate: Gate, *workers: dict[str, Any]) -> AsyncIterator[list[Supervisor]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(supervised(url, gate.registry, mode="listen", **options))
            for options in workers
        ]


async def asleep(*workers: Supervisor) -> None:
    """Until they all sleep, and none will look again by itself."""

    def all_sleep() -> bool:
        sleepers = [one.producer.sleeper for one in workers]
        return all(one is not None and one._asleep and one.heard.waiting for one in sleepers)

    await eventually_async(all_sleep)


async def test_one_commit_with_many_jobs_brings_every_worker_to_work(db_url: str) -> None:
    gate = Gate()
    async with fleet(db_url, gate, *[{"slots": 1}] * 6) as workers:
        await asleep(*workers)
        jobs = enqueue_all(db_url, [NewJob("wait")] * 6)
        await eventually_async(lambda: gate.begun == 6)
        gate.open.set()
        await eventually_async(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"})


async def test_a_job_alone_is_looked_for_by_two_of_six(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, looks, look = Gate(), 0, Producer._claim_everything

    async def counted(self: Producer) -> bool:
        nonlocal looks
        looks += 1
        return await look(self)

    async with fleet(db_url, gate, *[{"slots": 5}] * 6) as workers:
        await asleep(*workers)
        monkeypatch.setattr(Producer, "_claim_everything", counted)
        jobs = []
        for _ in range(20):
            jobs += enqueue_all(db_url, [NewJob("succeed")])
            await eventually_async(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"})  # noqa: B023
        await asleep(*workers)
        assert 20 <= looks <= 40


async def test_who_is_told_while_it_is_busy_tells_others(db_url: str) -> None:
    """A commit that is slow after its probe: those it told may be busy by the time they hear of it."""
    gate = Gate()
    async with fleet(db_url, gate, {"slots": 1}) as [busy]:
        await asleep(busy)
        enqueue_all(db_url, [NewJob("wait")])
        await eventually_async(lambda: gate.begun == 1)
        async with fleet(db_url, gate, {"slots": 1}) as [free]:
            await asleep(free)
            assert busy.producer.sleeper is not None
            seat = busy.producer.sleeper._places[0].seat
            with psycopg.connect(db_url, autocommit=True) as producer:
                job = enqueue(producer, NewJob("succeed"), wake=False).job_id
                producer.execute(
                    "SELECT pg_notify('tandem_seat_' || tandem.queue_number('default') || '_' || %s::int, '')",
                    (seat,),
                )
            await eventually_async(lambda: outcomes(db_url, [job]) == ["SUCCEEDED"])
            gate.open.set()


async def test_a_sleeper_that_stands_still_holds_up_no_job(db_url: str) -> None:
    """It says that it sleeps, is told, and never looks."""
    gate = Gate()
    async with await psycopg.AsyncConnection.connect(db_url, autocommit=True) as frozen:
        store = SleepStore(frozen)
        [seat], [lane] = await store.take_seats(["default"]), await store.find_lanes(["default"])
        assert await store.lie_down([seat.place, Place(lane)])
        async with fleet(db_url, gate, {"slots": 2}, {"slots": 2}) as workers:
            await asleep(*workers)
            for _ in range(20):
                jobs = enqueue_all(db_url, [NewJob("succeed")])
                await eventually_async(lambda: outcomes(db_url, jobs) == ["SUCCEEDED"])  # noqa: B023


async def test_who_has_no_slot_for_a_managed_queue_tells_others(db_url: str) -> None:
    """A plain job may wait for a slot, a managed one may not: a look at the one alone leaves the other behind."""
    gate = Gate()
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("SELECT tandem.manage_queue('managed')")
    queues = {"default": 1, "managed": 1}
    async with fleet(db_url, gate, {"slots": 2, "queues": queues}) as [one]:
        await asleep(one)
        async with fleet(db_url, gate, {"slots": 2, "queues": queues}) as [other]:
            await asleep(one, other)
            jobs = enqueue_all(db_url, [NewJob("wait", queue="managed")] * 2 + [NewJob("wait")] * 2)
            await eventually_async(lambda: gate.begun == 4)
            gate.open.set()
            await eventually_async(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"})


async def test_a_worker_that_stops_leaves_the_others_awake_enough(db_url: str) -> None:
    gate = Gate()
    async with fleet(db_url, gate, *[{"slots": 1}] * 2) as workers:
        await asleep(*workers)
        async with fleet(db_url, gate, *[{"slots": 1}] * 3) as leaving:
            await asleep(*leaving)
        for _ in range(10):
            jobs = enqueue_all(db_url, [NewJob("succeed")])
            await eventually_async(lambda: outcomes(db_url, jobs) == ["SUCCEEDED"])  # noqa: B023


async def test_workers_of_many_lanes_sleep_without_seats_and_are_all_told(db_url: str) -> None:
    gate = Gate()
    async with fleet(
        db_url, gate, *[{"slots": 1, "queues": MANY}] * 2, {"slots": 1, "queues": {"q1": 1}}
    ) as workers:
        await asleep(*workers)
        seated = [one.producer.sleeper._seated for one in workers if one.producer.sleeper]
        assert seated == [(), (), ("q1",)]
        jobs = enqueue_all(db_url, [NewJob("wait", queue="q1")] * 3)
        await eventually_async(lambda: gate.begun == 3)
        gate.open.set()
        await eventually_async(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"})
