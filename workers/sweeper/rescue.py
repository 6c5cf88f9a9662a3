"""Takes jobs back whose lease ran out: their worker is dead, stopped, or cut off from the database.

Decides by leases alone, never by which workers look alive. A bad row is stepped over, never the whole batch.
"""

import logging
from collections.abc import Sequence
from typing import Any

from app.database.deadline import BoundedAsyncConnection
from app.queue.kinds import Registry, Transition
from app.queue.settle import FailedJob, run_hook
from app.queue.store import Failed, Store
from app.queue.store import Moved as MovedJob
from workers.sweeper.promote import next_floor
from workers.sweeper.step import BEGINNING, Moved, Settled, Step

_log = logging.getLogger(__name__)


class RescueJobs(Step):
    """Expired leases become ready again as suspects; one that crashed alone too often becomes a dead letter."""

    name = "rescue"

    def __init__(self, registry: Registry, settled: Settled, *, every: float = 5.0, batch: int = 200) -> None:
        self.registry = registry
        self.settled = settled
        self.every = every
        self.batch = batch
        self._floor = BEGINNING
        self.stepped_over = 0

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Rescue everything that has expired."""
        store, settled = Store(connection), self.settled.at
        counts: dict[str, int] = {"rescued": 0, "dead": 0, "cancelled": 0, "failed": 0}
        after = self._floor
        while True:
            async with connection.transaction():
                rows = await store.find_expired(
                    after=after, most=self.batch, hooked_kinds=self.registry.hooked
                )
                failed_before = counts["failed"]
                queues = await self._rescue(connection, rows, counts)
            await self._wake(store, queues)
            if len(rows) < self.batch:
                break
            if counts["failed"] > failed_before:
                after = rows[-1].expires_at  # go on behind the rows that fail; the next run tries them again
        self._floor = next_floor(self._floor, await store.oldest_expiry(after=self._floor), settled)
        return Moved(counts["rescued"] + counts["dead"] + counts["cancelled"], counts)

    def reset(self) -> None:
        """Look from the beginning once."""
        self._floor = BEGINNING

    async def _rescue(
        self, connection: BoundedAsyncConnection, rows: Sequence[Any], counts: dict[str, int]
    ) -> set[str]:
        try:
            async with connection.transaction():
                return await self._apply(connection, rows, counts)
        except Exception as error:
            if len(rows) <= 1 or connection.closed:
                if connection.closed:
                    raise
                counts["failed"] += 1
                _log.error("job %s cannot be rescued: %s", rows[0].job_id, error, exc_info=error)
                return set()
        queues: set[str] = set()
        for row in rows:
            queues |= await self._rescue(connection, [row], counts)
        return queues

    async def _apply(
        self, connection: BoundedAsyncConnection, rows: Sequence[Any], counts: dict[str, int]
    ) -> set[str]:
        store, by_id = Store(connection), {row.job_id: row for row in rows}
        closing = [failed for row in rows if (failed := self._end(row)) is not None]
        ending = {failed.job_id for failed in closing}
        queues: set[str] = set()
        moves: list[tuple[MovedJob, Transition]] = []
        if len(ending) < len(rows):
            pairs = [(row.job_id, row.token) for row in rows if row.job_id not in ending]
            for back in await store.rescue_jobs(pairs):
                moves.append((MovedJob(back.job_id, back.attempt, back.next_attempt_at), "RESCUED"))
                queues.add(back.queue)
        if closing:
            outcomes = {failed.job_id: failed.outcome for failed in closing}
            ended = await store.close_jobs(closing)
            moves += [(one, "DEAD" if outcomes[one.job_id] == "DEAD" else "CANCELLED") for one in ended]
        for moved, transition in moves:
            row = by_id[moved.job_id]
            entry = FailedJob(row.kind, row.event_id, self._end(row) or _crashed(row), code="crash")
            await run_hook(connection, self.registry, entry, moved, transition)
        for _, transition in moves:
            counts[transition.lower()] += 1
        return queues

    def _end(self, row: Any) -> Failed | None:
        """The end of a job that must not run again, or None."""
        if row.cancelled:
            return Failed(
                row.job_id, row.token, 0.0, "cancelled", "cancelled; its worker is gone", outcome="CANCELLED"
            )
        if row.alone and row.crashes + 1 >= row.crash_limit:
            return _crashed(row)
        return None

    async def _wake(self, store: Store, queues: set[str]) -> None:
        if queues:
            await store.wake_lanes(await store.find_lanes(sorted(queues)))


def _crashed(row: Any) -> Failed:
    message = f"the worker process ended {row.crashes + 1} times while it ran this job alone"
    return Failed(row.job_id, row.token, 0.0, "crash", message, fingerprint="crash")
