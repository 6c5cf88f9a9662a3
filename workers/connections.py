"""The connections that handlers borrow: psycopg's for `job.transaction()` and threads, SQLAlchemy's sessions.

Three pools, each opened at its first use. The worker's own connections are the supervisor's.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any

import psycopg

from app.config import DatabaseSettings
from app.database.connect import CONNECTION_LOST, connect, connect_sync
from app.database.deadline import BoundedAsyncConnection, BoundedConnection
from app.database.pool import AllLentError, Pool
from app.database.session_settings import session_limits
from app.database.sessions import Sessions
from app.database.sync_pool import SyncPool
from app.errors import Unavailable

NAME = "handlers"
ASK_AFTER_SECONDS = 1.0
"""A connection that nobody used for so long is asked whether it lives before it is lent: a try costs more than that."""
OPENING_SECONDS = 60.0
PING = "SELECT 1"


class HandlerConnections:
    """What one worker process lends to its handlers."""

    def __init__(self, url: str, settings: DatabaseSettings) -> None:
        session, most = session_limits(settings), settings.pool_size + settings.pool_overflow

        async def open_async() -> BoundedAsyncConnection:
            return await connect(url, name=NAME, settings=settings, session=session)

        def open_sync() -> BoundedConnection:
            return connect_sync(url, name=NAME, settings=settings, session=session)

        self.sessions = Sessions(url, name=NAME, settings=settings)
        self._async = Pool(open_async, most=most)
        self._sync = SyncPool(open_sync, most=most)
        self._wait = settings.pool_wait_seconds

    @property
    def pools(self) -> dict[str, Any]:
        """The pools by name, for gauges."""
        return {"handlers": self._async, "handlers_sync": self._sync, "handlers_sessions": self.sessions}

    @asynccontextmanager
    async def open_async(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection in autocommit for the length of a block. Raises Unavailable, and what opening raises."""
        connection = await self._living()
        try:
            yield connection
        finally:
            connection.idle_since = monotonic()
            self._async.give_back(connection)

    @contextmanager
    def open_sync(self) -> Iterator[psycopg.Connection[Any]]:
        """The same for threads."""
        connection = self._living_sync()
        try:
            yield connection
        finally:
            connection.idle_since = monotonic()
            self._sync.give_back(connection)

    async def close(self) -> None:
        """Close what nobody uses now, and the rest when it is given back."""
        self._async.close()
        self._sync.close()
        await self.sessions.dispose()

    async def _living(self) -> BoundedAsyncConnection:
        while True:
            try:
                connection = await self._async.take(wait=self._wait, seconds=self._wait + OPENING_SECONDS)
            except AllLentError:
                raise self._all_lent(self._async) from None
            if monotonic() - connection.idle_since < ASK_AFTER_SECONDS:
                return connection
            try:
                await connection.execute(PING)
                return connection
            except CONNECTION_LOST:
                connection.pgconn.finish()
                self._async.give_back(connection)
            except BaseException:
                self._async.give_back(connection)
                raise

    def _living_sync(self) -> BoundedConnection:
        while True:
            try:
                connection = self._sync.take(wait=self._wait)
            except AllLentError:
                raise self._all_lent(self._sync) from None
            if monotonic() - connection.idle_since < ASK_AFTER_SECONDS:
                return connection
            try:
                connection.execute(PING)
                return connection
            except CONNECTION_LOST:
                connection.pgconn.finish()
                self._sync.give_back(connection)
            except BaseException:
                self._sync.give_back(connection)
                raise

    def _all_lent(self, pool: Pool | SyncPool) -> Unavailable:
        return Unavailable(
            "connections-lent",
            f"all {pool.size()} connections for handlers were in use for {self._wait:g} s; "
            "TANDEM_DATABASE__POOL_SIZE allows more",
        )
