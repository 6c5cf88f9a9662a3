"""Who is notified: only sleepers, once per transaction and lane, never of work that is not due."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice

import psycopg
import pytest

from app.queue import wake
from app.queue.enqueue import enqueue, enqueue_many
from app.queue.job import NewJob
from app.queue.sleep_store import Place, SleepStore
from tests.support.waiting import eventually_async

Count = Callable[[], int]
ALL = [Place(place) for place in range(2 * wake.LANES)]
"""Of a sleeper on every lane, without a seat."""
MARKER = "all that came before has been handed over"


class Ear:
    """Counts the notifications of every lane; `asleep` says whether it also announced a sleeper."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[int, ...]]) -> None:
        self.connection = connection
        self.heard: list[str] = []
        self.marks = 0
        connection.add_notify_handler(self._hear)

    def _hear(self, notify: psycopg.Notify) -> None:
        if notify.payload == MARKER:
            self.marks += 1
        else:
            self.heard.append(notify.channel)

    async def count(self) -> int:
        """How many came so far: notifications arrive in the order of their commits."""
        before = self.marks
        await self.connection.execute("SELECT pg_notify('tandem_wake_0', %s)", (MARKER,))

        async def marked() -> bool:
            await self.connection.execute("SELECT 1")
            return self.marks > before

        await eventually_async(marked, every=0.001)
        return len(self.heard)


@asynccontextmanager
async def listening(url: str, *, asleep: bool) -> AsyncIterator[Ear]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        ear = Ear(connection)
        for lane in range(32):
            await connection.execute(
                psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(wake.channel(lane)))
            )
        if asleep:
            assert await SleepStore(connection).lie_down(ALL)
        yield ear


def other_lane(url: str) -> str:
    """A queue whose wake lane is not that of `default`."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT name FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e', 'f']) AS name"
            " WHERE tandem.wake_lane(name) <> tandem.wake_lane('default') LIMIT 1"
        ).fetchone()
    assert row is not None
    return str(row[0])


async def test_nobody_is_notified_when_nobody_sleeps(db_url: str) -> None:
    async with listening(db_url, asleep=False) as ear:
        with psycopg.connect(db_url, autocommit=True) as producer:
            for _ in range(20):
                enqueue(producer, NewJob("test"))
        assert await ear.count() == 0


async def test_a_sleeper_is_notified_once_per_transaction_and_lane(db_url: str) -> None:
    other = other_lane(db_url)
    async with listening(db_url, asleep=True) as ear:
        with psycopg.connect(db_url) as producer:
            for _ in range(5):
                enqueue(producer, NewJob("test"))
            enqueue_many(producer, [NewJob("test"), NewJob("test", queue=other)])
            producer.execute("SELECT tandem.enqueue('test')")
            producer.commit()
            assert await ear.count() == 2
            assert len(set(ear.heard)) == 2
            enqueue(producer, NewJob("test"))
            producer.commit()
            assert await ear.count() == 3


async def test_a_rollback_notifies_nobody(db_url: str) -> None:
    async with listening(db_url, asleep=True) as ear:
        with psycopg.connect(db_url) as producer:
            enqueue(producer, NewJob("test"))
            producer.rollback()
        assert await ear.count() == 0


async def test_a_job_that_is_not_due_notifies_nobody(db_url: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    async with listening(db_url, asleep=True) as ear:
        with psycopg.connect(db_url, autocommit=True) as producer:
            enqueue(producer, NewJob("test", run_at=later))
            producer.execute("SELECT tandem.enqueue('test', run_at => now() + interval '1 hour')")
        assert await ear.count() == 0


async def test_a_producer_that_wakes_by_itself_is_left_to_do_it(db_url: str) -> None:
    async with listening(db_url, asleep=True) as ear:
        with psycopg.connect(db_url, autocommit=True) as producer:
            enqueue(producer, NewJob("test"), wake=False)
            assert await ear.count() == 0
            told = producer.execute("SELECT tandem.wake(ARRAY[tandem.wake_lane('default')])").fetchone()
        assert told == (1,)
        assert await ear.count() == 1


async def test_who_got_up_is_not_notified_any_more(db_url: str) -> None:
    async with listening(db_url, asleep=True) as ear:
        await SleepStore(ear.connection).get_up(ALL)
        with psycopg.connect(db_url, autocommit=True) as producer:
            enqueue(producer, NewJob("test"))
        assert await ear.count() == 0


async def test_two_sleepers_share_a_lane_and_a_producer_that_probes_stands_in_the_way_for_a_moment(
    db_url: str,
) -> None:
    async with listening(db_url, asleep=True) as ear, listening(db_url, asleep=True) as other:
        assert await ear.count() == await other.count() == 0
        await SleepStore(ear.connection).get_up([Place(3)])
        await SleepStore(other.connection).get_up([Place(3)])
        async with await psycopg.AsyncConnection.connect(db_url, autocommit=True) as producer:
            await producer.execute("SELECT pg_advisory_lock(1413565006, 3)")
            assert not await SleepStore(ear.connection).lie_down([Place(3)])
            await producer.execute("SELECT pg_advisory_unlock(1413565006, 3)")
            assert await SleepStore(ear.connection).lie_down([Place(3)])


async def test_queues_spread_over_the_lanes(db_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(db_url) as connection:
        lanes = await SleepStore(connection).find_lanes([f"queue{n}" for n in range(500)])
        assert lanes == list(range(32))


@pytest.mark.parametrize("round", range(3))
def test_a_sleeper_looks_again_soon_and_then_steadily_with_jitter(round: int) -> None:
    waits = list(islice(wake.rechecks(), 10))
    moments = [sum(waits[: n + 1]) for n in range(4)]
    assert moments == pytest.approx([0.005, 0.020, 0.100, 0.500])
    assert all(0.75 <= wait <= 1.25 for wait in waits[4:])
    assert len(set(waits[4:])) > 1
