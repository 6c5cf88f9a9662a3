"""Keeps partitions of job, done and attempt ready ahead of need, and starts a new one each day."""

from datetime import timedelta

import psycopg

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
        added, failure = 0, None
        for number in range(current, current + AHEAD + 1):
            if number in numbers:
                continue
            try:
                async with connection.transaction():
                    await connection.execute("SET LOCAL lock_timeout = '500ms'")
                    added += await store.add_partition(number)
            except psycopg.Error as error:
                # Ids that came before their partition stand in the default one and forbid it for ever; the next
                # partition is not theirs.
                failure = error
        if old and current + 1 in (await store.find_partitions(every=self.span))[2]:
            await store.start_partition(current + 1)
        if failure is not None:
            raise failure
        return Moved(added)
