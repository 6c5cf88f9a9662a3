"""The connections that handlers borrow: lent again, replaced when they died, refused when all are lent. No jobs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from app.config import DatabaseSettings
from app.database.connect import connect_sync
from app.database.deadline import BoundedAsyncConnection, BoundedConnection
from app.errors import Unavailable
from workers import connections
from workers.connections import HandlerConnections

KILL = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE application_name = 'tandem handlers' AND datname = current_database()"
)
SETTINGS = DatabaseSettings(pool_size=2, pool_wait_seconds=0.05)


@pytest.fixture
async def lent(db_url: str) -> AsyncIterator[HandlerConnections]:
    """What a worker lends, at most two of each kind."""
    made = HandlerConnections(db_url, SETTINGS)
    yield made
    await made.close()


async def pid(connection: psycopg.AsyncConnection[Any]) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    return int(row[0])


def pid_sync(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


async def test_what_was_given_back_is_lent_again_and_what_died_meanwhile_is_not(
    lent: HandlerConnections, db_url: str
) -> None:
    async with lent.open_async() as connection:
        first = await pid(connection)
    async with lent.open_async() as connection:
        assert await pid(connection) == first
    with lent.open_sync() as blocking:
        first_sync = pid_sync(blocking)
    with lent.open_sync() as blocking:
        assert pid_sync(blocking) == first_sync
    with connect_sync(db_url, name="killer") as killer:
        killer.execute(KILL)
    async with lent.open_async() as connection:
        assert await pid(connection) != first
    with lent.open_sync() as blocking:
        assert pid_sync(blocking) != first_sync


@pytest.mark.parametrize("idle", [0.0, 60.0])
async def test_one_that_idled_is_asked_before_it_is_lent(
    lent: HandlerConnections, monkeypatch: pytest.MonkeyPatch, idle: float
) -> None:
    """A peer that fell silent does not show on the socket; here the question itself ends the connection."""
    async with lent.open_async() as connection:
        first = await pid(connection)
    with lent.open_sync() as blocking:
        first_sync = pid_sync(blocking)
    for one in (connection, blocking):
        assert isinstance(one, BoundedAsyncConnection | BoundedConnection)
        one.idle_since = monotonic() - idle
    monkeypatch.setattr(connections, "ASK_AFTER_SECONDS", 30.0)
    monkeypatch.setattr(connections, "PING", "SELECT pg_terminate_backend(pg_backend_pid())")
    async with lent.open_async() as connection:
        assert (await pid(connection) == first) is (idle == 0)
    with lent.open_sync() as blocking:
        assert (pid_sync(blocking) == first_sync) is (idle == 0)


async def test_who_finds_all_of_them_lent_is_told_after_the_wait(lent: HandlerConnections) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(lent.open_async())
            stack.enter_context(lent.open_sync())
        used = {name: pool.checkedout() for name, pool in lent.pools.items()}
        assert used == {"handlers": 2, "handlers_sync": 2, "handlers_sessions": 0}
        with pytest.raises(Unavailable, match="all 2 connections for handlers"):
            await stack.enter_async_context(lent.open_async())
        with pytest.raises(Unavailable, match="TANDEM_DATABASE__POOL_SIZE"):
            await asyncio.to_thread(stack.enter_context, lent.open_sync())
    assert {pool.checkedout() for pool in lent.pools.values()} == {0}


async def test_a_thread_that_waits_gets_what_another_gives_back(db_url: str) -> None:
    made = HandlerConnections(db_url, DatabaseSettings(pool_size=1, pool_wait_seconds=30.0))

    def borrow() -> int:
        with made.open_sync() as connection:
            return pid_sync(connection)

    with made.open_sync() as connection:
        mine = pid_sync(connection)
        waiting = asyncio.ensure_future(asyncio.to_thread(borrow))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting == mine
    with made.open_sync() as connection:
        await made.close()
        assert pid_sync(connection) == mine
    assert connection.closed, "closed meanwhile, so not kept"


async def test_a_connection_that_cannot_be_opened_leaves_room_for_the_next_one() -> None:
    made = HandlerConnections("postgresql://nobody@127.0.0.1:1/none", SETTINGS)
    for _ in range(3):
        with pytest.raises(Unavailable, match="cannot be reached"), made.open_sync():
            pass
        with pytest.raises(Unavailable, match="cannot be reached"):
            async with made.open_async():
                pass
    assert {pool.checkedout() for pool in made.pools.values()} == {0}


async def test_sessions_of_sqlalchemy_are_made_when_one_is_opened(lent: HandlerConnections) -> None:
    assert "maker" not in vars(lent.sessions)
    async with lent.sessions.begin() as session:
        assert (await session.execute(text("SELECT 1"))).scalar_one() == 1
        assert lent.sessions.checkedout() == 1
    async with lent.sessions() as session:
        raw = await (await session.connection()).get_raw_connection()
        assert isinstance(raw.driver_connection, BoundedAsyncConnection)
    assert (lent.sessions.size(), lent.sessions.checkedout()) == (2, 0)
    with pytest.raises(AttributeError):
        lent.sessions.no_such_thing  # noqa: B018
