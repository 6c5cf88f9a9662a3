"""How honest is the ETA under limits? Drives the real admission of two managed queues under a global limit and one of a
kind on a moved clock, asks tandem.eta for jobs that come, and counts how often the truth fell into the band.
"""

import heapq
import math
import random
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from psycopg import AsyncConnection

from app.queue import limits
from app.queue.admission_store import AdmissionStore
from app.queue.enqueue import enqueue_many_async
from app.queue.eta import EtaStore, Sample
from app.queue.job import ClaimedJob, NewJob
from app.queue.store import Finish, Store

SLOTS, GLOBAL_LIMIT, RENDER_LIMIT = 12, 6, 2
RUNS = {"page": (0.5, 0.8), "render": (1.5, 0.7), "send": (0.5, 0.5)}
"""Mean seconds and spread (standard deviation over mean) by kind."""
BURSTS = {"reports": (60, 15.0), "mail": (20, 10.0)}
"""Jobs of a burst, and seconds between bursts on average, by queue."""
SAMPLE_EVERY, WARM_UP = 5.0, 60.0
ASK_EVERY = 4
"""Jobs of one burst know much the same: one of so many is asked."""
WORKER = uuid.UUID(int=1)
ASK = """
SELECT u.id, extract(epoch FROM e.start_at - c.at)::float8, extract(epoch FROM e.start_low - c.at)::float8,
       extract(epoch FROM e.start_high - c.at)::float8, extract(epoch FROM e.finish_low - c.at)::float8,
       extract(epoch FROM e.finish_high - c.at)::float8
FROM (SELECT tandem.clock() AS at) AS c CROSS JOIN unnest(%s::bigint[]) AS u(id)
CROSS JOIN LATERAL tandem.eta(u.id) AS e
WHERE e.basis = 'rates'
"""
Times = tuple[float, float, float, float, float]


@dataclass
class Asked:
    """What was said of a job when it came: start, its band, the band of its end; and then the truth."""

    came: float
    told: Times
    started: float = math.nan
    ended: float = math.nan


@dataclass
class Simulation:
    """One run on one connection, whose clock it moves from event to event."""

    connection: AsyncConnection[Any]
    randomness: random.Random
    jobs: int
    now: float = 0.0
    asked: dict[int, Asked] = field(default_factory=dict)
    events: list[tuple[float, int, str, Any]] = field(default_factory=list)
    samples: dict[tuple[str, str], Sample] = field(default_factory=dict)
    running: int = 0
    base: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def run(self) -> list[Asked]:
        """Every event in turn, with admission after each; answers what was asked and became true."""
        await self._prepare()
        for queue in BURSTS:
            self._plan(0.0, "_come", queue)
        self._plan(SAMPLE_EVERY, "_sample")
        while self.events and not (self.jobs <= 0 and self.running == 0):
            self.now, _, what, data = heapq.heappop(self.events)
            await self._move_clock()
            await getattr(self, what)(data)
        return [one for one in self.asked.values() if not math.isnan(one.ended)]

    async def _prepare(self) -> None:
        await self._move_clock()
        queues = list(BURSTS)
        store = Store(self.connection)
        await store.declare_queues(queues)
        await store.register_worker(
            worker=WORKER, name="w", mode="hybrid", queues=queues, concurrency=SLOTS, version="0"
        )
        for queue in queues:
            await limits.manage_queue(self.connection, queue)
        await limits.set_limit(self.connection, "global", max_running=GLOBAL_LIMIT)
        await limits.set_limit(self.connection, "kind:render", max_running=RENDER_LIMIT)

    def _plan(self, after: float, what: str, data: Any = None) -> None:
        heapq.heappush(self.events, (self.now + after, secrets.randbits(62), what, data))

    async def _move_clock(self) -> None:
        """The session's clock says base + now, whatever time has really passed."""
        offset = self.now - (datetime.now(UTC) - self.base).total_seconds()
        query = "SELECT set_config('tandem.clock_offset', %s, false)"
        await self.connection.execute(query, (f"{offset:.6f} s",))

    async def _come(self, queue: str) -> None:
        """A burst: of two keys and two kinds in one queue, plain ones in the other."""
        size, every = BURSTS[queue]
        if self.jobs > 0:
            self.jobs -= size
            self._plan(self.randomness.expovariate(1 / every), "_come", queue)
            made = await enqueue_many_async(self.connection, [self._job(queue) for _ in range(size)])
            await self._admit()
            if self.now > WARM_UP:
                await self._ask([one.job_id for one in made[::ASK_EVERY]])

    def _job(self, queue: str) -> NewJob:
        if queue == "mail":
            return NewJob("send", queue=queue)
        kind = "render" if self.randomness.random() < 0.2 else "page"
        return NewJob(kind, queue=queue, partition_key=self.randomness.choice("ab"))

    async def _ask(self, jobs: list[int]) -> None:
        await self._move_clock()
        for job, start, *told in await (await self.connection.execute(ASK, (jobs,))).fetchall():
            if start is not None and start > 0.001:
                self.asked[job] = Asked(self.now, (start, *told))

    async def _admit(self) -> None:
        """As a worker's free slots ask for it, each queue in turn."""
        for queue in BURSTS:
            if self.running < GLOBAL_LIMIT:
                await self._take(queue, SLOTS - self.running, [])

    async def _take(self, queue: str, want: int, finished: list[Finish]) -> None:
        admitted = await AdmissionStore(self.connection).admit_jobs(
            queue,
            want=want,
            token=secrets.randbits(63),
            worker=WORKER,
            lease=timedelta(days=1),
            thorough=True,
            finished=finished,
        )
        self._begin(admitted.jobs)

    def _begin(self, jobs: list[ClaimedJob]) -> None:
        for job in jobs:
            mean, spread = RUNS[job.kind]
            sigma2 = math.log(1 + spread * spread)
            run = self.randomness.lognormvariate(math.log(mean) - sigma2 / 2, math.sqrt(sigma2))
            self.running += 1
            self._plan(run, "_end", (job, run))
            if job.id in self.asked:
                one = self.asked[job.id]
                one.started, one.ended = self.now - one.came, self.now + run - one.came

    async def _end(self, ended: tuple[ClaimedJob, float]) -> None:
        """Finish and refill in one statement, as a worker does; then whoever sleeps."""
        job, run = ended
        name = (job.queue, job.kind)
        self.samples[name] = self.samples.get(name, Sample(0, 0.0, 0.0)).plus(run * 1000)
        self.running -= 1
        await self._take(job.queue, 1, [Finish(job.id, job.token, run * 1000)])
        await self._admit()

    async def _sample(self, _: None) -> None:
        self._plan(SAMPLE_EVERY, "_sample")
        await EtaStore(self.connection).add_samples(self.samples)
        await Store(self.connection).see_worker(WORKER)
        self.samples = {}


async def calibrate_limits(connection: AsyncConnection[Any], jobs: int, seed: int) -> dict[str, float]:
    """How often starts and ends fell into their bands, and by how much the expectation was off (median, relative)."""
    asked = await Simulation(connection, random.Random(seed), jobs).run()  # noqa: S311 - no secret
    count = max(1, len(asked))
    off = [abs(one.started - one.told[0]) / one.told[0] for one in asked]
    return {
        "jobs": len(asked),
        "in_band": round(sum(one.told[1] <= one.started <= one.told[2] for one in asked) / count, 3),
        "above": round(sum(one.started > one.told[2] for one in asked) / count, 3),
        "finish_in_band": round(sum(one.told[3] <= one.ended <= one.told[4] for one in asked) / count, 3),
        "median_error": round(median(off), 3) if off else math.nan,
    }
