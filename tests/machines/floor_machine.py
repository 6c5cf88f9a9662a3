"""Floors against open transactions: producers, claims and the mover's own statements, interleaved one by one.

Each actor has a connection of its own with its own open transaction. After each step no floor may lie above a position
that is ready, claimed but not committed, or drawn and not yet written by a transaction that may still commit.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.database.deadline import BoundedAsyncConnection
from app.queue.store import Store
from tests.support.claims import claim, every_lane, worker_connection
from workers.sweeper.step import Settled

Result = TypeVar("Result")
PRIORITIES = (5, 5, 5, 3)
PRODUCERS, CLAIMERS = 3, 2
STATE = """
SELECT (SELECT json_agg(json_build_array(priority, floor)) FROM
        (SELECT priority, max(floor) AS floor FROM tandem.lane_floor GROUP BY priority) AS f),
       (SELECT json_agg(json_build_array(priority, pos)) FROM tandem.ready)
"""


@dataclass
class Producer:
    """One open transaction: positions it has drawn and not written, and those it has written."""

    connection: psycopg.AsyncConnection[Any]
    drawn: list[tuple[int, int]] = field(default_factory=list)
    written: list[tuple[int, int]] = field(default_factory=list)
    marks: list[tuple[int, int]] = field(default_factory=list)
    """How much was drawn and written at each savepoint."""


@dataclass
class Claimer:
    """What its open transaction has claimed, as (priority, position)."""

    connection: BoundedAsyncConnection
    open: list[tuple[int, int]] | None = None


@dataclass
class Actors:
    """The connections that all examples share."""

    mover: BoundedAsyncConnection
    observer: psycopg.AsyncConnection[Any]
    pin: psycopg.AsyncConnection[Any]
    producers: list[psycopg.AsyncConnection[Any]]
    claimers: list[BoundedAsyncConnection]


class SteppedStore(Store):
    """The mover's store, held after the first of its two samples until the machine lets it go on."""

    def __init__(self, connection: BoundedAsyncConnection) -> None:
        super().__init__(connection)
        self.between = asyncio.Event()
        self.go_on = asyncio.Event()
        self._first = True

    async def sample_position(self) -> Any:
        """The sequence; held behind it if it comes first."""
        answer = await super().sample_position()
        await self._hold()
        return answer

    async def read_snapshot(self) -> Any:
        """The snapshot; held behind it if it comes first."""
        answer = await super().read_snapshot()
        await self._hold()
        return answer

    async def _hold(self) -> None:
        if self._first:
            self._first = False
            self.between.set()
            await self.go_on.wait()


