"""Wakes up, claims as much as there is room for, and sleeps again: the protocol of sql/functions/wake.sql.

Asleep means: our locks are held on seats and wake lanes, so commits after it see us. Falling asleep is lock, one claim
from the safe floors, then wait. The locks are kept while claims stay short and given up when busy. A commit tells two
sleepers of its queue: a worker that was told and cannot take what is there tells two others.
"""

import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from time import monotonic
from typing import Literal
from uuid import UUID

from app import events
from app.database.connect import CONNECTION_LOST
from app.database.reconnecting import Open, Reconnecting
from app.queue import wake
from app.queue.admission_store import AdmissionStore
from app.queue.claim import Floors
from app.queue.facts import Claimed
from app.queue.job import ClaimedJob
from app.queue.store import Lane, Store
from workers.admitter import Admitter
from workers.bell import Bell, first_of
from workers.inbox import Inbox
from workers.service import Service
from workers.sleeper import Sleeper

Mode = Literal["poll", "listen", "hybrid"]
Look = Callable[[Sequence[str]], list[Lane]]
LISTEN_RECHECK = 30.0
"""How often mode `listen` looks all the same: a foreign producer may commit long after its probe."""
PASSED_OVER = 0.05
"""Seconds that a sleeper keeps managed jobs to itself that it was told of and had no free slot for."""
_REFUSED_WAITS = (*wake.RECHECKS[1:], wake.STEADY)


