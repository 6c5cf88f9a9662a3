"""A connection that is opened when needed and opened again after a loss, with jittered backoff.

One owner at a time uses it; it is not a pool.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from app.database.backoff import Backoff
from app.database.connect import CONNECTION_LOST
from app.database.deadline import BoundedAsyncConnection

Open = Callable[[], Awaitable[BoundedAsyncConnection]]

_log = logging.getLogger(__name__)


class Reconnecting:
    """Holds at most one connection. `generation` counts the connections opened so far."""

    def __init__(self, name: str, opener: Open, *, first: float = 0.1, most: float = 5.0) -> None:
        self.name = name
        self.generation = 0
        self._open = opener
        self._backoff = Backoff(first, most)
        self._connection: BoundedAsyncConnection | None = None
        self._opening = asyncio.Lock()
        self._opened_at = 0.0
        self._good_after = most

    @property
    def is_open(self) -> bool:
        """Whether a connection is there that nobody found broken yet."""
        return self._connection is not None and not self._connection.closed and not self._connection.broken

    async def get(self) -> BoundedAsyncConnection:
        """The connection; opened now if need be, trying for ever. Cancel to give up."""
        if (connection := self._connection) is not None and self.is_open:
            return connection
        async with self._opening:  # two that ask at once get one connection
            return await self._open_until_it_works()

    async def _open_until_it_works(self) -> BoundedAsyncConnection:
        while True:
            connection = self._connection
            if connection is not None and self.is_open:
                return connection
            self._connection = None
            try:
                self._connection = await self._open()
            except CONNECTION_LOST as error:
                wait = self._backoff.next()
                _log.warning("%s: no connection (%s); next try in %.1f s", self.name, error, wait)
                await asyncio.sleep(wait)
                continue
            self.generation += 1
            self._opened_at = monotonic()

    async def lost(self, error: BaseException) -> None:
        """Note a failure: the connection is closed, the caller waits a moment, the next `get` opens another."""
        _log.warning("%s: connection lost: %s", self.name, str(error).strip().splitlines()[:1])
        if monotonic() - self._opened_at > self._good_after:
            self._backoff.reset()  # one that opens and fails at once does not count as a success
        await self.close()
        await asyncio.sleep(self._backoff.next())

    async def close(self) -> None:
        """Close what is open; the next `get` opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
