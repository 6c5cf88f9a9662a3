"""Lets jobs run, or cancels them, when the jobs that they wait for have ended."""

from time import monotonic

from app.database.deadline import BoundedAsyncConnection
from app.queue.dependencies import release_dependents
from app.queue.kinds import Registry
from app.queue.store import Store
from workers.sweeper.step import Moved, Step

SHARE = 10
"""A look over very many awaited jobs that takes long is repeated only after this many times as long."""


class ReleaseDependents(Step):
    """Walks over the awaited jobs, in batches; costs one probe while nobody waits."""

    name = "dependencies"

    def __init__(self, registry: Registry, *, every: float = 0.25, batch: int = 1000) -> None:
        self.registry = registry
        self.every = every
        self.batch = batch
        self._not_before = 0.0

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Look at every awaited job once."""
        began, free, cancelled = monotonic(), 0, 0
        if began < self._not_before:
            return Moved(0)
        after: int | None = 0
        while after is not None:
            report, after = await release_dependents(connection, self.registry, after=after, most=self.batch)
            if report.queues:
                await Store(connection).wake_queues(report.queues)
            free, cancelled = free + report.free, cancelled + report.cancelled
        if not free + cancelled:
            self._not_before = monotonic() + SHARE * (monotonic() - began) - self.every
        return Moved(free + cancelled, {"cancelled": cancelled})

    def reset(self) -> None:
        """Look at once."""
        self._not_before = 0.0
