"""A pool of blocking connections in autocommit, each lent to one thread at a time. pool.py is for coroutines."""

import threading
from collections.abc import Callable

from psycopg.pq import TransactionStatus

from app.database.deadline import BoundedConnection
from app.database.pool import AllLentError, is_quiet

Open = Callable[[], BoundedConnection]


class SyncPool:
    """At most `most` connections, opened when somebody needs one; what is closed or was told something is replaced."""

    def __init__(self, open_: Open, *, most: int) -> None:
        self._open = open_
        self._most = most
        self._changed = threading.Condition()
        self._idle: list[BoundedConnection] = []
        self._held = 0
        self._closed = False

    def size(self) -> int:
        """Connections that it may hold."""
        return self._most

    def checkedout(self) -> int:
        """Connections that are lent now, or being opened for somebody."""
        return self._held - len(self._idle)

    def take(self, *, wait: float) -> BoundedConnection:
        """A connection to be given back. Raises AllLentError after `wait` seconds, and what opening raises."""
        while True:
            with self._changed:
                free = self._changed.wait_for(lambda: self._idle or self._held < self._most, wait)
                if not free:
                    raise AllLentError
                connection = self._idle.pop() if self._idle else None
                self._held += connection is None
            if connection is None:
                return self._opened()
            if is_quiet(connection):
                return connection
            self._drop(connection)

    def give_back(self, connection: BoundedConnection) -> None:
        """Keep it for the next one; what is closed or in the middle of something is dropped."""
        usable = not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE
        with self._changed:
            if usable and not self._closed:
                self._idle.append(connection)
                self._changed.notify()
                return
        self._drop(connection)

    def close(self) -> None:
        """Close what nobody uses now, and the rest when it is given back."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            self._drop(connection)

    def _opened(self) -> BoundedConnection:
        try:
            return self._open()
        except BaseException:
            self._let_in()
            raise

    def _drop(self, connection: BoundedConnection) -> None:
        connection.pgconn.finish()
        self._let_in()

    def _let_in(self) -> None:
        with self._changed:
            self._held -= 1
            self._changed.notify()
