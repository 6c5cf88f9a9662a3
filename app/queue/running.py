"""What a handler gets: its job with the typed payload, and the transaction that ends the job with its effects.

Made by the worker for each try; holds no connection until `transaction` asks for one.
"""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

import psycopg

from app.errors import AppError
from app.queue import lease
from app.queue.job import PAYLOAD_LIMIT_BYTES, ClaimedJob, encode_json, is_delivery
from app.queue.kinds import Kind
from app.queue.progress import Progress

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

Payload = TypeVar("Payload")
OpenAsync = Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]]
Report = Callable[[int, int, Progress], None]
OpenSync = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


@dataclass(slots=True)
class JobTransaction:
    """An open fenced transaction: write through `connection`, and set `result` for what the job shall answer."""

    connection: Any
    result: Any = None


class Job(Generic[Payload]):
    """One try of one job, as its handler sees it."""

    def __init__(
        self,
        claimed: ClaimedJob,
        kind: Kind,
        *,
        open_async: OpenAsync | None = None,
        open_sync: OpenSync | None = None,
        report: Report | None = None,
    ) -> None:
        self.claimed = claimed
        self.kind = kind
        self.completed = False
        """True once `transaction` has committed: the job is done, whatever the handler does after."""
        self.started_at = monotonic()
        self._open_async = open_async
        self._open_sync = open_sync
        self._report = report
        self.reported: Progress | None = None
        """What `progress` was told last."""

    @property
    def stop_requested(self) -> threading.Event:
        """Set when the handler should end: time limit, cancel, lost lease or shutdown. Thread handlers look at it."""
        # Made when first asked for: an Event costs a tenth of a worker's work on a small job. `setdefault` has one
        # winner when the handler's thread and the worker ask at once.
        made: dict[str, threading.Event] = self.__dict__
        return made.get("_stop_requested") or made.setdefault("_stop_requested", threading.Event())

    @property
    def id(self) -> int:
        """The job's id."""
        return self.claimed.id

    @property
    def attempt(self) -> int:
        """Which try this is, from 1."""
        return self.claimed.attempt

    @property
    def event_id(self) -> UUID | None:
        """The event that caused the job, if any."""
        return self.claimed.event_id

    @property
    def context(self) -> dict[str, Any]:
        """What was carried along: the producer's request_id; `schedule` and `tick` of a job that cron made."""
        return self.claimed.context

    @property
    def payload(self) -> Payload:
        """The typed payload. Raises pydantic.ValidationError, a permanent failure."""
        made: dict[str, Any] = (
            self.__dict__
        )  # functools.cached_property takes a lock, which costs as much as to decode
        if "_payload" not in made:
            made["_payload"] = self.kind.decode(self.claimed.raw_payload)
        payload: Payload = made["_payload"]
        return payload

    @property
    def waited(self) -> float:
        """Seconds from ready to the start of this try: the database's clock up to the claim, ours after it."""
        before = (self.claimed.claimed_at - self.claimed.ready_at).total_seconds()
        return max(0.0, before + self.started_at - self.claimed.received_at)

    def progress(self, percent: float, stage: str = "") -> None:
        """Say how far this try is, for whoever watches. Raises InvalidInput for what is not 0 to 100.

        Costs nothing to call often: written at most once a second, the last value when the handler ends, never after
        the lease is lost. From coroutines, threads and processes.
        """
        self.reported = Progress.of(percent, stage)
        if self._report is not None:
            self._report(self.id, self.claimed.token, self.reported)

    @property
    def ran_ms(self) -> float:
        """Milliseconds since the try started."""
        return (monotonic() - self.started_at) * 1000.0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection of the worker's pool, in autocommit, for what does not end the job: reading, say.

        Give it back (leave the block) before `transaction`. Raises AppError in threads and processes.
        """
        async with self._lent() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self, session: "AsyncSession | None" = None) -> AsyncIterator[JobTransaction]:
        """End the job and its effects in one transaction: exactly once, however often the job runs.

        The lease is proved first and the job is finished last; a stale try raises LeaseLost before any effect.
        With `session`, a SQLAlchemy session that has not begun yet, its writes are the effects. READ COMMITTED only.
        """
        self._ensure_open()
        if session is not None:
            async with session.begin():
                raw = await (await session.connection()).get_raw_connection()
                connection = raw.driver_connection
                if not isinstance(connection, psycopg.AsyncConnection):
                    raise AppError("unknown-connection", "job.transaction(session) needs postgresql+psycopg")
                await lease.fence(connection, self.id, self.claimed.token)
                opened = JobTransaction(session)
                yield opened
                await session.flush()
                await self._complete(connection, opened)
        else:
            async with (
                self._lent() as connection,
                lease.job_transaction(connection, self.id, self.claimed.token),
            ):
                opened = JobTransaction(connection)
                yield opened
                await self._complete(connection, opened)
        self.completed = True

    @contextmanager
    def transaction_sync(self) -> Iterator[JobTransaction]:
        """`transaction` for thread and process handlers, on a psycopg connection."""
        self._ensure_open()
        if self._open_sync is None:
            raise AppError(
                "no-connection", "this executor has no sync connection: use `async with transaction()`"
            )
        with self._open_sync() as connection, connection.transaction():
            lease.fence_sync(connection, self.id, self.claimed.token)
            opened = JobTransaction(connection)
            yield opened
            lease.complete_sync(
                connection,
                self.id,
                self.claimed.token,
                ran_ms=self.ran_ms,
                result=encode_result(opened.result),
                ttl=self.kind.result_ttl,
                delivery=is_delivery(self.claimed.queue),
            )
        self.completed = True

    async def _complete(self, connection: psycopg.AsyncConnection[Any], opened: JobTransaction) -> None:
        await lease.complete(
            connection,
            self.id,
            self.claimed.token,
            ran_ms=self.ran_ms,
            result=encode_result(opened.result),
            ttl=self.kind.result_ttl,
            delivery=is_delivery(self.claimed.queue),
        )

    def _lent(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        if self._open_async is None:
            raise AppError("no-connection", "this executor has no async connection: use transaction_sync()")
        return self._open_async()

    def _ensure_open(self) -> None:
        if self.completed:
            raise AppError("already-completed", f"job {self.id} was completed by an earlier transaction")


def encode_result(result: Any) -> str | None:
    """A handler's result as JSON text. Raises InvalidInput for what cannot be stored."""
    return None if result is None else encode_json(result, limit=PAYLOAD_LIMIT_BYTES, what="result")
