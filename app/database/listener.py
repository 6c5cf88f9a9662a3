"""The LISTEN connection of a process: hands notifications over at once and runs short statements in between.

Notifications are hints. Whoever uses this polls as well, and claims again after every reconnect.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from psycopg import sql

from app.database.connect import CONNECTION_LOST
from app.database.deadline import BoundedAsyncConnection, deadline


class Listener:
    """Watches one connection's socket; `heard` is called with the channel of each notification."""

    def __init__(self, connection: BoundedAsyncConnection, heard: Callable[[str], None]) -> None:
        self.connection = connection
        self.failed = asyncio.Event()
        self._heard = heard
        self._busy = asyncio.Lock()
        self._watching = False
        connection.add_notify_handler(lambda notify: heard(notify.channel))

    async def listen(self, channels: Iterable[str]) -> None:
        """LISTEN on each channel; call it inside `talking`. Raises what the connection raises."""
        for channel in channels:
            await self.connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[BoundedAsyncConnection]:
        """The connection for statements; while inside, notifications are handed over as statements meet them."""
        async with self._busy:
            self._unwatch()
            try:
                yield self.connection
            except CONNECTION_LOST:
                self.failed.set()
                raise
            finally:
                self._watch()

    async def check(self, seconds: float) -> bool:
        """Whether the server still knows our channels; an answer that takes longer closes the connection."""
        async with self.talking() as connection, deadline(connection, seconds):
            cursor = await connection.execute("SELECT count(*) FROM pg_listening_channels()")
            row = await cursor.fetchone()
        return bool(row and row[0])

    async def close(self) -> None:
        """Stop watching and close; locks and channels go with the connection."""
        self._unwatch()
        await self.connection.close()

    def _watch(self) -> None:
        if self.connection.closed:
            self.failed.set()
            return
        asyncio.get_running_loop().add_reader(self.connection.fileno(), self._readable)
        self._watching = True
        self._drain()  # what arrived with the last statement's answer is in memory, the socket stays silent

    def _unwatch(self) -> None:
        if self._watching:
            with contextlib.suppress(*CONNECTION_LOST):
                asyncio.get_running_loop().remove_reader(self.connection.fileno())
            self._watching = False

    def _readable(self) -> None:
        try:
            self.connection.pgconn.consume_input()
        except CONNECTION_LOST:
            self._fail()
            return
        self._drain()
        if self.connection.pgconn.status != 0:
            self._fail()

    def _drain(self) -> None:
        while (notify := self.connection.pgconn.notifies()) is not None:
            self._heard(notify.relname.decode())

    def _fail(self) -> None:
        self._unwatch()
        self.failed.set()
