"""Where jobs run in a test: on connections of their own, or all on the one that the test gave, in its transaction.

The queue's core is asynchronous; a second object over the same libpq connection lets it work in a synchronous test.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from app.client.errors import InvalidInput
from app.client.places import AlchemyAsyncConnection, is_asyncpg, resolve, resolve_async, run, run_async
from app.client.statements import Statement, load
from app.config import DatabaseSettings
from app.database.connect import connect, connect_sync
from app.database.deadline import BoundedAsyncConnection
from app.database.reconnecting import Reconnecting
from workers.testing.clock import shifted

_TOUCH = load(__package__, "read_clock")


class Ground(ABC):
    """Connections for the parts of a worker. `serial`: there is only one, so jobs run one after the other."""

    serial: bool
    url: str
    """For processes, which cannot share a connection."""

    def __init__(self) -> None:
        self.claiming = Reconnecting("claim", self.open)
        self.finishing = Reconnecting("finish", self.open)
        self.settling = Reconnecting("settle", self.open)
        self.maintenance = Reconnecting("maintenance", self.open)

    @abstractmethod
    async def open(self) -> BoundedAsyncConnection:
        """A connection for one part of the worker."""

    @abstractmethod
    def open_async(self) -> Any:
        """A context with a connection for a handler's transaction."""

    @abstractmethod
    def open_sync(self) -> Any:
        """The same for handlers in threads."""

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Around each call of a handler."""
        yield

    async def rows(self, statement: Statement, params: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement of the kit."""
        return await run_async(await self.claiming.get(), statement, params)

    async def close(self) -> None:
        """Close what was opened here."""
        for connection in (self.claiming, self.finishing, self.settling, self.maintenance):
            await connection.close()


class OwnGround(Ground):
    """Connections of its own, each call committed: a small worker."""

    serial = False

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = shifted(url)
        self.settings = DatabaseSettings()

    async def open(self) -> BoundedAsyncConnection:
        """Open another one."""
        return await connect(self.url, name="test", settings=self.settings)

    @asynccontextmanager
    async def open_async(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """One for each transaction."""
        async with await connect(self.url, name="handler", autocommit=False) as connection:
            yield connection

    @contextmanager
    def open_sync(self) -> Iterator[psycopg.Connection[Any]]:
        """One for each transaction."""
        with connect_sync(self.url, name="handler", autocommit=False) as connection:
            yield connection


class SharedGround(Ground):
    """The test's own connection. What is done on it stays in its transaction, if one is open."""

    serial = True

    def __init__(self, given: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]") -> None:
        super().__init__()
        self.given = given
        self.url = given.info.dsn
        # A new object takes these over from the one that the test holds; `close` gives them back.
        self._handlers = given.pgconn.notice_handler, given.pgconn.notify_handler
        self._twin = _Twin(given)

    async def open(self) -> BoundedAsyncConnection:
        """Always the same one."""
        if self._twin.closed:
            raise RuntimeError("the connection of the test was closed while its jobs ran")
        return self._twin

    @asynccontextmanager
    async def open_async(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """The shared one; `transaction()` on it is a savepoint."""
        yield self._twin

    @contextmanager
    def open_sync(self) -> Iterator[psycopg.Connection[Any]]:
        """The same for threads: the event loop leaves it alone while a handler runs."""
        yield self.given if isinstance(self.given, psycopg.Connection) else _SyncTwin(self.given)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """A statement that fails in a handler must not spoil the test's transaction for the jobs after it."""
        pgconn = self.given.pgconn
        inside = pgconn.transaction_status == TransactionStatus.INTRANS
        if inside:
            pgconn.exec_(b"SAVEPOINT tandem_try")
        try:
            yield
        finally:
            if inside and pgconn.transaction_status == TransactionStatus.INERROR:
                pgconn.exec_(b"ROLLBACK TO SAVEPOINT tandem_try")
            if inside and pgconn.transaction_status == TransactionStatus.INTRANS:
                pgconn.exec_(b"RELEASE SAVEPOINT tandem_try")

    async def close(self) -> None:
        """Leave the test its connection."""
        await super().close()
        self.given.pgconn.notice_handler, self.given.pgconn.notify_handler = self._handlers


def ground_of(place: Any) -> Ground:
    """The ground for a synchronous place or an address. Raises InvalidInput for what psycopg cannot reach."""
    if isinstance(place, str):
        return OwnGround(place)
    found = resolve(place)
    run(place, _TOUCH, {})  # begins the transaction the way the caller's own statement would
    driver = found if isinstance(found, psycopg.Connection) else cast(Any, found).connection.driver_connection
    return SharedGround(_psycopg(driver))


async def ground_of_async(place: Any) -> Ground:
    """The same for asynchronous places."""
    if isinstance(place, str):
        return OwnGround(place)
    found = await resolve_async(place)
    await run_async(place, _TOUCH, {})
    driver: Any = found
    if not isinstance(found, psycopg.AsyncConnection) and not is_asyncpg(found):
        driver = (await cast(AlchemyAsyncConnection, found).get_raw_connection()).driver_connection
    return SharedGround(_psycopg(driver))


def _psycopg(driver: Any) -> Any:
    if not isinstance(driver, psycopg.Connection | psycopg.AsyncConnection):
        raise InvalidInput(
            "unknown-connection",
            "workers run on psycopg: give the database's address, or a connection of psycopg, alone or in SQLAlchemy",
        )
    return driver


class _Twin(BoundedAsyncConnection):
    """An asynchronous connection over the libpq connection of another object, which stays its owner."""

    def __init__(self, owner: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]") -> None:
        super().__init__(owner.pgconn, row_factory=tuple_row)
        _take_over(self, owner)

    async def close(self) -> None:
        """Not ours to close."""

    def __del__(self, *_: Any) -> None:
        """Nothing to warn about: the owner closes."""


class _SyncTwin(psycopg.Connection[Any]):
    """The same for synchronous calls."""

    def __init__(self, owner: psycopg.AsyncConnection[Any]) -> None:
        super().__init__(owner.pgconn, row_factory=tuple_row)
        _take_over(self, owner)

    def close(self) -> None:
        """Not ours to close."""

    def __del__(self, *_: Any) -> None:
        """Nothing to warn about: the owner closes."""


def _take_over(twin: Any, owner: Any) -> None:
    twin._autocommit = owner.autocommit
    twin._adapters = AdaptersMap(owner.adapters)
    # Both would count their prepared statements from zero, under the same names.
    twin.prepare_threshold = None
