"""Where a caller enqueues: its psycopg, SQLAlchemy or asyncpg connection, and how a statement runs on it.

SQLAlchemy and asyncpg are told by the names of their types and never imported: whoever passes one has imported it.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol, cast

import psycopg
from psycopg.rows import tuple_row

from .errors import InvalidInput
from .statements import Statement


class Rows(Protocol):
    """SQLAlchemy's answer to a statement."""

    def fetchall(self) -> Sequence[Any]:
        """All rows."""


class AlchemyConnection(Protocol):
    """SQLAlchemy's Connection."""

    def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Rows:
        """Run a statement in the driver's own style; begins the transaction when none is open."""


class AlchemySession(Protocol):
    """SQLAlchemy's Session and scoped_session."""

    def connection(self) -> AlchemyConnection:
        """The connection of the session's transaction."""


class AlchemyAsyncConnection(Protocol):
    """SQLAlchemy's AsyncConnection."""

    def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Awaitable[Rows]:
        """Run a statement in the driver's own style; begins the transaction when none is open."""

    def get_raw_connection(self) -> Awaitable[Any]:
        """The pool's hold on the driver's connection."""


class AlchemyAsyncSession(Protocol):
    """SQLAlchemy's AsyncSession and async_scoped_session."""

    def connection(self) -> Awaitable[Any]:
        """The connection of the session's transaction."""


class AsyncpgConnection(Protocol):
    """asyncpg's Connection, also as a pool lends it."""

    def fetch(self, query: str, /, *args: Any) -> Awaitable[Sequence[Any]]:
        """All rows of a query."""

    def copy_records_to_table(self, table_name: str, /, *, records: Any) -> Awaitable[Any]:
        """COPY rows into a table."""


SyncPlace = psycopg.Connection[Any] | AlchemyConnection | AlchemySession
AsyncPlace = psycopg.AsyncConnection[Any] | AlchemyAsyncConnection | AlchemyAsyncSession | AsyncpgConnection

_SYNC = {
    ("sqlalchemy", "Connection"): "connection",
    ("sqlalchemy", "Session"): "session",
    ("sqlalchemy", "scoped_session"): "session",
}
_ASYNC = {
    ("sqlalchemy", "AsyncConnection"): "connection",
    ("sqlalchemy", "AsyncSession"): "session",
    ("sqlalchemy", "async_scoped_session"): "session",
    ("asyncpg", "Connection"): "asyncpg",
    ("asyncpg", "PoolConnectionProxy"): "asyncpg",
}
_DRIVERS = ("psycopg", "asyncpg")


def run(place: SyncPlace, statement: Statement, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run a statement in the place's transaction; answers all rows. Raises InvalidInput for another kind of place."""
    found = resolve(place)
    if isinstance(found, psycopg.Connection):
        # A cursor of our own: the connection's may answer dictionaries, or expect another style of parameters.
        cursor = psycopg.Cursor(found, row_factory=tuple_row)
        return cursor.execute(statement.named, statement.texts(params)).fetchall()
    arguments = _arguments(found, statement, params)
    return [tuple(row) for row in found.exec_driver_sql(*arguments).fetchall()]


async def run_async(
    place: AsyncPlace, statement: Statement, params: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """`run` for asynchronous places."""
    found = await resolve_async(place)
    if isinstance(found, psycopg.AsyncConnection):
        cursor = psycopg.AsyncCursor(found, row_factory=tuple_row)
        await cursor.execute(statement.named, statement.texts(params))
        return await cursor.fetchall()
    if is_asyncpg(found):
        asyncpg = cast(AsyncpgConnection, found)
        return [tuple(row) for row in await asyncpg.fetch(statement.numbered, *statement.values(params))]
    connection = cast(AlchemyAsyncConnection, found)
    arguments = _arguments(connection, statement, params)
    answer = await connection.exec_driver_sql(*arguments)
    return [tuple(row) for row in answer.fetchall()]


def resolve(place: SyncPlace) -> psycopg.Connection[Any] | AlchemyConnection:
    """The connection behind a place: a session's is asked for, which begins its transaction. Raises InvalidInput."""
    if isinstance(place, psycopg.Connection):
        return place
    family = _family(place, _SYNC)
    if family == "connection":
        return cast(AlchemyConnection, place)
    if family == "session":
        return cast(AlchemySession, place).connection()
    raise _unknown(place, hint="await tandem.aio.enqueue(...)" if _is_async(place) else None)


async def resolve_async(
    place: AsyncPlace,
) -> psycopg.AsyncConnection[Any] | AlchemyAsyncConnection | AsyncpgConnection:
    """`resolve` for asynchronous places."""
    if isinstance(place, psycopg.AsyncConnection):
        return place
    family = _family(place, _ASYNC)
    if family == "asyncpg":
        return cast(AsyncpgConnection, place)
    if family == "connection":
        return cast(AlchemyAsyncConnection, place)
    if family == "session":
        return cast(AlchemyAsyncConnection, await cast(AlchemyAsyncSession, place).connection())
    synchronous = isinstance(place, psycopg.Connection) or _family(place, _SYNC) is not None
    raise _unknown(place, hint="tandem.enqueue(...) without await" if synchronous else None)


def is_asyncpg(place: object) -> bool:
    """Whether this is asyncpg's connection itself, not SQLAlchemy over it."""
    return _family(place, _ASYNC) == "asyncpg"


def driver_name(connection: object) -> str:
    """Which driver works under SQLAlchemy's connection. Raises InvalidInput for one that is not supported."""
    name = str(getattr(getattr(connection, "dialect", None), "driver", "unknown"))
    if name not in _DRIVERS:
        raise InvalidInput(
            "unknown-connection",
            f"cannot enqueue through SQLAlchemy on {name}: use postgresql+psycopg or postgresql+asyncpg",
        )
    return name


def _arguments(
    connection: object, statement: Statement, params: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any] | tuple[Any, ...] | None]:
    if driver_name(connection) == "asyncpg":
        return statement.numbered, statement.values(params)
    return statement.named.decode(), statement.texts(params) or None


def _family(place: object, known: Mapping[tuple[str, str], str]) -> str | None:
    for one in type(place).__mro__:
        if found := known.get((one.__module__.partition(".")[0], one.__name__)):
            return found
    return None


def _is_async(place: object) -> bool:
    return isinstance(place, psycopg.AsyncConnection) or _family(place, _ASYNC) is not None


def _unknown(place: object, *, hint: str | None) -> InvalidInput:
    package = type(place).__module__.partition(".")[0]
    name = type(place).__name__ if package == "builtins" else f"{package}.{type(place).__name__}"
    way_out = f"use {hint}" if hint else "expected a connection or session of psycopg, SQLAlchemy or asyncpg"
    return InvalidInput("unknown-connection", f"cannot enqueue through {name} here: {way_out}")
