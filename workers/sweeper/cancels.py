"""Ends waiting jobs whose cancel was asked for but not done at once, and forgets requests that came too late."""

from app.database.deadline import BoundedAsyncConnection
from app.queue.admin import settle_cancels
from app.queue.kinds import Registry
from workers.sweeper.step import Moved, Step


class SettleCancels(Step):
    """Running jobs are their workers' business; this is for jobs that moved while the request was written."""

    name = "cancels"

    def __init__(self, registry: Registry, *, every: float = 5.0, batch: int = 100) -> None:
        self.registry = registry
        self.every = every
        self.batch = batch

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """End what is asked for."""
        return Moved(await settle_cancels(connection, self.registry, most=self.batch))
