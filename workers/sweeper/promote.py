"""Moves jobs that have come due from `scheduled` to `ready` and wakes their workers."""

from datetime import datetime, timedelta

from app.database.deadline import BoundedAsyncConnection
from app.queue.store import Store
from workers.sweeper.step import BEGINNING, Moved, Settled, Step

JUST_BEFORE = timedelta(microseconds=1)


class PromoteJobs(Step):
    """In batches, earliest first, from the floor below which nothing is scheduled any more."""

    name = "promote"

    def __init__(self, settled: Settled, *, every: float = 0.5, batch: int = 1000) -> None:
        self.settled = settled
        self.every = every
        self.batch = batch
        self._floor = BEGINNING

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Promote everything that is due."""
        store, settled, total = Store(connection), self.settled.at, 0
        while True:
            promoted, lanes, _ = await store.promote_jobs(after=self._floor, most=self.batch)
            total += promoted
            if promoted:
                await store.wake_lanes(lanes)
            if promoted < self.batch:
                break
        self._floor = next_floor(self._floor, await store.earliest_due(after=self._floor), settled)
        return Moved(total)

    def reset(self) -> None:
        """Look from the beginning once."""
        self._floor = BEGINNING


def next_floor(floor: datetime, earliest: datetime | None, settled: datetime) -> datetime:
    """The highest time below which no row is left and none can appear."""
    bound = settled if earliest is None else min(settled, earliest - JUST_BEFORE)
    return max(floor, bound)
