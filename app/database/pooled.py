"""Connections behind a transaction pooler: each transaction brings its settings and looks which server it is on.

Nothing outlives a transaction: no session setting, no prepared statement, no lock. A pooler also hides that the server
crashed or is another one, so what a process remembers of it is given up as if the connection had been lost.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.abc import Params, Query
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from app.database.deadline import BoundedAsyncConnection, BoundedConnection

# A start gives the first another value, a crash that the postmaster survived the second (PostgreSQL 15 and later).
SERVER = (
    "pg_postmaster_start_time()::text || ' ' || coalesce((SELECT stats_reset::text FROM pg_stat_wal), '')"
)
_inside: ContextVar[frozenset[int]] = ContextVar("tandem_inside", default=frozenset())


class ServerChanged(psycopg.OperationalError):
    """The pooler leads to a server that started anew; the connection is closed and nothing was sent."""


class Prelude:
    """What stands at the start of each transaction, and the server that the first one met."""

    def __init__(self) -> None:
        self.text = b""
        self._server: str | None = None
        self.settle({})

    def settle(self, session: Mapping[str, str]) -> None:
        """Take these settings to every transaction."""
        parts = [
            sql.SQL("pg_catalog.set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
            for name, value in session.items()
        ]
        self.text = sql.SQL("SELECT {}").format(sql.SQL(", ").join([*parts, sql.SQL(SERVER)])).as_bytes(None)

    def judge(self, row: Any, connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
        server = str(row[-1])
        if self._server is None:
            self._server = server
        if server != self._server:
            connection.pgconn.finish()
            raise ServerChanged("the server behind the pooler is another one or crashed; connecting anew")


class PooledAsyncCursor(psycopg.AsyncCursor[Any]):
    """A cursor whose statements outside a transaction get one, with the settings at its start."""

    async def execute(
        self,
        query: Query,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
    ) -> Self:
        """As psycopg's; never prepared."""
        text: Any = query  # psycopg's own overloads for templates come to this
        connection = self.connection
        assert isinstance(connection, PooledAsyncConnection)  # noqa: S101 - its factory made us
        if not connection.autocommit:
            if _idle(connection):
                await connection.prelude(begin=False)
            return await super().execute(text, params, prepare=False, binary=binary)
        async with connection.turn() as mine:
            if mine and _idle(connection):
                async with connection.wrapped():
                    return await super().execute(text, params, prepare=False, binary=binary)
            return await super().execute(text, params, prepare=False, binary=binary)


class PooledAsyncConnection(BoundedAsyncConnection):
    """An async connection for use behind a transaction pooler."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turn = asyncio.Lock()
        self.local = Prelude()
        self.cursor_factory = PooledAsyncCursor

    async def prelude(self, *, begin: bool) -> None:
        """Send the settings, with BEGIN in the same message where psycopg does not send it. Raises ServerChanged."""
        cursor = psycopg.AsyncCursor(self, row_factory=tuple_row)
        await cursor.execute(b"BEGIN; " + self.local.text if begin else self.local.text, prepare=False)
        while cursor.nextset():
            pass
        self.local.judge(await cursor.fetchone(), self)

    @asynccontextmanager
    async def wrapped(self) -> AsyncIterator[None]:
        """One transaction around a single statement."""
        try:
            await self.prelude(begin=True)
            yield
        except BaseException:
            with suppress(psycopg.Error):
                await self.rollback()
            raise
        await self.commit()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Statements of other tasks wait until a transaction has ended; True for who is not inside one yet."""
        held = _inside.get()
        if id(self) in held:
            yield False
            return
        async with self._turn:
            token = _inside.set(held | {id(self)})
            try:
                yield True
            finally:
                _inside.reset(token)

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[psycopg.AsyncTransaction]:
        """As psycopg's; the settings come first in the outermost one."""
        async with self.turn():
            outermost = _idle(self)
            async with super().transaction(savepoint_name, force_rollback) as transaction:
                if outermost:
                    await self.prelude(begin=False)
                yield transaction


class PooledCursor(psycopg.Cursor[Any]):
    """The same for synchronous code."""

    def execute(
        self,
        query: Query,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
    ) -> Self:
        """As psycopg's; never prepared."""
        text: Any = query  # psycopg's own overloads for templates come to this
        connection = self.connection
        assert isinstance(connection, PooledConnection)  # noqa: S101 - its factory made us
        if not _idle(connection):
            return super().execute(text, params, prepare=False, binary=binary)
        if not connection.autocommit:
            connection.prelude(begin=False)
            return super().execute(text, params, prepare=False, binary=binary)
        with connection.wrapped():
            return super().execute(text, params, prepare=False, binary=binary)


class PooledConnection(BoundedConnection):
    """The same for synchronous code; one thread at a time uses it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.local = Prelude()
        self.cursor_factory = PooledCursor

    def prelude(self, *, begin: bool) -> None:
        """Send the settings, with BEGIN in the same message where psycopg does not send it. Raises ServerChanged."""
        cursor = psycopg.Cursor(self, row_factory=tuple_row)
        cursor.execute(b"BEGIN; " + self.local.text if begin else self.local.text, prepare=False)
        while cursor.nextset():
            pass
        self.local.judge(cursor.fetchone(), self)

    @contextmanager
    def wrapped(self) -> Iterator[None]:
        """One transaction around a single statement."""
        try:
            self.prelude(begin=True)
            yield
        except BaseException:
            with suppress(psycopg.Error):
                self.rollback()
            raise
        self.commit()

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        """As psycopg's; the settings come first in the outermost one."""
        outermost = _idle(self)
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if outermost:
                self.prelude(begin=False)
            yield transaction


def is_pooled(connection: object) -> bool:
    """Whether the connection leads through a transaction pooler: nothing may be left in its session."""
    return isinstance(connection, PooledAsyncConnection | PooledConnection)


async def moves(one: BoundedAsyncConnection, two: BoundedAsyncConnection) -> bool:
    """Whether statements of `one` move between server processes while `two` keeps the one it got: a pooler's doing."""
    before = await _pid(one)
    async with two.transaction(force_rollback=True):
        return await _pid(two) == before or await _pid(one) != before


async def _pid(connection: BoundedAsyncConnection) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()", prepare=False)).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM answers one row
    return int(row[0])


def _idle(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    return bool(connection.pgconn.transaction_status == TransactionStatus.IDLE)