class Producer(Service):
    """Fills the inbox. Mode `poll` looks every `poll_every` s, `listen` trusts notifications, `hybrid` does both."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        floors: Floors,
        claiming: Reconnecting,
        open_listener: Open | None,
        on_cancel: Callable[[], None] = lambda: None,
        worker: UUID,
        lease: timedelta,
        batch: int,
        mode: Mode = "hybrid",
        poll_every: float = 10.0,
        admitter: Admitter | None = None,
    ) -> None:
        super().__init__("producer")
        self.inbox = inbox
        self.floors = floors
        self.claiming = claiming
        self.worker = worker
        self.lease = lease
        self.batch = batch
        self.mode = mode
        self.poll_every = poll_every
        self.admitter = admitter or Admitter(inbox=inbox, queues=(), worker=worker, lease=lease, batch=batch)
        self.sleeper = Sleeper(open_listener, on_cancel) if mode != "poll" and open_listener else None
        self._generation = 0
        self._refused = 0
        """How often in a row falling asleep was not possible."""
        self._passed_over = False
        """Whether the last look left a managed queue out, for want of a free slot."""
        self._overdue: float | None = None
        """When others are told of what was left out."""
        self._found: set[str] = set()
        """The queues in which the last whole look found jobs."""

    async def run(self) -> None:
        """Claim until stopped."""
        if self.sleeper:
            self.sleeper.start()
        try:
            while not self.stopping.is_set():
                try:
                    await self._round()
                except CONNECTION_LOST as error:
                    await self.claiming.lost(error)
        finally:
            if self.sleeper:
                await self.sleeper.stop()

    async def _round(self) -> None:
        """Busy: claim ahead of the fast floors. Once short, fall asleep until something may be there."""
        want = self._room()
        if want <= 0:
            await self._wait_for_room()
            return
        want = min(want, self.floors.batch(self.batch))
        jobs = await self._claim(self.floors.ahead, want)
        if jobs and self.sleeper is not None and self.sleeper.deaf:
            self._refused = 0  # where nothing wakes us, work tells that more may follow soon
        if await self._admit(thorough=False) or len(jobs) >= want:
            return
        await self._sleep()

    def _room(self) -> int:
        """Jobs of managed queues need a slot that is free, or are short; others may also wait for one."""
        managed = self.admitter.managed
        if managed and managed.issuperset(self.floors.queues):
            return max(map(self.admitter.room, managed))
        return self.inbox.room()

    async def _sleep(self) -> None:
        if self.sleeper is None:
            self.admitter.stirred.clear()
            if not await self._claim_everything():
                await self._wait(min(self.poll_every, self.admitter.patience), self.admitter.stirred)
            return
        waits = self._waits()
        if await self.sleeper.lie_down(self.floors.queues):
            self._refused = 0
        else:
            # No lock now: look again soon, then try to lie down again; later and later while it is refused.
            waits = iter((_REFUSED_WAITS[min(self._refused, len(_REFUSED_WAITS) - 1)],))
            self._refused += 1
        # The queues of which others must be told: of these we were told, or saw jobs, and left some.
        owed: set[str] = set()
        try:
            while not self.stopping.is_set():
                self.admitter.stirred.clear()
                if self._room() <= 0:
                    break  # nobody sleeps while every slot is busy: who enqueues would notify in vain
                owed |= self.sleeper.hear_out()
                if await self._claim_everything():
                    owed |= self._found
                    break
                owed = await self._pass_on(owed)
                if self.sleeper.interrupted:
                    break
                wait = next(waits, None)
                if wait is None:
                    break
                wait = min(wait, self.admitter.patience, PASSED_OVER if owed else wait)
                await self._wait(wait, self.sleeper.heard, self.admitter.stirred)
        finally:
            await self.sleeper.get_up(tell=owed | self.sleeper.hear_out())

    async def _pass_on(self, told: set[str]) -> set[str]:
        """What is still owed to others after a look that was not full: managed jobs that found no free slot.

        They are ours if one is free soon, else others are told; at once, two such workers would never stop telling.
        """
        owed = told & self.admitter.managed if self._passed_over else set()
        if not owed:
            self._overdue = None
        elif self._overdue is None:
            self._overdue = monotonic() + PASSED_OVER
        elif monotonic() >= self._overdue and self.sleeper is not None:
            self._overdue = None
            await self.sleeper.tell_others(owed)
            return set()
        return owed

    def _waits(self) -> Iterator[float]:
        if self.mode == "hybrid":
            return wake.rechecks()
        return itertools.chain(wake.RECHECKS, itertools.repeat(LISTEN_RECHECK))

    async def _claim_everything(self) -> bool:
        """Claim from the safe floors; True when there is more than there was room for."""
        want = min(self._room(), self.floors.batch(self.batch))
        self._found = set()
        if want <= 0:
            return True
        jobs = await self._claim(self.floors.everything, want)
        return await self._admit(thorough=True) or len(jobs) >= want

    async def _admit(self, *, thorough: bool) -> bool:
        """Take from the managed queues what there is room for; True when one had as much as was asked for."""
        more = self._passed_over = False
        for queue in self.floors.in_turn() if self.admitter.managed else ():
            if not self.admitter.manages(queue):
                continue
            if self.admitter.room(queue) <= 0:
                self._passed_over = True
                continue
            store = AdmissionStore(await self.claiming.get())
            admitted, want = await self.admitter.admit(store, queue, thorough=thorough)
            more = more or len(admitted.jobs) >= want > 0
            if admitted.jobs:
                self._found.add(queue)
        return more

    async def _claim(self, look: Look, want: int) -> list[ClaimedJob]:
        """Claim up to `want` from the lanes that `look` names, a part of the queues at a time."""
        claimed = list[ClaimedJob]()
        for part in self.floors.parts():
            queues = [queue for queue in part if not self.admitter.manages(queue)]
            if queues:
                claimed += await self._claim_part(look, queues, want - len(claimed))
            if len(claimed) >= want or self.stopping.is_set():
                break
        return claimed

    async def _claim_part(self, look: Look, queues: Sequence[str], want: int) -> list[ClaimedJob]:
        connection = await self.claiming.get()
        if self.claiming.generation != self._generation:
            self._generation = self.claiming.generation
            self.floors.forget()
        asked_at = monotonic()
        jobs = await Store(connection).claim_jobs(
            look(queues), want=want, token=secrets.randbits(63), worker=self.worker, lease=self.lease
        )
        first = self.floors.learn(jobs, want)
        if jobs:
            self.floors.passed(jobs)
            self._found.update({job.queue for job in jobs})
            self.inbox.push(jobs, asked_at=asked_at, first=first)
            events.publish(Claimed(jobs))
        return jobs

    async def _wait_for_room(self) -> None:
        self.inbox.low.clear()
        if self._room() > 0:
            return
        if self.sleeper is None:
            await self._wait(1.0, self.inbox.low)
            return
        if self.sleeper.heard.is_set():
            await self.sleeper.tell_others(self.sleeper.hear_out())
        await self._wait(1.0, self.inbox.low, self.sleeper.heard)

    async def _wait(self, seconds: float, *bells: Bell) -> None:
        """Wait for one of the bells, a stop, or the time, whichever comes first."""
        await first_of(seconds, self.stopping, *bells)
