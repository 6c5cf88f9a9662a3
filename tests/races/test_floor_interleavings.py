"""Random interleavings, one statement at a time on a real server: no ready row ever lies below its lane's safe floor.

Producers hold their transactions open for any number of steps, claims commit or roll back, floors move in between.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.queue.claim import Floors
from app.queue.enqueue import enqueue_many_async
from app.queue.job import ClaimedJob, NewJob
from app.queue.store import Failed, Finish, Store
from tests.support.claims import claim, rows, worker_connection
from tests.support.membership import assert_membership_async
from workers.sweeper.floors import MoveFloors
from workers.sweeper.step import Settled

BELOW = """
SELECT r.queue, r.priority, r.pos, f.floor
FROM tandem.ready AS r JOIN tandem.lane_floor AS f ON f.queue = r.queue AND f.priority = r.priority AND f.floor > r.pos
"""
STEPS = 250
QUEUES = {"default": 1, "mail": 1}


class Producer:
    """Enqueues in transactions that stay open across steps of everybody else."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], dice: random.Random) -> None:
        self.connection = connection
        self.dice = dice
        self.open = False

    async def step(self) -> None:
        act = self.dice.random()
        if self.open and act < 0.3:
            await self.connection.commit()
            self.open = False
        elif self.open and act < 0.4:
            await self.connection.rollback()
            self.open = False
        elif self.open and act < 0.5:
            await self.connection.execute("SAVEPOINT here")
            await self._enqueue()
            await self.connection.execute("ROLLBACK TO here")
        else:
            await self._enqueue()
            self.open = True

    async def _enqueue(self) -> None:
        jobs = [
            NewJob("test", queue=self.dice.choice(list(QUEUES)), priority=self.dice.choice([3, 5]))
            for _ in range(self.dice.randint(1, 3))
        ]
        await enqueue_many_async(self.connection, jobs)


class Claimer:
    """A worker reduced to its floors: claims ahead, probes behind, ends or returns what it holds, reconnects."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], dice: random.Random) -> None:
        self.connection = connection
        self.dice = dice
        self.floors = Floors(QUEUES)
        self.held: list[ClaimedJob] = []
        self.open: list[ClaimedJob] | None = None
        self.ended: list[int] = []

    async def step(self) -> None:
        if self.open is not None:
            await self._end_claim()
            return
        moves: list[Callable[[], Coroutine[Any, Any, None]]] = [self._ahead] * 4 + [self._probe] * 2
        moves += [self._finish, self._return, self._retry, self._open_claim, self._reconnect]
        await self.dice.choice(moves)()

    async def _ahead(self) -> None:
        self._take(await claim(self.connection, self.dice.randint(1, 4), lanes=self.floors.ahead()))

    async def _probe(self) -> None:
        self.floors.settle(await Store(self.connection).read_floors(self.floors.queues))
        if gaps := self.floors.behind():
            self.held += await claim(self.connection, 1, lanes=gaps)

    async def _open_claim(self) -> None:
        await self.connection.execute("BEGIN")
        self.open = await claim(self.connection, 3, lanes=self.floors.ahead())

    async def _end_claim(self) -> None:
        jobs, self.open = self.open or [], None
        if self.dice.random() < 0.5:
            await self.connection.execute("COMMIT")
            self._take(jobs)
        else:
            await self.connection.execute("ROLLBACK")

    async def _finish(self) -> None:
        jobs, self.held = self.held, []
        done = await Store(self.connection).finish_jobs(
            [Finish(job.id, job.token, 1.0, None) for job in jobs]
        )
        assert done == {job.id for job in jobs}
        self.ended += sorted(done)

    async def _return(self) -> None:
        jobs, self.held = self.held, []
        await Store(self.connection).hand_back_jobs([(job.id, job.token) for job in jobs], delay=timedelta(0))

    async def _retry(self) -> None:
        jobs, self.held = self.held[:1], self.held[1:]
        if jobs:
            await Store(self.connection).retry_jobs(
                [Failed(jobs[0].id, jobs[0].token, 1.0, "temporary", "x")]
            )

    async def _reconnect(self) -> None:
        self.floors.forget()

    def _take(self, jobs: list[ClaimedJob]) -> None:
        self.floors.passed(jobs)
        self.held += jobs

    async def drain(self) -> None:
        """What a worker does when no more work comes: from the safe floors on until nothing is left."""
        if self.open is not None:
            await self._end_claim()
        await self._finish()
        while jobs := await claim(self.connection, 50, lanes=self.floors.everything()):
            self.held += jobs
        await self._finish()


@pytest.mark.parametrize("seed", range(6))
async def test_no_interleaving_leaves_a_row_below_the_safe_floor(db_url: str, seed: int) -> None:
    dice = random.Random(seed)
    async with AsyncExitStack() as stack:
        mine = await stack.enter_async_context(await worker_connection(db_url))
        await Store(mine).declare_queues(list(QUEUES))
        mover = MoveFloors(Settled())
        producers = [
            Producer(await stack.enter_async_context(await psycopg.AsyncConnection.connect(db_url)), dice)
            for _ in range(4)
        ]
        claimers = [
            Claimer(await stack.enter_async_context(await worker_connection(db_url)), dice) for _ in range(2)
        ]

        async def move() -> None:
            await mover.run_once(mine)

        actors = [*(one.step for one in producers), *(one.step for one in claimers), move]
        for number in range(STEPS):
            async with asyncio.timeout(10):
                await dice.choices(actors, weights=[2] * 4 + [3] * 2 + [2])[0]()
            assert not await rows(mine, BELOW), f"step {number} of seed {seed}"
        await asyncio.gather(*(one.connection.commit() for one in producers))
        # One worker drains from its own safe floors: whatever it cannot see is lost.
        for one in claimers:
            await one.drain()
        assert await rows(mine, "SELECT job_id FROM tandem.ready") == []
        ended = sorted(job for one in claimers for job in one.ended)
        assert [(job,) for job in ended] == await rows(mine, "SELECT id FROM tandem.job ORDER BY id")
        assert len(ended) > 100, "the dice made too little happen"
        assert await rows(mine, "SELECT 1 FROM tandem.lane_floor WHERE floor > 1"), "no floor ever moved"
        await assert_membership_async(mine)
