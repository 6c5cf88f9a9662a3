"""Every kind of connection through which a program may enqueue, opened on one database for a test."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

import asyncpg
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

SyncOpener = Callable[[str], AbstractContextManager[Any]]
AsyncOpener = Callable[[str], AbstractAsyncContextManager[Any]]


def alchemy_url(url: str, driver: str) -> URL:
    """The address for SQLAlchemy."""
    parts = conninfo_to_dict(url)
    query = {"host": str(parts["host"])}
    if "port" in parts:
        query["port"] = str(parts["port"])
    return URL.create(
        f"postgresql+{driver}",
        username=str(parts["user"]),
        password=str(parts["password"]) if parts.get("password") else None,
        database=str(parts["dbname"]),
        query=query,
    )


@contextmanager
def with_psycopg(url: str) -> Iterator[psycopg.Connection[Any]]:
    """psycopg, with rows as dictionaries: what the client reads must not depend on it."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        yield connection


@contextmanager
def with_alchemy_connection(url: str) -> Iterator[Any]:
    """SQLAlchemy Core."""
    engine = create_engine(alchemy_url(url, "psycopg"))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def with_session(url: str) -> Iterator[Any]:
    """SQLAlchemy ORM."""
    engine = create_engine(alchemy_url(url, "psycopg"))
    try:
        with Session(engine) as session:
            yield session
    finally:
        engine.dispose()


@contextmanager
def with_scoped_session(url: str) -> Iterator[Any]:
    """SQLAlchemy ORM behind a registry, as web frameworks keep it."""
    engine = create_engine(alchemy_url(url, "psycopg"))
    session = scoped_session(sessionmaker(engine))
    try:
        yield session
    finally:
        session.remove()
        engine.dispose()


@asynccontextmanager
async def with_async_psycopg(url: str) -> AsyncIterator[Any]:
    """psycopg, async."""
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
        yield connection


def with_async_alchemy_connection(driver: str) -> AsyncOpener:
    """SQLAlchemy Core, async."""

    @asynccontextmanager
    async def open_place(url: str) -> AsyncIterator[Any]:
        engine = create_async_engine(alchemy_url(url, driver))
        try:
            async with engine.connect() as connection:
                yield connection
        finally:
            await engine.dispose()

    return open_place


def with_async_session(driver: str) -> AsyncOpener:
    """SQLAlchemy ORM, async."""

    @asynccontextmanager
    async def open_place(url: str) -> AsyncIterator[Any]:
        engine = create_async_engine(alchemy_url(url, driver))
        try:
            async with AsyncSession(engine) as session:
                yield session
        finally:
            await engine.dispose()

    return open_place


def asyncpg_address(url: str) -> dict[str, Any]:
    """The address as asyncpg takes it."""
    parts = conninfo_to_dict(url)
    names = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "database"}
    address = {names[name]: value for name, value in parts.items() if name in names}
    return {**address, "ssl": False}


@asynccontextmanager
async def open_asyncpg(url: str) -> AsyncIterator[Any]:
    """A connection of asyncpg itself, without a transaction."""
    connection = await asyncpg.connect(**asyncpg_address(url))
    try:
        yield connection
    finally:
        await connection.close()


SYNC: dict[str, SyncOpener] = {
    "psycopg": with_psycopg,
    "sqlalchemy-connection": with_alchemy_connection,
    "sqlalchemy-session": with_session,
    "sqlalchemy-scoped-session": with_scoped_session,
}
ASYNC: dict[str, AsyncOpener] = {
    "psycopg": with_async_psycopg,
    "sqlalchemy-connection-psycopg": with_async_alchemy_connection("psycopg"),
    "sqlalchemy-connection-asyncpg": with_async_alchemy_connection("asyncpg"),
    "sqlalchemy-session-psycopg": with_async_session("psycopg"),
    "sqlalchemy-session-asyncpg": with_async_session("asyncpg"),
}
