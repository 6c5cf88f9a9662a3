"""Looks behind the fast floors: rows that committed late, after this process had claimed past their position.

Runs on the maintenance connection, takes a few per cent of the time at most, and brings the safe floors along.
"""

import secrets
from datetime import timedelta
from time import monotonic
from uuid import UUID

from app import events
from app.database.connect import CONNECTION_LOST
from app.database.reconnecting import Reconnecting
from app.queue.admission_store import AdmissionStore
from app.queue.claim import Floors
from app.queue.facts import Claimed
from app.queue.store import Store
from workers.admitter import Admitter
from workers.inbox import Inbox
from workers.service import Service

EVERY = 0.25
SHARE = 30.0
"""A probe that took t seconds is followed by at least SHARE * t seconds without one."""


class Prober(Service):
    """Claims from [safe, fast) of every lane."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        floors: Floors,
        maintenance: Reconnecting,
        worker: UUID,
        lease: timedelta,
        batch: int,
        admitter: Admitter | None = None,
    ) -> None:
        super().__init__("prober")
        self.admitter = admitter
        self.inbox = inbox
        self.floors = floors
        self.maintenance = maintenance
        self.worker = worker
        self.lease = lease
        self.batch = batch
        self.found = 0

    async def run(self) -> None:
        """Probe until stopped."""
        took = 0.0
        while await self.pause(max(EVERY, SHARE * took)):
            try:
                took = await self._probe()
            except CONNECTION_LOST as error:
                await self.maintenance.lost(error)

    async def _probe(self) -> float:
        store, asked_at = Store(await self.maintenance.get()), monotonic()
        generation = self.maintenance.generation
        if self.admitter is not None:
            await self.admitter.refresh(AdmissionStore(store.connection))
        safe = await store.read_floors(self.floors.queues)
        if self.maintenance.generation == generation:
            self.floors.settle(safe)
        gaps = self.floors.behind()
        if not gaps or self.inbox.closed:
            return 0.0
        # One more than there is room for: a busy worker has no room left whenever it is asked, and late rows would
        # wait for the end of the backlog.
        want = min(self.batch, max(1, self.inbox.room()))
        before_claim = monotonic()
        jobs = await store.claim_jobs(
            gaps, want=want, token=secrets.randbits(63), worker=self.worker, lease=self.lease
        )
        if jobs:
            self.found += len(jobs)
            if len(jobs) >= want:
                self.floors.step_back(jobs)
            self.inbox.push(jobs, asked_at=before_claim)
            events.publish(Claimed(jobs))
        return monotonic() - asked_at
