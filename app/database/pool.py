"""A pool of async connections in autocommit, each lent to one borrower at a time. For the API's hot path.

Not SQLAlchemy's: its greenlets, and turning autocommit on and off at each use, cost a request more than its statement.
Knows no HTTP and never repeats a statement.
"""

import asyncio
import select
from collections import deque
from collections.abc import Awaitable, Callable

import psycopg
from psycopg.pq import TransactionStatus

from app.database.deadline import BoundedAsyncConnection, BoundedConnection

Open = Callable[[], Awaitable[BoundedAsyncConnection]]


class AllLentError(Exception):
    """Every connection was in use until the borrower's time was up."""


class Pool:
    """At most `most` connections, opened when somebody waits for one; who waits longest gets the next.

    A connection that was closed, or on which something came while nobody asked, is replaced when it is about to be
    lent; one whose peer fell silent shows at its first statement.
    """

    def __init__(self, open_: Open, *, most: int) -> None:
        self._open_one = open_
        self._most = most
        # The one used last is the one most likely alive, and the rest may close on the server's side.
        self._idle: list[BoundedAsyncConnection] = []
        self._waiting: deque[asyncio.Future[BoundedAsyncConnection]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = 0
        self._held = 0
        self._closed = False

    def size(self) -> int:
        """Connections that it may hold."""
        return self._most

    def checkedout(self) -> int:
        """Connections that are lent now, or being opened for somebody."""
        return self._held - len(self._idle)

    async def take(self, *, wait: float, seconds: float) -> BoundedAsyncConnection:
        """A connection to be given back. Raises AllLentError after `wait` seconds while others use them all.

        A connection that is being opened is waited for until `seconds` are over: TimeoutError; and what opening raises.
        """
        while self._idle:
            connection = self._idle.pop()
            if is_quiet(connection):
                return connection
            self._drop(connection)
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[BoundedAsyncConnection] = loop.create_future()
        self._waiting.append(mine)
        self._open_more()
        timer = loop.call_later(min(wait, seconds), self._expire, mine, seconds - wait)
        try:
            return await mine
        except asyncio.CancelledError:
            if not mine.cancelled() and mine.exception() is None:
                self.give_back(mine.result())  # it came in the moment in which its borrower gave up
            raise
        finally:
            timer.cancel()

    def give_back(self, connection: BoundedAsyncConnection) -> None:
        """Lend it to the next one, or keep it; what is closed or in the middle of something is dropped."""
        usable = not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE
        if self._closed or not usable:
            self._drop(connection)
            self._open_more()
            return
        waiting = self._next()
        if waiting is None:
            self._idle.append(connection)
        else:
            waiting.set_result(connection)

    def close(self) -> None:
        """Close what nobody uses now, and the rest when it is given back."""
        self._closed = True
        while self._idle:
            self._drop(self._idle.pop())

    def _drop(self, connection: BoundedAsyncConnection) -> None:
        connection.pgconn.finish()
        self._held -= 1

    def _next(self) -> asyncio.Future[BoundedAsyncConnection] | None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                return waiting
        return None

    def _open_more(self) -> None:
        """One for each who waits, as far as there is room."""
        wanted = sum(not waiting.done() for waiting in self._waiting) - self._opening
        for _ in range(min(wanted, self._most - self._held)):
            self._held += 1
            self._opening += 1
            # Of its own: a late one is not cancelled, since an exchange with a silent peer would be waited for.
            task = asyncio.ensure_future(self._open())
            self._tasks.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        try:
            connection = await self._open_one()
        except BaseException as error:
            self._opening -= 1
            self._held -= 1
            waiting = self._next()
            if waiting is not None and isinstance(error, Exception):
                waiting.set_exception(error)
                self._open_more()  # for the others who wait
                return
            if waiting is not None:
                waiting.cancel()
            if not isinstance(error, Exception):
                raise
        else:
            self._opening -= 1
            self.give_back(connection)

    def _expire(self, waiting: asyncio.Future[BoundedAsyncConnection], rest: float) -> None:
        if waiting.done():
            return
        if not self._opening:
            waiting.set_exception(AllLentError())
        elif rest > 0:
            asyncio.get_running_loop().call_later(rest, self._expire, waiting, 0.0)
        else:
            waiting.set_exception(TimeoutError())


def is_quiet(connection: BoundedAsyncConnection | BoundedConnection) -> bool:
    """Whether nothing came while nobody asked: the server's farewell, or the end of the connection."""
    watched = select.poll()
    try:
        watched.register(connection.fileno(), select.POLLIN)
        return not watched.poll(0)
    except psycopg.OperationalError:
        return False
