"""The slots of a worker: each pulls a job from the inbox, runs one try, reports it, and pulls the next.

A monitor enforces time limits without a timer per job. Suspects (see storage design) run alone in the process.
"""

import asyncio
import os
from collections import deque
from time import monotonic
from typing import Literal

from app.queue.job import ClaimedJob
from app.queue.kinds import Kind
from workers.executor import Executor, Stop
from workers.inbox import Inbox
from workers.service import Service

TICK = 0.1
HOLD_SECONDS = 1.0
"""How long claimed jobs wait in this process for a suspect that runs alone, before they go back."""
CORES = os.cpu_count() or 1


def _limit(kind: Kind | None) -> int | None:
    """How many jobs of a kind may run at once here; processes are bounded by the cores unless the kind says."""
    if kind is None:
        return None
    if kind.concurrency is not None:
        return kind.concurrency
    return CORES if kind.executor == "process" else None


class Slot:
    """One place to run a job in."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.job: ClaimedJob | None = None
        self.others: list[ClaimedJob] = []
        """The further jobs of a batch."""
        self.kind: Kind | None = None
        self.stop: Stop | None = None
        self.started_at = 0.0
        self.stuck = False
        self.given_up = asyncio.Event()
        """Set with `stuck`, for whoever waits for the slot."""
        self.temporary = False
        """Made for one suspect: nothing takes its place."""

    def over(self, now: float) -> Literal["no", "soft", "hard"]:
        """Whether the job has passed its kind's limits."""
        if self.job is None or self.kind is None:
            return "no"
        ran = now - self.started_at
        if ran >= self.kind.last_resort:
            return "hard"
        return "soft" if ran >= self.kind.timeout else "no"


