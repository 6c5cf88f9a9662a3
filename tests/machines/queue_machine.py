"""The queue against a model of plain dictionaries: every step is one statement of the store, judged by its answer.

After each step SQL must show exactly the places, tokens, tries, crashes and unique keys that the model has.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.errors import Conflict
from app.queue import admin
from app.queue.enqueue import enqueue_async
from app.queue.job import NewJob, Unique
from app.queue.kinds import Registry
from app.queue.settle import FailedJob, settle
from app.queue.store import Failed, Finish, Store
from tests.support.claims import WORKER, every_lane
from workers.sweeper.promote import PromoteJobs
from workers.sweeper.rescue import RescueJobs
from workers.sweeper.step import Settled

Result = TypeVar("Result")
QUEUES = ("default", "mail")
SCOPES = ("pending", "unfinished", "period", "forever")
LEASE, DELAY, PERIOD, STEPS = 3000, 6000, 5000, (700, 4000, 10_000)
"""Seconds. No sum of steps comes within 100 s of a lease, delay or period: real seconds that pass change nothing."""
CRASH_LIMIT = 3
TABLES = "job, ready, lease, scheduled, blocked, done, attempt, unique_key, cancel_intent, queue"
STATE = """
SELECT p.job_id, p.place, p.attempt, p.crashes, p.token,
       (SELECT count(*) FROM tandem.attempt AS a WHERE a.job_id = p.job_id),
       EXISTS (SELECT FROM tandem.cancel_intent AS c WHERE c.job_id = p.job_id)
FROM (SELECT job_id, 'ready' AS place, attempt, crashes, NULL::bigint AS token FROM tandem.ready
      UNION ALL SELECT job_id, 'scheduled', attempt, crashes, NULL FROM tandem.scheduled
      UNION ALL SELECT job_id, 'lease', attempt, crashes, token FROM tandem.lease
      UNION ALL SELECT job_id, outcome, attempt, 0, token FROM tandem.done) AS p ORDER BY p.job_id
"""
WHOLE = """
SELECT (SELECT array_agg(id ORDER BY id) FROM tandem.job),
       (SELECT json_object_agg(concat_ws('/', scope, queue, key), job_id) FROM tandem.unique_key)