class FloorMachine(RuleBasedStateMachine):
    """The rules. `actors` and `runner` are set by whoever runs it."""

    actors: Actors
    runner: asyncio.Runner
    moved: ClassVar[int] = 0
    """How often any floor moved, over all examples."""
    late: ClassVar[int] = 0
    """Commits of positions below the mover's newest sample: what floors have to wait for."""
    found: ClassVar[list[str]] = []
    """What was wrong, each time it was."""

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run on the machine's own loop."""
        return self.runner.run(coroutine)

    @initialize()
    def begin(self) -> None:
        """An empty queue with nobody in a transaction."""
        self.settled = Settled()
        self.sampling: tuple[SteppedStore, asyncio.Task[None]] | None = None
        self.pinned = False
        self.seen = 0
        self.producers = [Producer(one) for one in self.actors.producers]
        self.claimers = [Claimer(one) for one in self.actors.claimers]
        self.run(self._begin())

    async def _begin(self) -> None:
        await self.actors.mover.execute(
            "TRUNCATE tandem.job, tandem.ready, tandem.lease, tandem.lane_floor, tandem.queue"
        )
        await Store(self.actors.mover).declare_queues(["default"])

    def teardown(self) -> None:
        """Nothing stays open for the next example."""
        if hasattr(self, "producers"):
            self.run(self._end())

    async def _end(self) -> None:
        if self.sampling is not None:
            self.sampling[0].go_on.set()
            await self.sampling[1]
        for producer in self.producers:
            await producer.connection.rollback()
        for claimer in self.claimers:
            if claimer.open is not None:
                await claimer.connection.execute("ROLLBACK")
        await self.actors.pin.rollback()

    # --- producers: tandem.enqueue in its steps ----------------------------------------------------------------

    @rule(number=st.integers(0, PRODUCERS - 1), priority=st.sampled_from(PRIORITIES))
    def draw(self, number: int, priority: int) -> None:
        """A transaction id, then a position: the order that the boundary rests on."""
        producer = self.producers[number]
        self.run(self._execute(producer.connection, "SELECT pg_current_xact_id()"))
        [(position,)] = self.run(
            self._execute(producer.connection, "SELECT nextval('tandem.ready_position')")
        )
        producer.drawn.append((priority, position))

    @precondition(lambda self: any(one.drawn for one in self.producers))
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        """The row for a position drawn before."""
        producer = data.draw(st.sampled_from([one for one in self.producers if one.drawn]), label="producer")
        priority, position = producer.drawn.pop(0)
        statement = """
            WITH made AS (INSERT INTO tandem.job (id, created_at, priority, queue, kind, payload)
                VALUES (nextval('tandem.job_id'), now(), %(priority)s, 'default', 'test', '{}') RETURNING id)
            INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue)
            SELECT %(pos)s, id, now(), %(priority)s, 0, 0, false, 'default' FROM made RETURNING pos"""
        self.run(self._execute(producer.connection, statement, {"pos": position, "priority": priority}))
        producer.written.append((priority, position))

    @rule(number=st.integers(0, PRODUCERS - 1), priority=st.sampled_from(PRIORITIES))
    def enqueue(self, number: int, priority: int) -> None:
        """All of it at once, as any program does; it stays open."""
        producer = self.producers[number]
        statement = """
            WITH made AS MATERIALIZED (SELECT tandem.enqueue('test', priority => %(priority)s) AS id)
            SELECT id FROM made"""
        [(job,)] = self.run(self._execute(producer.connection, statement, {"priority": priority}))
        [(position,)] = self.run(
            self._execute(
                producer.connection, "SELECT pos FROM tandem.ready WHERE job_id = %(job)s", {"job": job}
            )
        )
        producer.written.append((priority, position))

    @precondition(lambda self: any(one.drawn or one.written for one in self.producers))
    @rule(data=st.data(), end=st.sampled_from(["commit", "commit", "commit", "rollback"]))
    def end(self, data: st.DataObject, end: str) -> None:
        """Commit or give up; positions drawn and not written are gaps from now on."""
        open_ones = [one for one in self.producers if one.drawn or one.written]
        producer = data.draw(st.sampled_from(open_ones), label="producer")
        if end == "commit":
            self.run(producer.connection.commit())
            type(self).late += sum(position <= self.seen for _, position in producer.written)
        else:
            self.run(producer.connection.rollback())
        producer.drawn, producer.written, producer.marks = [], [], []

    @precondition(lambda self: any(one.written and not one.marks for one in self.producers))
    @rule(data=st.data())
    def savepoint(self, data: st.DataObject) -> None:
        """What follows may be taken back alone; it has a transaction id of its own."""
        able = [one for one in self.producers if one.written and not one.marks]
        producer = data.draw(st.sampled_from(able), label="producer")
        self.run(self._execute(producer.connection, "SAVEPOINT here"))
        producer.marks.append((len(producer.drawn), len(producer.written)))

    @precondition(lambda self: any(one.marks for one in self.producers))
    @rule(data=st.data(), back=st.booleans())
    def leave_savepoint(self, data: st.DataObject, back: bool) -> None:
        """Keep it or take it back."""
        producer = data.draw(st.sampled_from([one for one in self.producers if one.marks]), label="producer")
        self.run(self._execute(producer.connection, "ROLLBACK TO here" if back else "RELEASE here"))
        written = producer.marks.pop()[1]
        if back:
            producer.drawn, producer.written = [], producer.written[:written]

    # --- claims ------------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, CLAIMERS - 1), want=st.integers(1, 4), commit=st.booleans())
    def claim(self, number: int, want: int, commit: bool) -> None:
        """Take what is visible, from the safe floors, and keep the transaction open or not."""
        claimer = self.claimers[number]
        if claimer.open is not None:
            self.run(self._execute(claimer.connection, "COMMIT" if commit else "ROLLBACK"))
            claimer.open = None
            return
        if not commit:
            self.run(self._execute(claimer.connection, "BEGIN"))
        jobs = self.run(claim(claimer.connection, want, lanes=every_lane()))
        if not commit:
            claimer.open = [(job.priority, job.position) for job in jobs]

    # --- the mover, statement by statement ----------------------------------------------------------------------

    @rule()
    def sample(self) -> None:
        """The first half of a sample, or the second of one begun."""
        if self.sampling is None:
            self.run(self._start_sampling())
        else:
            self.run(self._finish_sampling())

    @rule()
    def move(self) -> None:
        """A whole turn of the mover."""
        if self.sampling is None:
            self.run(self._start_sampling())
        self.run(self._finish_sampling())
        type(self).moved += self.run(Store(self.actors.mover).advance_floors(settled=self.settled.position))

    async def _start_sampling(self) -> None:
        store = SteppedStore(self.actors.mover)
        self.sampling = store, asyncio.create_task(self.settled.sample(store))
        await store.between.wait()
        row = await (
            await self.actors.observer.execute("SELECT last_value FROM tandem.ready_position")
        ).fetchone()
        self.seen = row[0] if row else 0

    async def _finish_sampling(self) -> None:
        assert self.sampling is not None
        store, task = self.sampling
        store.go_on.set()
        await task
        self.sampling = None

    # --- others ------------------------------------------------------------------------------------------------

    @rule(writer=st.booleans())
    def pin(self, writer: bool) -> None:
        """Somebody idles in a transaction, having read or written; or ends it."""
        if self.pinned:
            self.run(self.actors.pin.rollback())
        else:
            self.run(self._execute(self.actors.pin, "SELECT pg_current_xact_id()" if writer else "SELECT 1"))
        self.pinned = not self.pinned

    async def _execute(
        self, connection: psycopg.AsyncConnection[Any], statement: str, params: dict[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        cursor = await connection.execute(statement.encode(), params)
        return await cursor.fetchall() if cursor.description else []

    # --- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def no_floor_has_passed_a_job(self) -> None:
        """Not one that waits, not one that may still come, not one that may come back."""
        if not hasattr(self, "producers"):
            return
        [(floors, ready)] = self.run(self._execute(self.actors.observer, STATE))
        floor = dict(floors or ())
        open_ones = [place for one in self.producers for place in (*one.drawn, *one.written)]
        claimed = [place for one in self.claimers for place in one.open or ()]
        for what, places in (
            ("waits", ready or ()),
            ("is not committed", open_ones),
            ("may come back", claimed),
        ):
            passed = [(priority, at) for priority, at in places if at < floor.get(priority, 0)]
            if passed:
                said = f"floors {floor} have passed what {what}: {passed} (priority, position)"
                self.found.append(said)
                raise AssertionError(said)


async def open_actors(url: str) -> Actors:
    """The connections that a machine's examples share."""
    return Actors(
        mover=await worker_connection(url),
        observer=await psycopg.AsyncConnection.connect(url, autocommit=True),
        pin=await psycopg.AsyncConnection.connect(url),
        producers=[await psycopg.AsyncConnection.connect(url) for _ in range(PRODUCERS)],
        claimers=[await worker_connection(url) for _ in range(CLAIMERS)],
    )


async def close_actors(actors: Actors) -> None:
    """Close them all."""
    for one in (actors.mover, actors.observer, actors.pin, *actors.producers, *actors.claimers):
        await one.close()
