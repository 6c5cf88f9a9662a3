"""The wake-up protocol under random interleavings, statement by statement on a real server.

Sleepers lie down, claim, wait, look again, or are busy; producers commit, probe after their commit, or before it. Never
may a job stay ready while somebody sleeps, no notification is on its way, and nobody will look or tell others.
"""

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg
import pytest

from app.queue import wake
from app.queue.enqueue import enqueue_async
from app.queue.job import NewJob
from app.queue.sleep_store import Place, SleepStore
from app.queue.store import Store
from tests.support.claims import claim, rows, value, worker_connection
from tests.support.membership import assert_membership_async
from tests.support.waiting import eventually_async

STEPS = 400
SLEEPERS = (True, True, True, False)
"""Whether each has a seat: three of whom a wake-up tells two, and one as on many lanes, or of an older version."""
GATE = """
CREATE TABLE gate (key integer);
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(77, NEW.key); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON gate DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_at_gate();
"""
"""A commit waits here after its own probe and before it is visible: what a foreign producer's slow commit does."""


@dataclass
class World:
    """What the actors share: the commits on their way, and the connection that asks questions."""

    observer: psycopg.AsyncConnection[Any]
    dice: random.Random
    committing: set[int] = field(default_factory=set)
    owed: int = 0
    """Producers that have committed and not probed yet."""
    serial: int = 0
    """Counts commits that probed before they were visible."""


class Sleeper:
    """A worker reduced to its sleep. Awake it is busy, for as long as the dice want, and looks at nothing."""

    def __init__(
        self,
        world: World,
        claims: psycopg.AsyncConnection[Any],
        listens: psycopg.AsyncConnection[Any],
        seated: bool,
    ):
        self.world = world
        self.claims = claims
        self.listens = listens
        self.seated = seated
        self.places: list[Place] = []
        self.state: Literal["busy", "lying", "asleep"] = "busy"
        self.heard = 0
        self.ended = 0
        self.waits_for: set[int] = set()
        self.will_look = True
        listens.add_notify_handler(self._hear)

    def _hear(self, _: psycopg.Notify) -> None:
        self.heard += 1

    async def start(self) -> None:
        [lane] = await Store(self.claims).find_lanes(["default"])
        seats = await SleepStore(self.listens).take_seats(["default"] if self.seated else [])
        self.places = [
            *(seat.place for seat in seats),
            *([] if seats else [Place(wake.LANES + lane)]),
            Place(lane),
        ]
        for name in [wake.channel(lane), *(seat.channel for seat in seats)]:
            await self.listens.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(name)))

    async def step(self) -> None:
        if self.state == "busy" and await self._hears():
            self.heard = 0
            if self.seated:  # the others are told all together
                await SleepStore(self.listens).wake_queues(["default"])
        elif self.state == "busy" and self.world.dice.random() < 0.8:
            return
        elif self.state == "busy":
            lies = await SleepStore(self.listens).lie_down(self.places)
            assert lies, "nobody else holds a lock between two steps"
            self.state = "lying"
        elif self.state == "lying":
            await self._look()
        elif self.heard or await self._hears():
            self.state = "lying"
        elif self.will_look:
            await self._look()

    async def _look(self) -> None:
        """Claim; who took less than it wanted left nothing behind and sleeps on, others are busy and tell others."""
        self.heard, want = 0, self.world.dice.randint(1, 3)
        if jobs := await claim(self.claims, want):
            await self.claims.execute("DELETE FROM tandem.lease WHERE token = %s", (jobs[0].token,))
            await self.claims.execute(
                "DELETE FROM tandem.job WHERE id = ANY (%s)", ([job.id for job in jobs],)
            )
            self.ended += len(jobs)
        if len(jobs) == want:
            await self._get_up(tell=True)
        elif self.state == "lying" and self.world.dice.random() < 0.3:
            await self._get_up(tell=self.heard > 0)  # something else to do: not every look ends in a sleep
        elif self.state == "lying":
            # Commits that probed before now may still become visible: rechecks are for them.
            self.state, self.waits_for, self.will_look = "asleep", set(self.world.committing), True
        elif not self.waits_for & self.world.committing:
            self.will_look = False

    async def _get_up(self, *, tell: bool) -> None:
        if tell:
            self.heard = 0
        await SleepStore(self.listens).get_up(self.places, tell=["default"] if tell and self.seated else ())
        self.state = "busy"

    async def _hears(self) -> bool:
        await self.listens.execute("SELECT 1")
        return self.heard > 0

    @property
    def lost(self) -> bool:
        """Whether nothing but a notification can make it look, or tell others."""
        return self.state == "busy" or (self.state == "asleep" and not self.will_look and not self.heard)


