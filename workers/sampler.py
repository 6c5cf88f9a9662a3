"""Adds up how long tries ran in this process and appends the sums every few seconds: what the ETA rests on."""

from app import events
from app.database.connect import CONNECTION_LOST
from app.database.reconnecting import Reconnecting
from app.queue.eta import EtaStore, Sample
from app.queue.facts import Ended
from workers.service import Service

EVERY = 5.0


class Sampler(Service):
    """One row per queue and kind that had tries, each `every` seconds; an idle worker writes nothing."""

    def __init__(self, maintenance: Reconnecting, *, every: float = EVERY) -> None:
        super().__init__("sampler")
        self.maintenance = maintenance
        self.every = every
        self._sums: dict[tuple[str, str], list[float]] = {}

    async def run(self) -> None:
        """Listen to what ends, and write until stopped."""
        unsubscribe = events.subscribe(Ended, self._note)
        try:
            while await self.pause(self.every):
                await self._write()
            await self._write()
        finally:
            unsubscribe()

    def _note(self, ended: Ended) -> None:
        sums = self._sums
        for job, result, seconds in ended.outcomes:
            if result != "lost":
                key, ran_ms = (job.queue, job.kind), seconds * 1000
                found = sums.get(key)
                if found is None:
                    found = sums[key] = [0, 0.0, 0.0]
                found[0] += 1
                found[1] += ran_ms
                found[2] += ran_ms * ran_ms

    async def _write(self) -> None:
        sums = {key: Sample(int(one[0]), one[1], one[2]) for key, one in self._sums.items()}
        self._sums = {}
        if not sums:
            return
        try:
            await EtaStore(await self.maintenance.get()).add_samples(sums)
        except CONNECTION_LOST as error:  # a few seconds without samples change no expectation
            await self.maintenance.lost(error)