class Slots(Service):
    """All slots and their monitor."""

    def __init__(self, *, inbox: Inbox, executor: Executor, count: int) -> None:
        super().__init__("slots")
        self.inbox = inbox
        self.executor = executor
        self.slots = [Slot() for _ in range(count)]
        self.stuck = 0
        """Handlers that ignored their hard limit and were given up; each keeps a thread or task of this process."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[str, int] = {}
        self._parked: dict[str, deque[ClaimedJob]] = {}
        self._suspects: deque[ClaimedJob] = deque()
        self._gate = asyncio.Event()
        self._gate.set()
        self._alone_until = 0.0

    @property
    def busy(self) -> int:
        """How many slots run a job now, given-up ones left out."""
        return sum(1 for slot in self.slots if slot.job is not None)

    async def run(self) -> None:
        """Run slots until stopped; the supervisor stops this only when everything has ended or time is up."""
        for slot in self.slots:
            self._occupy(slot)
        suspects = asyncio.create_task(self._run_suspects())
        try:
            while await self.pause(TICK):
                self._monitor()
        finally:
            for task in (suspects, *(slot.task for slot in self.slots if slot.task)):
                task.cancel()

    async def stop(self, grace: float = 5.0) -> None:
        """End the slots; their handlers get `grace` seconds to clean up after their cancel."""
        await super().stop(grace)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)

    def _occupy(self, slot: Slot) -> None:
        slot.task = self._keep(asyncio.create_task(self._serve(slot)))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, slot: Slot) -> None:
        while True:
            if not self._gate.is_set():
                await self._gate.wait()
            job = self.inbox.take_now() or await self.inbox.take()
            if not self._gate.is_set():
                self.inbox.put_back(job)  # a suspect runs alone now
                continue
            if job.suspect:
                self._park_suspect(job)
                continue
            kind = self.executor.registry.get(job.kind)
            limit = _limit(kind)
            if kind is None or limit is None:
                await self._run(slot, job, kind)
            elif self._running.get(job.kind, 0) < limit:
                await self._run_limited(slot, job, kind)
            else:
                self.inbox.parked += 1
                self._parked.setdefault(job.kind, deque()).append(job)

    async def _run(self, slot: Slot, job: ClaimedJob, kind: Kind | None) -> None:
        slot.job, slot.kind, slot.started_at, slot.stop = job, kind, monotonic(), None
        try:
            if kind is not None and kind.batch is not None:
                slot.others = [] if job.suspect else self.inbox.take_more(kind.name, kind.batch - 1)
                await self.executor.run_batch(slot, [job, *slot.others], kind)
            else:
                await self.executor.run(slot, job, kind)
        except Exception:
            # A fault of ours may cost this try, never the slot: what nobody extends any more is rescued.
            self._log.exception(
                "job %s (%s) could not be run to its end; its lease will expire", job.id, job.kind
            )
            for one in (job, *slot.others):
                self.inbox.ended(one.id, one.token)
        finally:
            slot.job = slot.kind = None
            slot.others = []
        if slot.stuck:
            raise asyncio.CancelledError  # its place was taken by a new slot

    async def _run_limited(self, slot: Slot, job: ClaimedJob, kind: Kind) -> None:
        """Run jobs of a kind with a concurrency limit; the next parked one takes the same place."""
        parked = self._parked.setdefault(kind.name, deque())
        self._running[kind.name] = self._running.get(kind.name, 0) + 1
        try:
            await self._run(slot, job, kind)
            while parked and not self.inbox.closed:
                if not self._gate.is_set():
                    await self._gate.wait()
                    continue
                self.inbox.parked -= 1
                await self._run(slot, parked.popleft(), kind)
        finally:
            if not slot.stuck:
                self._running[kind.name] -= 1

    # --- time limits -----------------------------------------------------------------------------------------

    def _monitor(self) -> None:
        now = monotonic()
        for slot in list(self.slots):
            try:
                self._check(slot, now)
            except Exception:  # a monitor that ends would end every slot with it
                self._log.exception("a time limit could not be enforced")

    def _check(self, slot: Slot, now: float) -> None:
        over = slot.over(now)
        if over == "soft" and slot.stop is None:
            self.interrupt(slot, "timeout")
        elif over == "hard":
            self._give_up(slot)

    def interrupt(self, slot: Slot, stop: Stop) -> None:
        """Tell a slot's handler to end: cancels a coroutine, signals a thread or a process."""
        if slot.job is None or slot.stop is not None:
            return
        slot.stop = stop
        self.executor.interrupt(slot)

    def interrupt_jobs(self, stops: dict[tuple[int, int], Stop]) -> None:
        """Interrupt the slots that run these (job, token)s: a newer try of the same job here goes on."""
        for slot in self.slots:
            stop = stops.get((slot.job.id, slot.job.token)) if slot.job is not None else None
            # One job of a batch that is cancelled or lost must not take its mates along.
            if stop is not None and (not slot.others or stop == "shutdown"):
                self.interrupt(slot, stop)

    def _give_up(self, slot: Slot) -> None:
        """Past the hard limit: a process is killed and returns by itself, everything else loses its slot."""
        if self.executor.kill(slot):
            return
        job = slot.job
        if job is None:
            return
        self.stuck += 1
        self._log.error("job %s (%s) ignores its hard limit; its slot is replaced", job.id, job.kind)
        self.executor.report_timeout(slot)
        slot.stuck = True
        slot.given_up.set()
        if slot.temporary:
            self.slots.remove(slot)
            return
        replacement = Slot()
        self.slots[self.slots.index(slot)] = replacement
        self._occupy(replacement)
        if slot.kind is not None and _limit(slot.kind) is not None:
            self._pass_on(slot.kind)

    def _pass_on(self, kind: Kind) -> None:
        """A given-up handler no longer counts against its kind's limit, or the parked jobs would wait for ever."""
        self._running[kind.name] -= 1
        if parked := self._parked.get(kind.name):
            self.inbox.parked -= 1
            self.inbox.put_back(parked.popleft())

    # --- suspects --------------------------------------------------------------------------------------------

    def _park_suspect(self, job: ClaimedJob) -> None:
        self.inbox.set_aside += 1
        self._suspects.append(job)

    async def _run_suspects(self) -> None:
        """One suspect at a time, with nothing beside it, for at most half of the time while others wait."""
        while True:
            if not self._suspects or self.inbox.closed or monotonic() < self._alone_until:
                await asyncio.sleep(TICK / 2)
                continue
            began = monotonic()
            self._gate.clear()
            self.inbox.gated = True
            letting_go = asyncio.create_task(self._let_others_go())
            try:
                while self.busy:
                    await asyncio.sleep(0.005)
                if self._suspects and not self.inbox.closed:
                    await self._run_alone(self._suspects.popleft())
            except Exception:
                self._log.exception("a suspect could not be run; its lease will expire")
            finally:
                letting_go.cancel()
                self.inbox.gated = False
                self._gate.set()
                self.inbox.low.set()
            others = len(self.inbox) > 0
            self._alone_until = monotonic() + ((monotonic() - began) if others else 0.0)

    async def _let_others_go(self) -> None:
        """What this process holds unstarted goes back once a suspect takes long: other workers can run it now."""
        await asyncio.sleep(HOLD_SECONDS)
        jobs = [*self.inbox.drain(), *self._suspects]
        self.inbox.set_aside -= len(self._suspects)
        self._suspects.clear()
        if jobs:
            # Shielded: what was taken out must be handed back, also when the suspect ends meanwhile.
            back = asyncio.create_task(self.executor.hand_back(jobs))
            self._keep(back)
            await asyncio.shield(back)

    async def _run_alone(self, job: ClaimedJob) -> None:
        self.inbox.set_aside -= 1
        if not await self._marked(job):
            self.inbox.ended(job.id, job.token)
            return
        slot = Slot()
        slot.temporary = True
        self.slots.append(slot)
        slot.task = self._keep(
            asyncio.create_task(self._run(slot, job, self.executor.registry.get(job.kind)))
        )
        given_up = asyncio.ensure_future(slot.given_up.wait())
        try:
            await asyncio.wait([slot.task, given_up], return_when=asyncio.FIRST_COMPLETED)
        finally:
            given_up.cancel()
            if slot in self.slots:
                self.slots.remove(slot)

    async def _marked(self, job: ClaimedJob) -> bool:
        try:
            return await self.executor.mark_alone(job)
        except Exception:
            self._log.exception("job %s could not be marked", job.id)
            return False

    def hanging(self) -> int:
        """Tasks of slots, given-up ones included, that did not end when they were cancelled."""
        return sum(1 for task in self._tasks if not task.done())

    def drain(self) -> list[ClaimedJob]:
        """Take out parked jobs, which nobody has started."""
        jobs = [*self._suspects, *(job for parked in self._parked.values() for job in parked)]
        self._suspects.clear()
        for parked in self._parked.values():
            parked.clear()
        self.inbox.parked = self.inbox.set_aside = 0
        return jobs
