"""Claims from managed queues, for slots that are free now: after a look, and in the statement that finishes jobs.

Jobs shorter than what their admission costs are also asked for ahead, so that one call brings many. Which queues are
managed is re-read while the worker runs. Limits and order are the database's business (admit_jobs).
"""

import logging
import secrets
from collections.abc import Collection, Sequence
from datetime import timedelta
from time import monotonic
from uuid import UUID

from app import events
from app.queue.admission_store import AdmissionStore, Admitted
from app.queue.facts import Claimed
from app.queue.store import Finish
from workers.bell import Bell
from workers.inbox import Inbox

REREAD = 2.0
SHORT_MS = 1.0
"""Jobs that run longer on average never wait here for a slot: what counts against limits shall run."""
AHEAD = 0.04
"""Seconds of work that short jobs are asked for ahead: about what two admissions take, which go on meanwhile."""
_SMOOTHED = 200
"""Over how many jobs the mean run time of a queue's jobs is taken, about."""
_log = logging.getLogger(__name__)


class Admitter:
    """What the producer and the finisher of one worker share about managed queues."""

    def __init__(
        self, *, inbox: Inbox, queues: Collection[str], worker: UUID, lease: timedelta, batch: int
    ) -> None:
        self.inbox = inbox
        self.queues = tuple(queues)
        self.worker = worker
        self.lease = lease
        self.batch = batch
        self.managed: frozenset[str] = frozenset()
        self.stirred = Bell()
        """Something ended that no admission followed: whoever sleeps shall look again."""
        self._due: dict[str, float] = {}
        self._mean_ms: dict[str, float] = {}
        self._read_at = 0.0

    def manages(self, queue: str) -> bool:
        """Whether the queue is managed, as far as this process knows."""
        return queue in self.managed

    def stir(self) -> None:
        """A slot is free, or a limit has room, and nobody has asked for more jobs yet."""
        if self.managed:
            self.stirred.set()

    def ran(self, queue: str, jobs: int, run_ms: float) -> None:
        """So many jobs of a managed queue ended, after `run_ms` milliseconds in all."""
        part = jobs / (jobs + _SMOOTHED)
        mean = self._mean_ms.get(queue, run_ms / jobs)
        self._mean_ms[queue] = mean + part * (run_ms / jobs - mean)

    def room(self, queue: str) -> int:
        """How many jobs to ask a managed queue for: one per free slot, and short ones ahead, but not in driblets."""
        ahead = self._ahead(queue)
        room = self.inbox.spare(ahead)
        return room if room > ahead // 2 else 0

    def _ahead(self, queue: str) -> int:
        # Long jobs that never ended are in no mean, but they hold slots.
        if self._mean_ms.get(queue, SHORT_MS + 1) > SHORT_MS or 2 * self.inbox.free_slots < self.inbox.slots:
            return 0
        return self.inbox.ends_in(AHEAD)

    @property
    def patience(self) -> float:
        """Seconds until a key that was parked is due."""
        return max(0.0, min(self._due.values(), default=float("inf")) - monotonic())

    async def refresh(self, store: AdmissionStore, *, every: float = REREAD) -> None:
        """Read which queues are managed, if that was long ago."""
        if monotonic() - self._read_at < every:
            return
        managed = frozenset(await store.find_managed(self.queues))
        self._read_at = monotonic()
        if managed != self.managed:
            _log.info("managed queues: %s", ", ".join(sorted(managed)) or "none")
            self.managed = managed
            self._due = {queue: due for queue, due in self._due.items() if queue in managed}
            self.stirred.set()

    async def admit(
        self, store: AdmissionStore, queue: str, *, finished: Sequence[Finish] = (), thorough: bool = False
    ) -> tuple[Admitted, int]:
        """Finish jobs and take others from one queue; answers what came and how much was asked for."""
        if finished:
            self.ran(queue, len(finished), sum(row.ran_ms for row in finished))
        want = self.inbox.promise(min(self.batch, self.inbox.spare(self._ahead(queue))))
        asked_at, jobs = monotonic(), []
        try:
            admitted = await store.admit_jobs(
                queue,
                want=want,
                token=secrets.randbits(63),
                worker=self.worker,
                lease=self.lease,
                thorough=thorough,
                finished=finished,
            )
            jobs = admitted.jobs
        finally:
            self.inbox.redeem(want, jobs, asked_at=asked_at)
        if jobs:
            events.publish(Claimed(jobs))
        if want:
            self._due.pop(queue, None)
            if admitted.due is not None:
                self._due[queue] = asked_at + admitted.due
        return admitted, want
