"""What this process holds: claimed jobs waiting for a slot, and every lease it must keep alive or end.

Plain memory of one process; the database knows nothing of it. The lease table alone says who holds what.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from math import inf
from time import monotonic

from app.queue.job import ClaimedJob
from workers.bell import Bell


class Inbox:
    """One deque from which all slots pull, and the set of leases held. Only `leases_older_than` is thread-safe."""

    def __init__(self, *, slots: int, most: int, lease: float = inf) -> None:
        self.slots = slots
        self.most = most
        self.lease = lease
        """Seconds that a lease lasts from the claim or its last extension."""
        self.extended: dict[tuple[int, int], float] = {}
        """When the last heartbeat was sent, for each lease that it extended; its thread replaces the whole of it."""
        self._unfinished_limit = slots + 5 * most
        self.low = Bell()
        self.closed = False
        self.gated = False
        """A suspect runs alone: nothing is claimed meanwhile."""
        self.parked = 0
        """Jobs that were taken but wait for their kind's turn."""
        self.set_aside = 0
        """Suspects that wait to run alone; a reserve of them must not keep other jobs out."""
        self._promised = 0
        """Free slots for which an admission is on its way."""
        self._jobs: deque[ClaimedJob] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._held: dict[tuple[int, int], float] = {}
        self._ended = 0
        self._rate = 0.0
        self._measured = monotonic()
        self._enough = 0
        """So many unstarted jobs, and more are asked for: half of the last reserve."""

    # --- jobs waiting for a slot -----------------------------------------------------------------------------

    def push(self, jobs: Iterable[ClaimedJob], *, asked_at: float, first: Sequence[ClaimedJob] = ()) -> None:
        """Take claimed jobs in; `asked_at` is the monotonic time before the claim was sent. `first` pass all others."""
        # The heartbeat's thread copies `_held` meanwhile: it may see a part of them.
        held, waiting = self._held, self._jobs
        for job in jobs:
            held[job.id, job.token] = asked_at
            waiting.append(job)
        if first:
            passing = {job.id for job in first}
            others = [job for job in self._jobs if job.id not in passing]
            self._jobs = deque((*first, *others))
        self._wake_some()

    async def take(self) -> ClaimedJob:
        """The next job for a slot; waits for one."""
        while not self._jobs:
            self.low.set()
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and self._jobs:
                    self._wake_one()
                raise
        job = self._next()
        self._wake_some()
        return job

    def take_now(self) -> ClaimedJob | None:
        """The next job if one is here: a busy worker's jobs need no coroutine each."""
        return self._next() if self._jobs else None

    def _next(self) -> ClaimedJob:
        job = self._jobs.popleft()
        if len(self._jobs) <= self._enough and not self.low.is_set():
            self.low.set()
        return job

    def take_more(self, kind: str, most: int) -> list[ClaimedJob]:
        """Up to `most` further jobs of one kind, without waiting; suspects stay where they are."""
        taken: list[ClaimedJob] = []
        left: deque[ClaimedJob] = deque()
        for job in self._jobs:
            fits = len(taken) < most and job.kind == kind and not job.suspect
            (taken if fits else left).append(job)
        if taken:
            self._jobs = left
            if len(left) <= self._enough:
                self.low.set()
        return taken

    def room(self) -> int:
        """How many more jobs to claim: one per free slot, and a reserve of what the slots end in about 0.2 s."""
        if self.closed or self.gated or len(self._held) > self._unfinished_limit:
            return 0  # the database does not take our finishes: do not take more jobs from it
        too_many = max(0, self.set_aside - self.most)
        return self.free_slots + self._reserve() - len(self._jobs) - self.parked - too_many - self._promised

    def spare(self, ahead: int = 0) -> int:
        """How many slots are free now and not spoken for, with `ahead` jobs more that may wait for one."""
        if self.closed or self.gated or len(self._held) > self._unfinished_limit:
            return 0
        return self.free_slots + ahead - len(self._jobs) - self.parked - self.set_aside - self._promised

    def promise(self, want: int) -> int:
        """Speak for `want` free slots, or jobs ahead, while an admission is asked for them; `redeem` must follow."""
        want = max(0, want)
        self._promised += want
        return want

    def redeem(self, want: int, jobs: Sequence[ClaimedJob], *, asked_at: float) -> None:
        """What became of a promise; slots that it leaves free are anybody's again."""
        self._promised -= want
        self.push(jobs, asked_at=asked_at)
        if len(jobs) < want:
            self.low.set()

    def put_back(self, job: ClaimedJob) -> None:
        """Undo `take`: the job is the next one again."""
        self._jobs.appendleft(job)
        self._wake_one()

    def drain(self) -> list[ClaimedJob]:
        """Take out everything that no slot has started."""
        jobs = list(self._jobs)
        self._jobs.clear()
        return jobs

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def free_slots(self) -> int:
        """Slots that wait for a job, without those that will take the ones that are here."""
        return max(0, len(self._waiters) - len(self._jobs))

    def ends_in(self, seconds: float) -> int:
        """How many jobs the slots end in so long at their present pace, at most `most`."""
        now = monotonic()
        passed = now - self._measured
        if passed >= 0.05:
            self._rate = 0.5 * self._rate + 0.5 * self._ended / passed
            self._ended, self._measured = 0, now
        return min(self.most, int(self._rate * seconds))

    def _reserve(self) -> int:
        # Slow jobs get none: a job kept behind busy slots would wait while another worker's slots are free.
        reserve = self.ends_in(0.2)
        self._enough = reserve // 2
        return reserve

    def _wake_some(self) -> None:
        # Two, and each wakes two more when it has its job: a slot ends many short jobs before the next one runs at
        # all, and fifty slots woken for nothing cost as much. While jobs wait, one of those slots is on its way.
        for _ in range(min(2, len(self._jobs), len(self._waiters))):
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    # --- leases ----------------------------------------------------------------------------------------------

    def ended(self, job_id: int, token: int) -> None:
        """Forget a lease: finished, handed back or lost. What is forgotten is no longer extended."""
        self.all_ended([(job_id, token)])

    def all_ended(self, pairs: Iterable[tuple[int, int]]) -> None:
        """`ended` for many (job, token)s."""
        held = self._held
        before = len(held)
        for pair in pairs:
            held.pop(pair, None)
        self._ended += before - len(held)
        self._reserve()
        if len(held) <= self._unfinished_limit < before:
            self.low.set()

    def leases_older_than(self, age: float) -> list[tuple[int, int]]:
        """(job, token) of the leases held for at least `age` seconds; safe from another thread."""
        limit = monotonic() - age
        return [pair for pair, since in self._held.copy().items() if since <= limit]

    def holds(self, job_id: int, token: int) -> bool:
        """Whether this process still answers for the lease."""
        return (job_id, token) in self._held

    def lives(self, job: ClaimedJob) -> bool:
        """Whether the lease cannot have run out yet: who stood still must not start what another has by now."""
        pair = (job.id, job.token)
        since = self.extended.get(pair) or self._held.get(pair)
        return since is None or monotonic() - since < self.lease

    @property
    def held(self) -> int:
        """How many leases this process holds."""
        return len(self._held)
