"""Writes failed tries with their hooks, on a connection of its own: a hook that waits holds up no success.

A try that cannot be written is tried again by itself, and at last left to its lease's expiry.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from app import events
from app.database.connect import CONNECTION_LOST, READ_ONLY
from app.database.reconnecting import Reconnecting
from app.queue.facts import Ended, Outcome
from app.queue.job import ClaimedJob
from app.queue.kinds import Registry, Transition
from app.queue.settle import FailedJob, settle
from app.queue.store import Store
from workers.admitter import Admitter
from workers.bell import Bell, first_of
from workers.inbox import Inbox
from workers.service import Service

AT_ONCE = 50
MOST_TRIES = 10
LONGEST_WAIT = 5.0
_RESULTS: dict[str, Literal["retry", "dead", "cancelled"]] = {
    "RETRY": "retry",
    "DEAD": "dead",
    "CANCELLED": "cancelled",
}


@dataclass(slots=True)
class Entry:
    """A failed try on its way to the database, and how often that did not work."""

    job: ClaimedJob
    seconds: float
    failed: FailedJob
    tries: int = 0
    not_before: float = 0.0


class Settler(Service):
    """Takes failed tries in batches; what failed to be written once goes alone from then on."""

    def __init__(
        self, *, inbox: Inbox, settling: Reconnecting, registry: Registry, admitter: Admitter | None = None
    ) -> None:
        super().__init__("settler")
        self.admitter = admitter
        self.inbox = inbox
        self.settling = settling
        self.registry = registry
        self._entries: deque[Entry] = deque()
        self._something = Bell()
        self._writing = False

    def add(self, job: ClaimedJob, seconds: float, failed: FailedJob) -> None:
        """A try failed, and this is what becomes of its job."""
        self._entries.append(Entry(job, seconds, failed))
        self._something.set()

    @property
    def idle(self) -> bool:
        """Whether everything reported so far is written or given up."""
        return not self._entries and not self._writing

    async def run(self) -> None:
        """Write until stopped and empty."""
        while not (self.stopping.is_set() and not self._entries):
            batch = self._next_batch()
            if not batch:
                await self._wait()
                continue
            self._writing = True
            try:
                await self._settle(batch)
            finally:
                self._writing = False

    def _next_batch(self) -> list[Entry]:
        now = monotonic()
        due = [one for one in self._entries if one.not_before <= now]
        batch = [one for one in due if one.tries == 0][:AT_ONCE] or due[:1]
        chosen = {id(one) for one in batch}
        self._entries = deque(one for one in self._entries if id(one) not in chosen)
        return batch

    async def _wait(self) -> None:
        """Until something new comes, a postponed entry is due, or the end."""
        self._something.clear()
        due = min((entry.not_before for entry in self._entries), default=monotonic() + LONGEST_WAIT)
        bells = [self._something] if self._entries else [self._something, self.stopping]
        await first_of(max(0.0, due - monotonic()), *bells)

    async def _settle(self, batch: list[Entry]) -> None:
        try:
            became = await settle(await self.settling.get(), self.registry, [one.failed for one in batch])
        except asyncio.CancelledError:
            self._entries.extendleft(reversed(batch))
            raise
        except Exception as error:
            # What was committed unseen is not ours any more: the repeat leaves it alone.
            self._postpone(batch, error)
            if isinstance(error, READ_ONLY) or (
                isinstance(error, CONNECTION_LOST) and not self.settling.is_open
            ):
                await self.settling.lost(error)
            return
        ended: list[Outcome] = []
        for one in batch:
            self.inbox.ended(one.job.id, one.job.token)
            transition = became.get(one.job.id)
            if transition is None:
                self._log.warning(
                    "job %s: its lease was lost before its failure could be written", one.job.id
                )
            self._tell(one, transition)
            ended.append(Outcome(one.job, _RESULTS[transition] if transition else "lost", one.seconds))
        events.publish(Ended(ended))
        if self.admitter is not None:
            self.admitter.stir()
        await self._wake(batch, became)

    def _tell(self, one: Entry, transition: Transition | None) -> None:
        """One line for whoever watches: what failed, and what comes next. The traceback stands in tandem.attempt."""
        failed = one.failed.failed
        what = f"job {one.job.id} ({one.job.kind}), try {one.job.attempt}: {failed.message.splitlines()[0][:200]}"
        if transition == "RETRY":
            self._log.info("%s; again in %.1f s", what, failed.delay)
        elif transition == "DEAD":
            self._log.warning("%s; a dead letter of class %s", what, failed.error_class)

    def _postpone(self, batch: list[Entry], error: Exception) -> None:
        alone = len(batch) == 1
        for one in batch:
            one.tries += 1
            if alone and one.tries >= MOST_TRIES:
                self._log.error(
                    "job %s: its failure could not be written; its lease will expire",
                    one.job.id,
                    exc_info=error,
                )
                self.inbox.ended(one.job.id, one.job.token)
                continue
            if alone:
                self._log.warning("job %s: its failure is not written yet: %s", one.job.id, error)
                one.not_before = monotonic() + min(LONGEST_WAIT, 0.05 * 2.0**one.tries)
            self._entries.append(one)

    async def _wake(self, batch: list[Entry], became: dict[int, Transition]) -> None:
        """A retry without delay is ready at once; whoever sleeps should hear of it."""
        queues = {
            one.job.queue
            for one in batch
            if became.get(one.job.id) == "RETRY" and one.failed.failed.delay <= 0
        }
        if not queues:
            return
        try:
            await Store(await self.settling.get()).wake_queues(queues)
        except CONNECTION_LOST as error:
            await self.settling.lost(error)
