"""Every call ends: against a black hole, a slow statement, and without hurting an idle listener."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from app.config import DatabaseSettings
from app.database.connect import CONNECTION_LOST, connect, connect_sync
from app.database.deadline import DeadlineExceeded, deadline, deadline_sync
from app.database.engine import make_engine
from tests.support.proxy import Proxy

SHORT = 0.3
"""The limit of calls, once the connection is there and greeted."""


@pytest.fixture
def proxy(shared_db_url: str) -> Iterator[Proxy]:
    """In front of a migrated database."""
    with Proxy(shared_db_url) as between:
        yield between


async def test_a_call_into_a_black_hole_ends(proxy: Proxy) -> None:
    connection = await connect(proxy.url, name="x")
    await connection.execute("SELECT 1")
    connection.limits.per_call = SHORT
    proxy.swallow()
    async with asyncio.timeout(30):
        with pytest.raises(DeadlineExceeded, match="did not answer"):
            await connection.execute("SELECT 2")
    assert connection.closed


async def test_a_commit_into_a_black_hole_ends(proxy: Proxy) -> None:
    connection = await connect(proxy.url, name="x", autocommit=False)
    await connection.execute("SELECT 1")
    connection.limits.per_call = SHORT
    proxy.swallow()
    async with asyncio.timeout(30):
        with pytest.raises(DeadlineExceeded):
            await connection.commit()
    assert connection.closed


def test_the_same_for_synchronous_code(proxy: Proxy) -> None:
    connection = connect_sync(proxy.url, name="x")
    connection.execute("SELECT 1")
    connection.limits.per_call = SHORT
    proxy.swallow()
    with pytest.raises(DeadlineExceeded):
        connection.execute("SELECT 2")
    assert connection.closed


async def test_several_calls_share_one_deadline(shared_db_url: str) -> None:
    connection = await connect(shared_db_url, name="x")
    done = 0
    with pytest.raises(DeadlineExceeded):
        async with deadline(connection, 1.5):
            for _ in range(100):
                await connection.execute("SELECT pg_sleep(0.1)")
                done += 1
    assert 0 < done < 100
    assert connection.closed


def test_several_synchronous_calls_share_one_deadline(shared_db_url: str) -> None:
    connection = connect_sync(shared_db_url, name="x")
    with pytest.raises(DeadlineExceeded), deadline_sync(connection, 0.2):
        connection.execute("SELECT pg_sleep(60)")
    assert connection.closed


async def test_an_inner_deadline_does_not_extend_an_outer_one(shared_db_url: str) -> None:
    connection = await connect(shared_db_url, name="x")
    with pytest.raises(DeadlineExceeded):
        async with deadline(connection, 0.2), deadline(connection, 60):
            await connection.execute("SELECT pg_sleep(60)")


async def test_the_limit_ends_with_its_block(shared_db_url: str) -> None:
    async with await connect(shared_db_url, name="x") as connection:
        async with deadline(connection, 1.0):
            await connection.execute("SELECT 1")
        await connection.execute("SELECT pg_sleep(1.2)")
        assert not connection.closed


async def test_a_pipeline_is_bounded_too(proxy: Proxy) -> None:
    connection = await connect(proxy.url, name="x")
    await connection.execute("SELECT 1")
    connection.limits.per_call = SHORT
    proxy.swallow()
    async with asyncio.timeout(30):
        with pytest.raises(psycopg.OperationalError):
            async with connection.pipeline():
                await connection.execute("SELECT 2")
                await connection.execute("SELECT 3")
    assert connection.closed


async def test_waiting_for_notifications_is_not_a_call_that_is_overdue(shared_db_url: str) -> None:
    async with (
        await connect(shared_db_url, name="listener") as listener,
        await connect(shared_db_url, name="notifier") as notifier,
    ):
        await listener.execute("LISTEN spoken")
        listener.limits.per_call = SHORT

        async def first() -> str:
            async for notification in listener.notifies(stop_after=1):
                return notification.payload
            return ""

        waiting = asyncio.create_task(first())
        await notifier.execute("SELECT pg_sleep(1)")
        assert not waiting.done()
        await notifier.execute("NOTIFY spoken, 'hello'")
        assert await waiting == "hello"


async def test_the_timeout_of_notifies_is_its_own(shared_db_url: str) -> None:
    async with await connect(shared_db_url, name="listener") as listener:
        await listener.execute("LISTEN spoken")
        listener.limits.per_call = SHORT
        assert [one async for one in listener.notifies(timeout=2 * SHORT)] == []
        assert not listener.closed


async def test_a_pool_forgets_what_the_black_hole_took_and_recovers(proxy: Proxy) -> None:
    engine = make_engine(
        proxy.url, name="api", settings=DatabaseSettings(call_timeout_seconds=1.5, pool_size=2)
    )
    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
        proxy.swallow()
        async with asyncio.timeout(60):
            with pytest.raises(Exception, match="did not answer|cannot be reached"):
                async with engine.connect() as connection:
                    await connection.exec_driver_sql("SELECT 2")
        proxy.heal()
        async with engine.connect() as connection:
            assert (await connection.exec_driver_sql("SELECT 3")).scalar() == 3
    finally:
        await engine.dispose()


def test_an_exceeded_deadline_counts_as_a_lost_connection() -> None:
    assert issubclass(DeadlineExceeded, CONNECTION_LOST)
