"""Of many sleepers a wake-up tells two: which, and what else may be asleep on the lane."""

import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest

from app.queue import wake
from app.queue.enqueue import enqueue, enqueue_many
from app.queue.job import NewJob
from app.queue.sleep_store import Place, SleepStore
from tests.support.waiting import eventually_async

TAKEN = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid BETWEEN 1413565100 AND 1413565163"
)
WAKE = "SELECT tandem.wake_queues('{default}')"


class Sleeper:
    """A session that sleeps on a queue, and what it was told."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], places: list[Place]) -> None:
        self.connection = connection
        self.store = SleepStore(connection)
        self.places = places
        self.told = 0
        connection.add_notify_handler(self._hear)

    def _hear(self, notify: psycopg.Notify) -> None:
        self.told += notify.payload == ""

    async def hears(self) -> int:
        """How often it was told so far."""
        await self.connection.execute("SELECT 1")
        return self.told

    async def lie_down(self) -> None:
        assert await self.store.lie_down(self.places)

    async def get_up(self, *, tell: bool = False) -> None:
        await self.store.get_up(self.places, tell=["default"] if tell else ())

    @property
    def lane(self) -> int:
        return self.places[-1].key


@asynccontextmanager
async def asleep(url: str, *seated: bool, queue: str = "default") -> AsyncIterator[list[Sleeper]]:
    async with AsyncExitStack() as stack:
        sleepers = []
        for has_seat in seated:
            opened = await psycopg.AsyncConnection.connect(url, autocommit=True)
            connection = await stack.enter_async_context(opened)
            seats = await SleepStore(connection).take_seats([queue] if has_seat else [])
            [lane] = await SleepStore(connection).find_lanes([queue])
            for name in [wake.channel(lane), *(seat.channel for seat in seats)]:
                await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(name)))
            places = [seat.place for seat in seats] or [Place(wake.LANES + lane)]
            sleepers.append(Sleeper(connection, [*places, Place(lane)]))
            await sleepers[-1].lie_down()
        yield sleepers


async def told(sleepers: list[Sleeper], expected: int) -> list[int]:
    """How often each was told, once so many notifications have come."""

    async def all_came() -> bool:
        return sum([await one.hears() for one in sleepers]) >= expected

    await eventually_async(all_came, every=0.001)
    return [await one.hears() for one in sleepers]


async def test_seats_are_the_lowest_that_are_free_and_go_with_the_session(db_url: str) -> None:
    async with asleep(db_url, True, True, True) as sleepers:
        assert [one.places[0].seat for one in sleepers] == [0, 1, 2]
        await sleepers[1].connection.close()
        async with await psycopg.AsyncConnection.connect(db_url, autocommit=True) as next_one:

            async def free() -> bool:
                [seat] = await SleepStore(next_one).take_seats(["default"])
                return seat.place == sleepers[1].places[0]

            await eventually_async(free)


@pytest.mark.parametrize("how", ["enqueue", "enqueue_many", "wake"])
async def test_two_of_five_are_told(db_url: str, how: str) -> None:
    async with asleep(db_url, *[True] * 5) as sleepers:
        with psycopg.connect(db_url, autocommit=True) as producer:
            for n in range(1, 11):
                if how == "enqueue":
                    enqueue(producer, NewJob("test"))
                elif how == "enqueue_many":
                    enqueue_many(producer, [NewJob("test")] * 3)
                else:
                    assert producer.execute(WAKE).fetchone() == (2,)
                counts = await told(sleepers, 2 * n)
                assert sum(counts) == 2 * n
                assert max(counts) <= n, "never one twice for one commit"


async def test_the_last_of_many_is_found_when_the_first_have_left(db_url: str) -> None:
    async with asleep(db_url, *[True] * 5) as sleepers:
        for one in sleepers[:4]:
            await one.connection.close()
        with psycopg.connect(db_url, autocommit=True) as producer:

            async def left() -> bool:
                return producer.execute(TAKEN).fetchone() == (1,)

            await eventually_async(left)
            for n in range(1, 11):
                assert producer.execute(WAKE).fetchone() == (1,)
                assert await told(sleepers[4:], n) == [n]


async def test_each_sleeper_has_its_turn(db_url: str) -> None:
    async with asleep(db_url, *[True] * 6) as sleepers:
        with psycopg.connect(db_url, autocommit=True) as producer:
            producer.execute("SELECT setseed(0.5)")
            for _ in range(300):
                producer.execute(WAKE)
        counts = await told(sleepers, 600)
        assert min(counts) > 50, "one in six is 100"


@pytest.mark.parametrize(
    ("workers", "places"),
    [(6, [0]), (6, [3]), (6, [0, 3]), (6, [1, 2]), (6, [5]), (2, [0]), (2, [1]), (2, [0, 1])],
)
async def test_who_is_awake_is_passed_over(db_url: str, workers: int, places: list[int]) -> None:
    async with asleep(db_url, *[True] * workers) as sleepers:
        for place, one in enumerate(sleepers):
            if place not in places:
                await one.get_up()
        with psycopg.connect(db_url, autocommit=True) as producer:
            calls = sum(producer.execute(WAKE).fetchone()[0] for _ in range(20))  # type: ignore[index]
        counts = await told(sleepers, calls)
        assert {place for place, count in enumerate(counts) if count} == set(places)
        assert calls >= 20, "each time at least one"


async def test_who_sleeps_without_a_seat_is_told_when_nobody_else_is(db_url: str) -> None:
    async with asleep(db_url, True, False, False) as sleepers:
        with psycopg.connect(db_url, autocommit=True) as producer:
            assert producer.execute(WAKE).fetchone() == (1,)
            assert await told(sleepers, 1) == [1, 0, 0]
            await sleepers[0].get_up()
            assert producer.execute(WAKE).fetchone() == (1,)
            assert await told(sleepers, 4) == [2, 1, 1], (
                "it listens on the lane as well, for those who tell all"
            )


async def test_a_queue_that_shares_the_lane_keeps_nobody_from_being_told(db_url: str) -> None:
    """Workers of another queue on the same lane sleep: their seats are their own."""
    with psycopg.connect(db_url, autocommit=True) as producer:
        row = producer.execute(
            "SELECT 'q' || n FROM generate_series(1, 1000) AS n"
            " WHERE tandem.wake_lane('q' || n) = tandem.wake_lane('default') LIMIT 1"
        ).fetchone()
        assert row is not None
        async with (
            asleep(db_url, True, True, True) as ours,
            asleep(db_url, *[True] * 5, queue=row[0]) as theirs,
        ):
            assert ours[0].lane == theirs[0].lane
            for n in range(1, 11):
                enqueue(producer, NewJob("test"))
                assert sum(await told(ours, 2 * n)) == 2 * n
            assert sum(await told(theirs, 0)) == 0
            with producer.transaction():
                enqueue(producer, NewJob("test"))
                enqueue(producer, NewJob("test", queue=row[0]))
                enqueue(producer, NewJob("test"))
            assert sum(await told(ours, 22)) == 22
            assert sum(await told(theirs, 2)) == 2
            for one in ours:
                await one.get_up()
            enqueue(producer, NewJob("test"))
            assert producer.execute(WAKE).fetchone() == (0,)
            assert sum(await told(theirs, 2)) == 2, "they are of another queue"


async def test_who_gets_up_tells_others_and_never_itself(db_url: str) -> None:
    async with asleep(db_url, True, True, True) as sleepers:
        await sleepers[0].store.wake_queues(["default"])
        assert await told(sleepers, 2) == [0, 1, 1]
        await sleepers[0].get_up(tell=True)
        assert await told(sleepers, 4) == [0, 2, 2]
        await sleepers[1].get_up(tell=True)
        assert await told(sleepers, 5) == [0, 2, 3]
        await sleepers[2].get_up(tell=True)
        assert await told(sleepers, 5) == [0, 2, 3], "nobody is left"


async def test_a_lane_with_every_seat_taken_gives_none(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as holder:
        holder.execute(
            "SELECT pg_advisory_lock(hashtext('default'), 1413565100 + seat) FROM generate_series(0, 63) AS seat"
        )
        async with asleep(db_url, True) as [sleeper]:
            assert sleeper.places == [Place(wake.LANES + sleeper.lane), Place(sleeper.lane)]
            with psycopg.connect(db_url, autocommit=True) as producer:
                assert producer.execute(WAKE).fetchone() == (1,)
            assert await told([sleeper], 1) == [1]


async def test_a_seat_is_not_left_behind_when_the_lane_is_refused(db_url: str) -> None:
    async with asleep(db_url, True) as [sleeper]:
        await sleeper.get_up()
        with psycopg.connect(db_url, autocommit=True) as producer:
            producer.execute("SELECT pg_advisory_lock(1413565006, %s)", (sleeper.lane,))
            assert not await sleeper.store.lie_down(sleeper.places)
            producer.execute("SELECT pg_advisory_unlock(1413565006, %s)", (sleeper.lane,))
            assert producer.execute(WAKE).fetchone() == (0,)
        await sleeper.lie_down()


async def test_producers_that_probe_at_once_never_take_each_other_for_the_sleeper(db_url: str) -> None:
    """Each call must reach who sleeps: a probe that took another probe for it would notify an empty seat."""
    async with asleep(db_url, True, True, True) as sleepers:
        await sleepers[0].get_up()
        await sleepers[1].get_up()
        calls = Counter[int]()

        def probe(number: int) -> None:
            with psycopg.connect(db_url, autocommit=True) as producer:
                for _ in range(300):
                    row = producer.execute(WAKE).fetchone()
                    assert row is not None
                    calls[number] += row[0]

        threads = [threading.Thread(target=probe, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(calls.values()) == 1200
        assert await told(sleepers, 1200) == [0, 0, 1200]
