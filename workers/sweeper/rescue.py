"""Takes jobs back whose lease ran out: their worker is dead, stopped, or cut off from the database.

Decides by leases alone, never by which workers look alive. A bad row is stepped over, never the whole batch.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.database.deadline import BoundedAsyncConnection
from app.queue.kinds import Registry, Transition
from app.queue.settle import FailedJob, note_deliveries, run_hook
from app.queue.store import Failed, Store
from app.queue.store import Moved as MovedJob
from workers.sweeper.promote import next_floor
from workers.sweeper.step import BEGINNING, Moved, Settled, Step

_log = logging.getLogger(__name__)
LAST_JOB = 2**63 - 1
HOOK_PATIENCE = "SET LOCAL lock_timeout = '2s'"
"""A hook that waits for somebody's lock must not hold up the rescue of everything else."""


class RescueJobs(Step):
    """Expired leases become ready again as suspects; one that crashed alone too often becomes a dead letter."""

    name = "rescue"

    def __init__(self, registry: Registry, settled: Settled, *, every: float = 5.0, batch: int = 200) -> None:
        self.registry = registry
        self.settled = settled
        self.every = every
        self.batch = batch
        self._floor = BEGINNING

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Rescue everything that has expired."""
        settled, counts = self.settled.at, Counter[str]()
        after = (self._floor, LAST_JOB)
        while True:
            rows = await self._page(connection, after, self.batch, counts)
            if len(rows) < self.batch:
                break
            after = (
                rows[-1].expires_at,
                rows[-1].job_id,
            )  # past rows that fail: the next run tries them again
        oldest = await Store(connection).oldest_expiry(after=self._floor)
        self._floor = next_floor(self._floor, oldest, settled)
        detail = {name: counts[name] for name in ("rescued", "dead", "cancelled", "failed")}
        return Moved(sum(detail.values()) - detail["failed"], detail)

    def reset(self) -> None:
        """Look from the beginning once."""
        self._floor = BEGINNING

    async def _page(
        self, connection: BoundedAsyncConnection, after: tuple[datetime, int], most: int, counts: Counter[str]
    ) -> list[Any]:
        """One page in one transaction; when that fails, its rows one by one, each in its own."""
        store, rows = Store(connection), list[Any]()
        try:
            async with connection.transaction():
                await connection.execute(HOOK_PATIENCE)
                rows = await store.find_expired(after=after, most=most, hooked_kinds=self.registry.hooked)
                moved, queues = await self._apply(connection, rows)
        except Exception as error:
            if connection.closed or not rows:
                raise
            if most == 1:
                counts["failed"] += 1
                _log.error("job %s cannot be rescued: %s", rows[0].job_id, error, exc_info=error)
                return rows
            for row in rows:
                await self._page(connection, (row.expires_at, row.job_id - 1), 1, counts)
            return rows
        counts.update(moved)
        await self._wake(store, queues)
        return rows

    async def _apply(
        self, connection: BoundedAsyncConnection, rows: Sequence[Any]
    ) -> tuple[Counter[str], set[str]]:
        store = Store(connection)
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
        entries = {
            row.job_id: FailedJob(row.kind, row.event_id, self._end(row) or _crashed(row), code="crash")
            for row in rows
        }
        await note_deliveries(store, [entries[moved.job_id] for moved, _ in moves])
        for moved, transition in moves:
            await run_hook(connection, self.registry, entries[moved.job_id], moved, transition)
        return Counter(transition.lower() for _, transition in moves), queues

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
            await store.wake_queues(queues)


def _crashed(row: Any) -> Failed:
    message = f"the worker process ended {row.crashes + 1} times while it ran this job alone"
    return Failed(row.job_id, row.token, 0.0, "crash", message, fingerprint="crash")