"""


@dataclass
class Known:
    """What the model knows of one job."""

    queue: str
    priority: int
    place: str
    order: int = 0
    attempt: int = 0
    crashes: int = 0
    token: int | None = None
    until: int = 0
    """When the lease ends, or when it is due."""
    alone: bool = False
    cancel: bool = False
    tries: int = 0


@dataclass
class Model:
    """All jobs, keys and pauses, and the seconds that the clock was moved."""

    jobs: dict[int, Known] = field(default_factory=dict)
    keys: dict[tuple[str, str, str], tuple[int, int, int]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    now: int = 0
    order: int = 0
    token: int = 0
    handles: list[tuple[int, int]] = field(default_factory=list)
    """Every (job, token) that was ever given out: the old ones are the zombies."""

    def ready(self, job: Known) -> None:
        """It may be claimed, behind all others of its lane."""
        self.order += 1
        job.place, job.order, job.token, job.alone = "ready", self.order, None, False

    def later(self, job: Known, seconds: int) -> None:
        """It is due in so many seconds."""
        if seconds:
            job.place, job.until, job.token, job.alone = "scheduled", self.now + seconds, None, False
        else:
            self.ready(job)

    def end(self, job: Known, outcome: str, *, tried: bool = False) -> None:
        """It has ended; a try that failed is kept."""
        job.place, job.crashes, job.cancel = outcome, 0, False
        job.tries += tried

    def claimable(self, queues: tuple[str, ...], want: int) -> list[int]:
        """What a claim must answer: queue by queue, the highest priority first, then in order."""
        rank = {queue: place for place, queue in enumerate(queues)}
        ready = [
            (rank[job.queue], -job.priority, job.order, number)
            for number, job in self.jobs.items()
            if job.place == "ready" and job.queue in rank and job.queue not in self.paused
        ]
        return [one[-1] for one in sorted(ready)][:want]

    def key_is_free(self, scope: str, queue: str, key: str) -> bool:
        """Whether an enqueue with this key makes a new job."""
        if (scope, queue, key) not in self.keys:
            return True
        owner, _, expires = self.keys[scope, queue, key]
        place = self.jobs[owner].place
        if scope == "period":
            return expires <= self.now
        return (scope == "pending" and place not in ("ready", "scheduled")) or (
            scope == "unfinished" and place in ("SUCCEEDED", "DEAD", "CANCELLED")
        )


class QueueMachine(RuleBasedStateMachine):
    """The rules. `url` is set by whoever runs it."""

    url = ""
    runner: asyncio.Runner
    connection: BoundedAsyncConnection

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.registry = Registry()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run on the machine's own loop."""
        return self.runner.run(coroutine)

    @initialize()
    def begin(self) -> None:
        """An empty queue, on the connection that all examples share."""
        self.run(
            self._execute(f"TRUNCATE {', '.join(f'tandem.{name.strip()}' for name in TABLES.split(','))}")
        )
        self.run(self._execute("SELECT set_config('tandem.clock_offset', '', false)"))
        self.run(self._store.declare_queues(QUEUES))
        # A job that was rescued and claimed anew: from here a stale token is never far.
        self._enqueue("default", 5, 0)
        self._claim(QUEUES, 1)
        self._pass(STEPS[1])
        self.rescue()
        self._claim(QUEUES, 1)

    async def _execute(self, statement: str) -> None:
        await self.connection.execute(statement.encode())

    @property
    def _store(self) -> Store:
        return Store(self.connection)

    def _held(self, handle: tuple[int, int]) -> Known | None:
        """The job if the handle's token is its lease's."""
        job = self.model.jobs[handle[0]]
        return job if job.place == "lease" and job.token == handle[1] else None

    # --- producers -------------------------------------------------------------------------------------------

    @rule(queue=st.sampled_from(QUEUES), priority=st.integers(0, 9), delay=st.sampled_from([0, 0, 0, DELAY]))
    def enqueue(self, queue: str, priority: int, delay: int) -> None:
        """A job, now or later."""
        self._enqueue(queue, priority, delay)

    def _enqueue(self, queue: str, priority: int, delay: int) -> None:
        at = datetime.now(UTC) + timedelta(seconds=self.model.now + delay) if delay else None
        job = NewJob("test", {}, queue=queue, priority=priority, run_at=at)
        answer = self.run(enqueue_async(self.connection, job))
        assert answer.created
        self._made(answer.job_id, queue, priority, delay)

    @rule(
        queue=st.sampled_from(QUEUES),
        key=st.sampled_from("ab"),
        scope=st.sampled_from(SCOPES),
        payload=st.integers(0, 1),
    )
    def enqueue_unique(self, queue: str, key: str, scope: Any, payload: int) -> None:
        """A job with a key: new, the first one's, or a conflict."""
        period = timedelta(seconds=PERIOD) if scope == "period" else None
        job = NewJob("test", {"n": payload}, queue=queue, unique=Unique(key, scope, period))
        place = (scope, queue, key)
        free = self.model.key_is_free(*place)
        try:
            answer = self.run(enqueue_async(self.connection, job))
        except Conflict as conflict:
            assert not free
            assert conflict.detail["job_id"] == self.model.keys[place][0]
            assert self.model.keys[place][1] != payload
            return
        assert answer.created == free
        if free:
            self.model.keys[place] = (answer.job_id, payload, self.model.now + PERIOD)
            self._made(answer.job_id, queue, 5, 0)
        else:
            assert self.model.keys[place][:2] == (answer.job_id, payload)

    def _made(self, number: int, queue: str, priority: int, delay: int) -> None:
        assert number not in self.model.jobs
        self.model.jobs[number] = Known(queue, priority, "")
        self.model.later(self.model.jobs[number], delay)

    # --- workers ---------------------------------------------------------------------------------------------

    @rule(queues=st.sampled_from([QUEUES, QUEUES[:1], QUEUES[1:]]), want=st.integers(1, 4))
    def claim(self, queues: tuple[str, ...], want: int) -> None:
        """The right jobs, under a new token, one try more."""
        self._claim(queues, want)

    def _claim(self, queues: tuple[str, ...], want: int) -> None:
        self.model.token += 1
        lease = timedelta(seconds=LEASE)
        claimed = self.run(
            self._store.claim_jobs(
                every_lane(queues), want=want, token=self.model.token, worker=WORKER, lease=lease
            )
        )
        assert {one.id for one in claimed} == set(self.model.claimable(queues, want))
        for one in claimed:
            job = self.model.jobs[one.id]
            job.place, job.token, job.until = "lease", self.model.token, self.model.now + LEASE
            job.attempt += 1
            assert (one.attempt, one.crashes, one.cancelled) == (job.attempt, job.crashes, job.cancel)
            self.model.handles.append((one.id, one.token))

    @precondition(lambda self: self.model.handles)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Ends the job for the one who holds it, and does nothing for anybody else."""
        handle = self._handle(data)
        held = self._held(handle)
        done = self.run(self._store.finish_jobs([Finish(*handle, ran_ms=1.0)]))
        assert done == ({handle[0]} if held else set())
        if held:
            held.place, held.crashes = (
                "SUCCEEDED",
                0,
            )  # a cancel that came too late stays until it is forgotten

    @precondition(lambda self: self.model.handles)
    @rule(data=st.data(), again=st.booleans(), delay=st.sampled_from([0, DELAY]))
    def fail(self, data: st.DataObject, again: bool, delay: int) -> None:
        """Another try, a dead letter, or the cancel that somebody asked for."""
        handle = self._handle(data)
        held = self._held(handle)
        failed = Failed(*handle, ran_ms=1.0, error_class="temporary", message="no", delay=float(delay))
        became = self.run(
            settle(self.connection, self.registry, [FailedJob("test", None, failed, again=again)])
        )
        if held is None:
            assert became == {}
            return
        wanted = "DEAD" if not again else "CANCELLED" if held.cancel else "RETRY"
        assert became == {handle[0]: wanted}
        if wanted == "RETRY":
            held.tries, held.crashes = held.tries + 1, 0
            self.model.later(held, delay)
        else:
            self.model.end(held, wanted, tried=True)

    @precondition(lambda self: self.model.handles)
    @rule(data=st.data(), delay=st.sampled_from([0, DELAY]))
    def hand_back(self, data: st.DataObject, delay: int) -> None:
        """Unstarted, or snoozed: the try does not count."""
        handle = self._handle(data)
        held = self._held(handle)
        back = self.run(self._store.hand_back_jobs([handle], delay=timedelta(seconds=delay)))
        assert [one[0] for one in back] == ([handle[0]] if held else [])
        if held:
            held.attempt -= 1
            self.model.later(held, delay)

    @precondition(lambda self: self.model.handles)
    @rule(data=st.data(), alone=st.booleans())
    def beat(self, data: st.DataObject, alone: bool) -> None:
        """The lease is extended for the one who holds it, who is told of a cancel; or it is noted to run alone."""
        handle = self._handle(data)
        held = self._held(handle)
        if alone:
            assert self.run(self._store.mark_alone(*handle)) == (held is not None)
            if held:
                held.alone = True
            return
        told = self.run(self._store.extend_leases([handle], lease=timedelta(seconds=LEASE)))
        assert told == ({handle: held.cancel} if held else {})
        if held:
            held.until = self.model.now + LEASE

    @precondition(lambda self: self.model.handles)
    @rule(data=st.data())
    def rescue_late(self, data: st.DataObject) -> None:
        """The second half of a rescue whose first half was long ago: only what is still so is taken back."""
        handle = self._handle(data)
        held = self._held(handle)
        expired = held is not None and held.until <= self.model.now
        back = self.run(self._store.rescue_jobs([handle]))
        assert [one.job_id for one in back] == ([handle[0]] if expired else [])
        if held is not None and expired:
            self._rescued(held)

    def _handle(self, data: st.DataObject) -> tuple[int, int]:
        # Old tokens of jobs that somebody else holds now are what fences are for, and rare by chance alone.
        stale = [
            one
            for one in self.model.handles
            if self.model.jobs[one[0]].place == "lease" and not self._held(one)
        ]
        either = st.sampled_from(self.model.handles)
        return data.draw(st.sampled_from(stale) | either if stale else either)

    def _rescued(self, job: Known) -> None:
        job.attempt, job.crashes, job.tries = job.attempt - 1, job.crashes + job.alone, job.tries + 1
        self.model.ready(job)

    # --- sweeper and time ------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from(STEPS))
    def time_passes(self, seconds: int) -> None:
        """The database's clock goes on."""
        self._pass(seconds)

    def _pass(self, seconds: int) -> None:
        self.model.now += seconds
        self.run(self._execute(f"SELECT set_config('tandem.clock_offset', '{self.model.now} s', false)"))

    @rule()
    def sweep(self) -> None:
        """Everything expired, and nothing else, is ready again, dead or cancelled."""
        self.rescue()

    def rescue(self) -> None:
        """The sweep's step, on the queue and on the model."""
        self.run(RescueJobs(self.registry, Settled()).run_once(self.connection))
        expired = [
            job for job in self.model.jobs.values() if job.place == "lease" and job.until <= self.model.now
        ]
        for job in sorted(expired, key=lambda one: one.until):
            if job.cancel:
                self.model.end(job, "CANCELLED", tried=True)
            elif job.alone and job.crashes + 1 >= CRASH_LIMIT:
                self.model.end(job, "DEAD", tried=True)
            else:
                self._rescued(job)

    @rule()
    def promote(self) -> None:
        """Everything due, and nothing else, is ready."""
        self.run(PromoteJobs(Settled()).run_once(self.connection))
        due = [
            job
            for job in self.model.jobs.values()
            if job.place == "scheduled" and job.until <= self.model.now
        ]
        for job in sorted(due, key=lambda one: one.until):
            self.model.ready(job)

    # --- operators -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """At once where it waits, asked for where it runs, too late where it has ended."""
        number = self._any(data)
        job = self.model.jobs[number]
        try:
            answer = self.run(admin.cancel_job(self.connection, self.registry, number))
        except Conflict as late:
            assert job.place in ("SUCCEEDED", "DEAD")
            assert late.detail["status"] == job.place
            return
        if job.place == "lease":
            assert answer == "REQUESTED"
            job.cancel = True
        else:
            assert (answer, job.place in ("ready", "scheduled", "CANCELLED")) == ("CANCELLED", True)
            self.model.end(job, "CANCELLED")

    @rule()
    def settle_cancels(self) -> None:
        """Cancels of jobs that came back meanwhile are met, those of ended ones forgotten."""
        self.run(admin.settle_cancels(self.connection, self.registry))
        for job in self.model.jobs.values():
            if job.cancel and job.place in ("ready", "scheduled"):
                self.model.end(job, "CANCELLED")
            elif job.place != "lease":
                job.cancel = False

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        """A dead letter starts anew; nothing else does."""
        number = self._any(data)
        job = self.model.jobs[number]
        try:
            self.run(admin.redrive_job(self.connection, self.registry, number))
        except Conflict:
            assert job.place != "DEAD"
            return
        assert job.place == "DEAD"
        job.attempt = job.crashes = 0
        job.cancel = False
        self.model.ready(job)

    @rule(queue=st.sampled_from(QUEUES), paused=st.booleans())
    def pause(self, queue: str, paused: bool) -> None:
        """Claims stop and go on; nothing else changes."""
        change = admin.pause_queue if paused else admin.resume_queue
        self.run(change(self.connection, queue))
        (self.model.paused.add if paused else self.model.paused.discard)(queue)

    def _any(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.model.jobs)))

    # --- what must hold --------------------------------------------------------------------------------------

    @invariant()
    def the_database_says_the_same(self) -> None:
        """Each job in exactly one place, with the model's token, tries and crashes; each key with its job."""
        rows, whole = self.run(self._look())
        found = {row[0]: row[1:] for row in rows}
        assert len(found) == len(rows), "a job stands in two places"
        wanted = {
            number: (
                job.place,
                job.attempt,
                job.crashes,
                self._token(job, found.get(number)),
                job.tries,
                job.cancel,
            )
            for number, job in self.model.jobs.items()
        }
        assert found == wanted
        assert (whole[0] or []) == sorted(self.model.jobs)
        assert (whole[1] or {}) == {"/".join(key): owner[0] for key, owner in self.model.keys.items()}

    def _token(self, job: Known, found: tuple[Any, ...] | None) -> int | None:
        """Ended jobs keep the token of their last try, which is none of the model's business."""
        return job.token if job.place in ("ready", "scheduled", "lease") else found[3] if found else None

    async def _look(self) -> tuple[list[tuple[Any, ...]], tuple[Any, ...]]:
        rows = await (await self.connection.execute(STATE)).fetchall()
        whole = await (await self.connection.execute(WHOLE)).fetchone()
        assert whole is not None
        return rows, whole


async def open_connection(url: str) -> BoundedAsyncConnection:
    """The connection that a machine's examples share."""
    return await connect(url, name="machine")
