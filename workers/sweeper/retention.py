"""Lets go of what is past its time: old partitions, results, unique keys, and jobs kept from dropped partitions."""

import logging
from datetime import timedelta

from psycopg import errors

from app.database.deadline import BoundedAsyncConnection
from app.queue.eta import EtaStore
from app.queue.progress import ProgressStore
from app.queue.rates import forget_rates
from app.queue.schedule_store import ScheduleStore
from app.queue.store import Store
from workers.sweeper.step import Moved, Step

_log = logging.getLogger(__name__)
SURVIVORS_AT_MOST = 10_000


class DropPartitions(Step):
    """Drops a partition once its jobs have ended and are past the retention; the few that have not are moved."""

    name = "retention"

    def __init__(self, *, retention: timedelta, every: float = 600.0) -> None:
        self.retention = retention
        self.every = every

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Drop what is old enough, oldest first; a lock that is not free at once leaves it for the next turn."""
        store, dropped, kept = Store(connection), 0, 0
        current, _, numbers = await store.find_partitions(every=timedelta(days=1))
        for number in (one for one in numbers if one < current):
            survivors = await store.find_survivors(number, retention=self.retention, most=SURVIVORS_AT_MOST)
            if survivors is None:
                continue
            try:
                async with connection.transaction():
                    await connection.execute("SET LOCAL lock_timeout = '200ms'")
                    kept += await store.drop_partition(number, survivors)
            except (errors.LockNotAvailable, errors.ObjectInUse, errors.DeadlockDetected) as error:
                _log.info("partition %s is not dropped now: %s", number, error)
                continue
            dropped += 1
        return Moved(dropped, {"kept": kept})


class ForgetExpired(Step):
    """Results, unique keys, kept jobs and rates, in batches; and the rows of old ticks and of workers long gone."""

    name = "expire"

    def __init__(self, *, retention: timedelta, every: float = 60.0, batch: int = 1000) -> None:
        self.retention = retention
        self.every = every
        self.batch = batch

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Forget everything that is past its time."""
        store, counts = (
            Store(connection),
            {
                "results": 0,
                "unique_keys": 0,
                "kept_jobs": 0,
                "rates": 0,
                "ticks": 0,
                "progress": 0,
                "samples": 0,
                "workers": 0,
            },
        )
        while (found := await store.expire_results(most=self.batch)) > 0:
            counts["results"] += found
        while (found := await store.expire_unique_keys(most=self.batch)) > 0:
            counts["unique_keys"] += found
        while (found := await store.forget_kept(retention=self.retention, most=self.batch)) > 0:
            counts["kept_jobs"] += found
        while (found := await forget_rates(connection, most=self.batch)) > 0:
            counts["rates"] += found
        counts["samples"] = await EtaStore(connection).forget_samples()
        counts["progress"] = await ProgressStore(connection).forget_progress(retention=self.retention)
        counts["ticks"] = await ScheduleStore(connection).forget_ticks(retention=self.retention)
        counts["workers"] = await store.forget_workers(retention=self.retention)
        return Moved(sum(counts.values()), counts)
