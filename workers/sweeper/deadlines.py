"""Ends jobs that waited too long for their first try: their own deadline, or that of their kind, has passed."""

from app.database.deadline import BoundedAsyncConnection
from app.queue.expiry import expire_overdue, expire_stale
from app.queue.expiry_store import ExpiryStore
from app.queue.kinds import Registry
from workers.sweeper.promote import next_floor
from workers.sweeper.step import BEGINNING, Moved, Settled, Step


class ExpireJobs(Step):
    """Own deadlines in the order of their times; for kinds with a deadline a walk over what waits, some each turn."""

    name = "deadlines"

    def __init__(
        self, registry: Registry, settled: Settled, *, every: float = 1.0, batch: int = 2000
    ) -> None:
        self.registry = registry
        self.settled = settled
        self.every = every
        self.batch = batch
        self._floor = BEGINNING
        self._after = 0

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """End what is overdue."""
        settled = self.settled.at
        own = await expire_overdue(connection, self.registry, after=self._floor)
        earliest = await ExpiryStore(connection).earliest_deadline(after=self._floor)
        self._floor = next_floor(self._floor, earliest, settled)
        stale, self._after = await expire_stale(connection, self.registry, after=self._after, most=self.batch)
        failed = len(own.failed) + len(stale.failed)
        return Moved(len(own.jobs) + len(stale.jobs), {"failed": failed})

    def reset(self) -> None:
        """Look from the beginning once."""
        self._floor, self._after = BEGINNING, 0
