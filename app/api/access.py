"""The API's way to the database: every use ends in time, and every error says what is known of the outcome.

Two ways: `read`, in a transaction that nothing depends on, and `write_at_once`, one statement that commits by itself,
so that it costs one round trip.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any

import psycopg

from app.api.sqlstates import AWAY, BUSY, UNKNOWN, translate, translate_sent
from app.config import Settings
from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.database.pool import AllLentError, Pool
from app.database.session_settings import session_limits
from app.errors import OutcomeUnknown, Unavailable

LEAST_SECONDS = 0.05
COMMITTED_LOCALLY = "01000"
"""The warning of a COMMIT that did not wait for its standby: the data may be lost with the primary."""


class Access:
    """The connections of one API process. `seconds` bounds a request's whole time with the database."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.seconds = settings.api.request_seconds
        self._wait_seconds = settings.database.pool_wait_seconds
        calls = min(settings.database.call_timeout_seconds, self.seconds)
        database = settings.database.model_copy(update={"call_timeout_seconds": calls})

        async def open_() -> BoundedAsyncConnection:
            return await connect(url, name="api", settings=database, session=session_limits(database))

        self.pool = Pool(open_, most=settings.database.pool_size + settings.database.pool_overflow)

    async def close(self) -> None:
        """Close the pool."""
        self.pool.close()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection in a transaction that is rolled back. Raises Unavailable."""
        until = monotonic() + self.seconds
        connection = await self._take()
        try:
            with _ending(connection, until):
                async with connection.transaction(force_rollback=True):
                    yield connection
        except Exception as error:
            raise translate(error) or error from error
        finally:
            self.pool.give_back(connection)

    @asynccontextmanager
    async def write_at_once(self, since: float | None = None) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection on which each statement is a transaction: send exactly one, or one `transaction()` block.

        `since`: when the request began to wait, as monotonic() has it, if that was not now. Raises Unavailable when
        nothing was done, OutcomeUnknown when the answer to the statement was lost.
        """
        now = monotonic()
        until = (now if since is None else since) + self.seconds
        connection = await self._take(0.0 if since is None else now - since)
        warnings: list[str] = []
        note = _collector(warnings)
        connection.add_notice_handler(note)
        try:
            with _ending(connection, until):
                yield connection
        except Exception as error:
            raise translate_sent(error) or error from error
        finally:
            connection.remove_notice_handler(note)
            self.pool.give_back(connection)
        if warnings:
            raise OutcomeUnknown(*UNKNOWN)

    async def _take(self, waited: float = 0.0) -> BoundedAsyncConnection:
        wait, seconds = max(0.0, self._wait_seconds - waited), max(LEAST_SECONDS, self.seconds - waited)
        try:
            return await self.pool.take(wait=wait, seconds=seconds)
        except AllLentError:
            raise Unavailable(*BUSY) from None
        except TimeoutError:
            raise Unavailable(*AWAY) from None
        except Exception as error:
            raise translate(error) or error from error


@contextmanager
def _ending(connection: BoundedAsyncConnection, until: float) -> Iterator[None]:
    """Every call inside ends by then, or the connection is closed."""
    connection.limits.until = max(until, monotonic() + LEAST_SECONDS)
    try:
        yield
    finally:
        connection.limits.until = None


def _collector(warnings: list[str]) -> Any:
    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.sqlstate == COMMITTED_LOCALLY:
            warnings.append(diagnostic.sqlstate)

    return note
