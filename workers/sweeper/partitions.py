"""Keeps partitions of job, done and attempt ready ahead of need, and starts a new one each day."""

from datetime import timedelta

from app.database.deadline import BoundedAsyncConnection
from app.queue.store import Store
from workers.sweeper.step import Moved, Step

AHEAD = 2


class KeepPartitions(Step):
    """Two partitions are always there before ids reach them; a day's jobs share one, so that a day can be dropped."""

    name = "partitions"

    def __init__(self, *, every: float = 60.0, span: timedelta = timedelta(days=1)) -> None:
        self.every = every
        self.span = span

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Add what is missing ahead; move the ids on when the current partition is a day old."""
        store = Store(connection)
        current, old, numbers = await store.find_partitions(every=self.span)
        added = 0
        for number in range(current, current + AHEAD + 1):
            if number not in numbers:
                async with connection.transaction():
                    await connection.execute("SET LOCAL lock_timeout = '500ms'")
                    added += await store.add_partition(number)
        if old:
            await store.start_partition(current + 1)
        return Moved(added)