class Producer:
    """Enqueues in one of three ways: wake at the commit, probe after it, or a commit that is slow after its probe."""

    def __init__(
        self, world: World, key: int, mine: psycopg.AsyncConnection[Any], gate: psycopg.AsyncConnection[Any]
    ):
        self.world = world
        self.key = key
        self.mine = mine
        self.gate = gate
        self.created = 0
        self.doing: Literal["nothing", "open", "committing", "owing"] = "nothing"
        self.slow: asyncio.Task[None] | None = None

    async def step(self) -> None:
        dice = self.world.dice
        if self.doing == "nothing":
            self.way = dice.choice(["commit", "probe after", "slow commit"])
            await enqueue_async(self.mine, NewJob("test"), wake=self.way != "probe after")
            self.doing = "open"
        elif self.doing == "open":
            if dice.random() < 0.2:
                await self.mine.rollback()
                self.doing = "nothing"
                return
            await {"commit": self._commit, "probe after": self._commit_silently, "slow commit": self._start}[
                self.way
            ]()
        elif self.doing == "owing":
            if self.world.dice.random() < 0.5:
                await Store(self.gate).wake_lanes(await Store(self.gate).find_lanes(["default"]))
            else:
                await Store(self.gate).wake_queues(["default"])
            self.world.owed -= 1
            self.doing = "nothing"
        else:
            await self.release()

    async def _commit(self) -> None:
        await self.mine.commit()
        self.created += 1
        self.doing = "nothing"

    async def _commit_silently(self) -> None:
        await self.mine.commit()
        self.created += 1
        self.world.owed += 1
        self.doing = "owing"

    async def _start(self) -> None:
        await self.gate.execute("SELECT pg_advisory_lock(77, %s)", (self.key,))
        await self.mine.execute("INSERT INTO gate VALUES (%s)", (self.key,))
        self.world.committing.add(self.key)
        self.slow = asyncio.create_task(self.mine.commit())
        pid = self.mine.info.backend_pid

        async def at_the_gate() -> bool:
            return bool(await value(self.world.observer, "SELECT cardinality(pg_blocking_pids(%s)) > 0", pid))

        await eventually_async(at_the_gate, every=0.001)
        self.doing = "committing"

    async def release(self) -> None:
        await self.gate.execute("SELECT pg_advisory_unlock(77, %s)", (self.key,))
        assert self.slow is not None
        await self.slow
        # The next slow commit of this producer is another one.
        self.world.committing.discard(self.key)
        self.key += 10
        self.created += 1
        self.doing = "nothing"


async def somebody_hears(sleepers: list[Sleeper]) -> bool:
    """Whether a notification has arrived, or will: the server hands it over within a moment."""
    return any([await one._hears() for one in sleepers])


async def check(world: World, sleepers: list[Sleeper], where: str) -> None:
    if not all(one.lost for one in sleepers) or world.committing or world.owed:
        return
    if all(one.state == "busy" for one in sleepers):
        return
    if await value(world.observer, "SELECT count(*) FROM tandem.ready") == 0:
        return
    try:
        await eventually_async(lambda: somebody_hears(sleepers), timeout=3, every=0.001)
    except AssertionError:
        pytest.fail(f"{where}: a job is ready, a worker sleeps, and nobody will ever look or tell it")


@pytest.mark.parametrize("seed", range(5))
async def test_no_job_is_slept_through(db_url: str, seed: int) -> None:
    dice = random.Random(seed)
    async with AsyncExitStack() as stack:

        async def connection(**options: Any) -> psycopg.AsyncConnection[Any]:
            opened = await psycopg.AsyncConnection.connect(db_url, **options)
            return await stack.enter_async_context(opened)

        observer = await connection(autocommit=True)
        await observer.execute(GATE.encode())
        world = World(observer, dice)
        sleepers = []
        for seated in SLEEPERS:
            claims = await stack.enter_async_context(await worker_connection(db_url))
            sleepers.append(Sleeper(world, claims, await connection(autocommit=True), seated))
            await sleepers[-1].start()
        producers = [
            Producer(world, key, await connection(), await connection(autocommit=True)) for key in range(3)
        ]
        actors: list[Sleeper | Producer] = [*sleepers, *producers]
        weights: list[int] = []
        for number in range(STEPS):
            if number % 6 == 0:  # now the workers are quick, now the producers
                weights = [dice.choice([1, 8])] * len(SLEEPERS) + [dice.choice([0, 2])] * 3
            async with asyncio.timeout(20):
                await dice.choices(actors, weights)[0].step()
                await check(world, sleepers, f"step {number} of seed {seed}")
        await settle(world, sleepers, producers)
        created = sum(one.created for one in producers)
        assert sum(one.ended for one in sleepers) == created > 10
        await assert_membership_async(observer)
        assert await rows(observer, "SELECT 1 FROM tandem.wake_request") == []


async def settle(world: World, sleepers: list[Sleeper], producers: list[Producer]) -> None:
    """Let every producer end and every sleeper do what it would do by itself: no claim is forced on anybody."""
    for one in producers:
        while one.doing != "nothing":
            await one.step()
    await check(world, sleepers, "after the last producer")
    while any(one.state != "asleep" or not one.lost for one in sleepers):
        for sleeper in sleepers:
            await sleeper.step()
        await check(world, sleepers, "at the end")


async def test_a_commit_that_is_slow_after_its_probe_is_found_by_a_recheck_alone(db_url: str) -> None:
    """Why a sleeper looks again after falling asleep: nobody tells it of this job."""
    async with AsyncExitStack() as stack:

        async def connection(**options: Any) -> psycopg.AsyncConnection[Any]:
            opened = await psycopg.AsyncConnection.connect(db_url, **options)
            return await stack.enter_async_context(opened)

        observer = await connection(autocommit=True)
        await observer.execute(GATE.encode())
        world = World(observer, random.Random(0))
        producer = Producer(world, 0, await connection(), await connection(autocommit=True))
        await enqueue_async(producer.mine, NewJob("test"))
        await producer._start()
        claims = await stack.enter_async_context(await worker_connection(db_url))
        sleeper = Sleeper(world, claims, await connection(autocommit=True), seated=True)
        await sleeper.start()
        await SleepStore(sleeper.listens).lie_down(sleeper.places)
        assert await claim(claims) == [], "the job is not visible yet"
        await producer.release()
        assert not await sleeper._hears()
        assert len(await claim(claims)) == 1
