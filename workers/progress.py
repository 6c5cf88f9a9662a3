"""Writes how far jobs are: at most once a second for each, many in one statement, and the last value at the end.

Handlers call `report` from any thread; it only notes the value. A job that reports nothing costs nothing.
"""

from time import monotonic

from app.database.connect import CONNECTION_LOST
from app.database.reconnecting import Reconnecting
from app.queue.progress import Progress, ProgressStore
from workers.service import Service

EVERY = 1.0
LOOK_EVERY = 0.2


class ProgressWriter(Service):
    """The newest value of each try, and when it was last written."""

    def __init__(self, maintenance: Reconnecting) -> None:
        super().__init__("progress")
        self.maintenance = maintenance
        self._news: dict[tuple[int, int], Progress] = {}
        self._written: dict[tuple[int, int], float] = {}

    def report(self, job_id: int, token: int, progress: Progress) -> None:
        """Note the newest value; safe from any thread."""
        self._news[job_id, token] = progress

    async def flush(self, job_id: int, token: int) -> None:
        """Write what is left of a try that ends, and forget it."""
        if (job_id, token) in self._news:
            await self._write([(job_id, token)])
        self._written.pop((job_id, token), None)

    async def run(self) -> None:
        """Write what is due until stopped."""
        while await self.pause(LOOK_EVERY):
            if not self._news:
                continue
            now = monotonic()
            due = [pair for pair in self._news.copy() if now - self._written.get(pair, -EVERY) >= EVERY]
            if due:
                await self._write(due)

    async def _write(self, pairs: list[tuple[int, int]]) -> None:
        values = [(*pair, news) for pair in pairs if (news := self._news.pop(pair, None)) is not None]
        now = monotonic()
        self._written.update({(job, token): now for job, token, _ in values})
        try:
            ours = await ProgressStore(await self.maintenance.get()).write_progress(values)
        except CONNECTION_LOST as error:
            await self.maintenance.lost(error)
            for job, token, progress in values:  # unless there is something newer by now
                self._news.setdefault((job, token), progress)
            return
        for job, token, _ in values:
            if job not in ours:
                self._written.pop((job, token), None)
