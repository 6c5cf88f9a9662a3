"""fake_clock: the queue's time moves where it is told to, and nowhere else, and goes back at the end."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from app.client import InvalidInput, aio, enqueue
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.running import Job
from tests.client.places import ASYNC, SYNC, open_asyncpg
from tests.workers.testing.kinds import TABLE, in_process
from workers.testing import drain, drain_async, fake_clock, fake_clock_async, shifted

AT = datetime(2031, 3, 1, 12, tzinfo=UTC)
CLOCK = "SELECT tandem.clock()"


def close(one: datetime, other: datetime) -> bool:
    return abs(one - other) < timedelta(minutes=2)


def clock_of(url: str) -> datetime:
    with psycopg.connect(url) as connection:
        row = connection.execute(CLOCK).fetchone()
    assert row is not None
    at: datetime = row[0]
    return at


@pytest.mark.parametrize("name", SYNC)
def test_it_moves_a_session_and_takes_it_back(db_url: str, name: str) -> None:
    with SYNC[name](db_url) as place:
        with fake_clock(place, at=AT) as clock:
            assert close(clock.now(), AT)
            place.rollback()  # the end of a test's transaction is not the end of the moved time
            assert close(clock.advance(timedelta(days=1)), AT + timedelta(days=1))
            assert close(clock.move_to(AT), AT)
            # Beyond a year from the real present: producers check against the moved clock as well.
            enqueue(place, "late", run_at=AT + timedelta(days=300))
            with pytest.raises(InvalidInput, match="366 days"):
                enqueue(place, "late", run_at=AT + timedelta(days=400))
            place.rollback()
        with fake_clock(place) as clock:
            assert close(clock.now(), datetime.now(UTC))
    with pytest.raises(InvalidInput):
        NewJob("late", run_at=AT + timedelta(days=300))


@pytest.mark.parametrize("name", ASYNC)
async def test_it_moves_an_async_session(db_url: str, name: str) -> None:
    async with ASYNC[name](db_url) as place:
        async with fake_clock_async(place, at=AT) as clock:
            await place.rollback()
            assert close(await clock.advance(timedelta(days=1)), AT + timedelta(days=1))
            await aio.enqueue(place, "late", run_at=AT + timedelta(days=300))
            assert close(await clock.move_to(AT), AT)
        async with fake_clock_async(place) as clock:
            assert close(await clock.now(), datetime.now(UTC))


async def test_it_moves_asyncpg(db_url: str) -> None:
    async with open_asyncpg(db_url) as connection:
        async with fake_clock_async(connection, at=AT) as clock:
            assert close(await connection.fetchval(CLOCK), AT)
            async with open_asyncpg(db_url) as other:
                await clock.reach(other)
                assert close(await other.fetchval(CLOCK), AT)
        assert close(await connection.fetchval(CLOCK), datetime.now(UTC))


def test_it_reaches_other_sessions_when_told(db_url: str) -> None:
    with psycopg.connect(db_url) as connection, psycopg.connect(db_url, autocommit=True) as other:
        with fake_clock(connection, at=AT) as clock:
            assert close(clock_of(db_url), datetime.now(UTC))
            assert close(clock_of(shifted(db_url)), AT)
            clock.reach(other)
            clock.advance(timedelta(hours=5))
            assert close(other.execute(CLOCK).fetchone()[0], AT + timedelta(hours=5))  # type: ignore[index]
        assert close(other.execute(CLOCK).fetchone()[0], datetime.now(UTC))  # type: ignore[index]
        assert shifted(db_url) == db_url


def test_it_reaches_what_drain_opens(db_url: str) -> None:
    registry = Registry()
    seen: list[datetime] = []

    @registry.handler("look")
    async def look(job: Job[dict[str, Any]]) -> None:
        async with job.transaction() as tx:
            seen.append((await (await tx.connection.execute(CLOCK)).fetchone())[0])

    registry.handler("process", executor="process")(in_process)
    with psycopg.connect(db_url) as connection:
        connection.execute(TABLE)
        enqueue(connection, "look", run_at=datetime.now(UTC) + timedelta(days=3))
        enqueue(connection, "process", run_at=datetime.now(UTC) + timedelta(days=3))
        connection.commit()
        assert len(drain(db_url, registry)) == 0
        with fake_clock(connection) as clock:
            clock.advance(timedelta(days=3))
            assert [job.status for job in drain(db_url, registry).jobs] == ["SUCCEEDED"] * 2
        assert close(seen[0], datetime.now(UTC) + timedelta(days=3))


async def test_a_clock_in_an_async_test_reaches_drain(db_url: str) -> None:
    registry = Registry()

    @registry.handler("look")
    async def look(job: Job[dict[str, Any]]) -> str:
        return "done"

    async with ASYNC["psycopg"](db_url) as place:
        await aio.enqueue(place, "look", run_at=datetime.now(UTC) + timedelta(days=3))
        async with fake_clock_async(place) as clock:
            assert len(await drain_async(place, registry)) == 0
            await clock.advance(timedelta(days=3))
            assert [job.result for job in (await drain_async(place, registry)).jobs] == ["done"]


def test_clocks_nest(tx: Any) -> None:
    with fake_clock(tx, at=AT) as outer:
        with fake_clock(tx) as inner:
            assert close(inner.advance(timedelta(days=1)), AT + timedelta(days=1))
        assert close(outer.now(), AT)


def test_a_failed_test_keeps_its_own_error(db_url: str) -> None:
    with (
        psycopg.connect(db_url) as connection,
        pytest.raises(psycopg.errors.DivisionByZero),
        fake_clock(connection, at=AT),
    ):
        connection.execute("SELECT 1/0")
    assert shifted(db_url) == db_url


def test_a_time_without_zone_is_refused(tx: Any) -> None:
    with pytest.raises(ValueError, match="time zone"):
        fake_clock(tx, at=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of it
