"""The API's way to the database: every use ends in time, and every error says what is known of the outcome.

Two ways: `read` (`read_directly` for psycopg), and `write_at_once`, one statement that commits by itself, so that it
costs one round trip.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, TypeVar

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.sqlstates import AWAY, UNKNOWN, translate, translate_sent
from app.config import Settings
from app.database.deadline import BoundedAsyncConnection, deadline
from app.database.engine import make_engine
from app.errors import OutcomeUnknown, Unavailable

Result = TypeVar("Result")
LEAST_SECONDS = 0.05
COMMITTED_LOCALLY = "01000"
"""The warning of a COMMIT that did not wait for its standby: the data may be lost with the primary."""


class Access:
    """The engine of one API process. `seconds` bounds a request's whole time with the database."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.seconds = settings.api.request_seconds
        calls = min(settings.database.call_timeout_seconds, self.seconds)
        database = settings.database.model_copy(update={"call_timeout_seconds": calls})
        self.engine = make_engine(url, name="api", settings=database, ping=False)

    async def close(self) -> None:
        """Close the pool."""
        await self.engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction that nothing depends on. Raises Unavailable."""
        async with self._connected(monotonic() + self.seconds) as (connection, _):
            try:
                yield connection
            except Exception as error:
                raise translate(error) or error from error

    @asynccontextmanager
    async def read_directly(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """The same for the queue's own statements, which psycopg sends."""
        async with self._connected(monotonic() + self.seconds) as (_, driver):
            try:
                yield driver
            except Exception as error:
                raise translate(error) or error from error

    @asynccontextmanager
    async def write_at_once(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection on which each statement is a transaction: send exactly one, or one `transaction()` block.

        Raises Unavailable when nothing was done, OutcomeUnknown when the answer to the statement was lost.
        """
        async with self._connected(monotonic() + self.seconds, isolation_level="AUTOCOMMIT") as (_, driver):
            warnings: list[str] = []
            note = _collector(warnings)
            driver.add_notice_handler(note)
            try:
                yield driver
            except Exception as error:
                raise translate_sent(error) or error from error
            finally:
                driver.remove_notice_handler(note)
            if warnings:
                raise OutcomeUnknown(*UNKNOWN)

    @asynccontextmanager
    async def _connected(
        self, until: float, **options: Any
    ) -> AsyncIterator[tuple[AsyncConnection, BoundedAsyncConnection]]:
        try:
            connection = await within(self._open(options), until - monotonic())
        except Exception as error:
            raise translate(error) or error from error
        try:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, BoundedAsyncConnection)  # noqa: S101 - our own engine
            try:
                async with deadline(driver, max(LEAST_SECONDS, until - monotonic())):
                    yield connection, driver
            finally:
                if driver.closed:
                    await connection.invalidate()  # the pool must not try to roll back on it
        finally:
            await connection.close()

    async def _open(self, options: dict[str, Any]) -> AsyncConnection:
        connection = await self.engine.connect()
        return await connection.execution_options(**options) if options else connection


async def within(opening: Awaitable[AsyncConnection], seconds: float) -> AsyncConnection:
    """The connection, or Unavailable after `seconds`.

    What is late is not cancelled but closed when it comes: a cancelled exchange with a silent peer would be waited for.
    """
    task = asyncio.ensure_future(opening)
    try:
        await asyncio.wait([task], timeout=max(LEAST_SECONDS, seconds))
    finally:
        if not task.done():
            task.add_done_callback(_close_late)
    if not task.done():
        raise Unavailable(*AWAY)
    return task.result()


_closing: set[asyncio.Future[None]] = set()


def _close_late(task: "asyncio.Future[AsyncConnection]") -> None:
    if task.cancelled() or task.exception() is not None:
        return
    closing = asyncio.ensure_future(task.result().close())
    _closing.add(closing)  # the loop itself holds tasks weakly
    closing.add_done_callback(_closing.discard)


def _collector(warnings: list[str]) -> Any:
    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.sqlstate == COMMITTED_LOCALLY:
            warnings.append(diagnostic.sqlstate)

    return note
