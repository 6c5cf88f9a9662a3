"""Connections whose every call ends: no answer within the limit closes the connection and raises.

Keepalives and tcp_user_timeout notice a dead peer; only this notices one whose kernel still answers (a black
hole behind a proxy). No cancel request is sent: it could turn a waiting COMMIT into a false success.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

Result = TypeVar("Result")


class DeadlineExceeded(psycopg.OperationalError):
    """The database did not answer in time; the connection is closed. What was sent may or may not be done."""


class _Limits:
    """What both kinds of connection share: seconds per call, and an absolute end set by `deadline`."""

    def __init__(self) -> None:
        self.per_call: float | None = None
        self.until: float | None = None

    def left(self, asked: float | None) -> float | None:
        """Seconds that the next exchange may take; a caller's own timeout replaces `per_call`."""
        limit = self.per_call if asked is None else asked
        if self.until is None:
            return limit
        rest = max(0.0, self.until - monotonic())
        return rest if limit is None else min(limit, rest)


class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """An async connection with a limit on each call; see `deadline` for a limit over several."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = _Limits()
        self.idle_since = monotonic()
        self.statements: set[bytes] = set()
        """What app.database.prepared has prepared in this session."""

    async def wait(
        self,
        gen: PQGen[Result],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's own signature
    ) -> Result:
        """Run one exchange with the server. Raises DeadlineExceeded when the limit ends first."""
        while True:
            limit = self.limits.left(timeout)
            try:
                return await super().wait(gen, interval, limit)
            except errors._WaitTimeout:
                if limit == timeout and timeout is not None:
                    raise  # the caller's own timeout, as in notifies(timeout=...)
                _give_up_unless_idle(self.pgconn, self.limits, limit)


class BoundedConnection(psycopg.Connection[Any]):
    """The same for synchronous code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = _Limits()
        self.idle_since = monotonic()

    def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:
        """Run one exchange with the server. Raises DeadlineExceeded when the limit ends first."""
        while True:
            limit = self.limits.left(timeout)
            try:
                return super().wait(gen, interval, limit)
            except errors._WaitTimeout:
                if limit == timeout and timeout is not None:
                    raise
                _give_up_unless_idle(self.pgconn, self.limits, limit)


def _give_up_unless_idle(pgconn: Any, limits: _Limits, limit: float | None) -> None:
    over = limits.until is not None and monotonic() >= limits.until
    # Waiting for notifications on an idle connection is not a call that is overdue.
    if not over and pgconn.transaction_status != TransactionStatus.ACTIVE:
        return
    pgconn.finish()
    raise DeadlineExceeded(
        f"the database did not answer within {limit or 0.0:.1f} s; the connection was closed"
    )


@asynccontextmanager
async def deadline(connection: BoundedAsyncConnection, seconds: float) -> AsyncIterator[None]:
    """All calls inside end within `seconds` together, or the connection is closed: DeadlineExceeded."""
    with _until(connection.limits, seconds):
        yield


@contextmanager
def deadline_sync(connection: BoundedConnection, seconds: float) -> Iterator[None]:
    """The same for synchronous code."""
    with _until(connection.limits, seconds):
        yield


@contextmanager
def _until(limits: _Limits, seconds: float) -> Iterator[None]:
    outer = limits.until
    mine = monotonic() + seconds
    limits.until = mine if outer is None else min(outer, mine)
    try:
        yield
    finally:
        limits.until = outer
