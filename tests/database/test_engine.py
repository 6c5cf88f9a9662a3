"""Engines and sessions: the same guarded connections, a pool that recovers, bounded waits."""

import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.config import DatabaseSettings
from app.database.connect import connect_sync
from app.database.deadline import BoundedAsyncConnection
from app.database.engine import (
    make_engine,
    make_session_factory,
    make_sync_engine,
    make_sync_session_factory,
)

NAME = text("SELECT current_setting('application_name')")


async def test_async_sessions_run_on_named_bounded_connections(db_url: str) -> None:
    engine = make_engine(db_url, name="api")
    try:
        async with make_session_factory(engine)() as session:
            assert (await session.execute(NAME)).scalar_one() == "tandem api"
            raw = await (await session.connection()).get_raw_connection()
            assert isinstance(raw.driver_connection, BoundedAsyncConnection)
            await session.rollback()
    finally:
        await engine.dispose()


def test_sync_sessions_run_on_named_connections(db_url: str) -> None:
    engine = make_sync_engine(db_url, name="tool")
    with make_sync_session_factory(engine)() as session:
        assert session.execute(NAME).scalar_one() == "tandem tool"
    engine.dispose()


async def test_connections_killed_in_the_pool_are_replaced_unnoticed(db_url: str) -> None:
    engine = make_engine(db_url, name="api", settings=DatabaseSettings(pool_size=3))
    try:
        async with engine.connect(), engine.connect(), engine.connect():
            pass
        with connect_sync(db_url, name="killer") as killer:
            killer.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'tandem api' AND datname = current_database()"
            )
        for _ in range(3):
            async with engine.connect() as connection:
                assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    finally:
        await engine.dispose()


async def test_an_exhausted_pool_says_so_instead_of_hanging(db_url: str) -> None:
    settings = DatabaseSettings(pool_size=1, pool_overflow=0, pool_wait_seconds=0.2)
    engine = make_engine(db_url, name="api", settings=settings)
    try:
        async with engine.connect():
            with pytest.raises(PoolTimeout):
                await engine.connect()
    finally:
        await engine.dispose()


async def test_a_rollback_leaves_nothing(db_url: str) -> None:
    engine = make_engine(db_url, name="api")
    try:
        async with make_session_factory(engine)() as session:
            await session.execute(text("CREATE TABLE made (n int)"))
            await session.rollback()
        async with engine.connect() as connection:
            names = await connection.run_sync(lambda sync: sqlalchemy.inspect(sync).get_table_names())
        assert "made" not in names
    finally:
        await engine.dispose()
