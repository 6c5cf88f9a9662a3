"""Statements prepared by ourselves: the values that they take, what fails in them, and sessions that forgot them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from app.config import DatabaseSettings
from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection, DeadlineExceeded
from app.database.prepared import Value, fetch, fits, prepared
from tests.support.proxy import Proxy
from tests.support.waiting import eventually_async

ANSWERS = prepared(
    b"SELECT %(a)s::bigint, %(b)s::text, %(c)s::float8, %(d)s::uuid, %(e)s::interval, %(f)s::text[], %(a)s::text"
)
HALF = prepared(b"SELECT 10 / %(by)s::int")


@pytest.fixture
async def connection(shared_db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A direct connection in autocommit."""
    opened = await connect(shared_db_url, name="x")
    yield opened
    await opened.close()


async def test_values_arrive_as_they_are(connection: BoundedAsyncConnection) -> None:
    assert fits(connection)
    who, soon = UUID(int=7), timedelta(days=2, microseconds=-1)
    given: dict[str, Value] = {
        "a": -(2**62),
        "b": "ä'\\",
        "c": 0.1,
        "d": who,
        "e": soon,
        "f": '{a,NULL,"b c"}',
    }
    for _ in range(3):
        rows = await fetch(connection, ANSWERS, given)
        assert rows == [(-(2**62), "ä'\\", 0.1, who, soon, ["a", None, "b c"], str(-(2**62)))]
    nothing: dict[str, Value] = dict.fromkeys(given)
    assert await fetch(connection, ANSWERS, nothing) == [(None,) * 7]


async def test_it_is_prepared_once(connection: BoundedAsyncConnection) -> None:
    for by in (1, 2, 5):
        assert await fetch(connection, HALF, {"by": by}) == [(10 // by,)]
    cursor = await connection.execute(
        "SELECT name, generic_plans + custom_plans FROM pg_prepared_statements WHERE NOT from_sql"
    )
    assert await cursor.fetchall() == [(HALF.name.decode(), 3)]


async def test_an_error_is_psycopgs_and_the_connection_goes_on(connection: BoundedAsyncConnection) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero, match="by zero"):
        await fetch(connection, HALF, {"by": 0})
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        await fetch(connection, HALF, {"by": "many"})
    with pytest.raises(psycopg.errors.UndefinedTable):
        await fetch(connection, prepared(b"SELECT 1 FROM missing_table"), {})
    assert await fetch(connection, HALF, {"by": 2}) == [(5,)]


async def test_a_session_that_threw_its_statements_away(connection: BoundedAsyncConnection) -> None:
    await fetch(connection, HALF, {"by": 1})
    await connection.execute("DEALLOCATE ALL")
    assert await fetch(connection, HALF, {"by": 5}) == [(2,)]
    connection.statements.clear()  # the other way round: it is there, and we do not know
    assert await fetch(connection, HALF, {"by": 2}) == [(5,)]


async def test_a_cancelled_call_ends_the_query_and_leaves_the_connection_usable(
    connection: BoundedAsyncConnection,
) -> None:
    slow = prepared(b"SELECT pg_sleep(%(seconds)s::float8)")
    task = asyncio.create_task(fetch(connection, slow, {"seconds": 60}))
    await eventually_async(lambda: connection.pgconn.transaction_status == TransactionStatus.ACTIVE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await fetch(connection, HALF, {"by": 2}) == [(5,)]
    await fetch(connection, slow, {"seconds": 0})


async def test_its_calls_have_the_limit_of_all_calls(shared_db_url: str) -> None:
    with Proxy(shared_db_url) as proxy:
        connection = await connect(proxy.url, name="x")
        await fetch(connection, HALF, {"by": 1})
        connection.limits.per_call = 0.2
        proxy.swallow()
        async with asyncio.timeout(30):
            with pytest.raises(DeadlineExceeded):
                await fetch(connection, HALF, {"by": 1})
        assert connection.closed


async def test_where_it_does_not_fit(shared_db_url: str) -> None:
    unprepared = await connect(shared_db_url, name="x", settings=DatabaseSettings(prepared_statements=False))
    explicit = await connect(shared_db_url, name="x", autocommit=False)
    plain = await psycopg.AsyncConnection.connect(shared_db_url, autocommit=True)
    inside = await connect(shared_db_url, name="x")
    await inside.execute("BEGIN")
    for connection in (unprepared, explicit, plain, inside):
        assert not fits(connection)
        await connection.close()
