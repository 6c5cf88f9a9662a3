"""How much is asked of a managed queue: a job for each free slot, and short jobs ahead, never behind long ones."""

import asyncio
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from app.queue.admission_store import AdmissionStore, Admitted
from app.queue.store import Finish
from tests.workers.test_inbox import job, takers
from workers.admitter import SHORT_MS, Admitter
from workers.inbox import Inbox

SLOTS, BATCH = 10, 20


class FakeStore:
    """Answers an admission with so many jobs, and remembers what was asked for."""

    def __init__(self, jobs: int = 0) -> None:
        self.jobs = jobs
        self.wanted: list[int] = []

    async def admit_jobs(self, queue: str, *, want: int, **_: Any) -> Admitted:
        """As AdmissionStore does."""
        self.wanted.append(want)
        return Admitted([job(n, queue=queue) for n in range(min(want, self.jobs))], set(), None)


def admitter_of(inbox: Inbox) -> Admitter:
    return Admitter(
        inbox=inbox, queues=("default",), worker=UUID(int=1), lease=timedelta(seconds=30), batch=BATCH
    )


def hurry(inbox: Inbox, rate: float) -> None:
    """As if so many jobs a second had ended lately."""
    inbox._rate, inbox._ended, inbox._measured = rate, 0, inbox._measured + 3600.0


async def ask(admitter: Admitter, store: FakeStore, *ran_ms: float) -> int:
    """Finish jobs that ran so long and ask for others; answers how many were asked for."""
    finished = [Finish(n, n, ms) for n, ms in enumerate(ran_ms)]
    await admitter.admit(cast("AdmissionStore", store), "default", finished=finished)
    return store.wanted[-1]


async def test_short_jobs_are_asked_for_ahead_up_to_a_batch() -> None:
    inbox = Inbox(slots=SLOTS, most=2 * BATCH)
    waiting, admitter, store = await takers(inbox, SLOTS), admitter_of(inbox), FakeStore()
    hurry(inbox, rate=1_000_000)
    assert await ask(admitter, store) == SLOTS, "nothing is known of the queue's jobs yet"
    assert await ask(admitter, store, *[0.1] * 50) == BATCH
    assert admitter.room("default") == SLOTS + 2 * BATCH
    hurry(inbox, rate=100)
    assert await ask(admitter, store) == SLOTS + 4, "what the slots end in 40 ms"
    for task in waiting:
        task.cancel()


@pytest.mark.parametrize("runs", [[5.0] * 50, [0.1] * 49 + [100.0]])
async def test_nothing_waits_behind_jobs_that_take_long(runs: list[float]) -> None:
    inbox = Inbox(slots=SLOTS, most=2 * BATCH)
    waiting, admitter, store = await takers(inbox, SLOTS), admitter_of(inbox), FakeStore()
    hurry(inbox, rate=1_000_000)
    assert await ask(admitter, store, *runs) == SLOTS
    admitter.ran("default", 100_000, 10.0)
    assert await ask(admitter, store) == BATCH, "the mean follows what runs now"
    admitter.ran("default", 1, 1_000_000 * SHORT_MS)
    assert await ask(admitter, store) == SLOTS, "one that took very long, in its own transaction"
    for task in waiting:
        task.cancel()


async def test_nothing_waits_for_slots_that_are_held_by_jobs_that_never_end() -> None:
    inbox = Inbox(slots=SLOTS, most=2 * BATCH)
    waiting, admitter, store = await takers(inbox, SLOTS // 2 - 1), admitter_of(inbox), FakeStore()
    hurry(inbox, rate=1_000_000)
    assert await ask(admitter, store, 0.1) == SLOTS // 2 - 1
    inbox.closed = True
    assert await ask(admitter, store, 0.1) == 0
    for task in waiting:
        task.cancel()


async def test_a_promise_that_was_not_kept_lets_others_ask_at_once() -> None:
    inbox = Inbox(slots=SLOTS, most=2 * BATCH)
    waiting, admitter = await takers(inbox, SLOTS), admitter_of(inbox)
    inbox.low.clear()
    assert await ask(admitter, FakeStore(jobs=SLOTS)) == SLOTS
    assert not inbox.low.is_set(), "every slot has a job"
    await asyncio.wait(waiting)
    waiting = await takers(inbox, SLOTS)
    inbox.low.clear()
    await ask(admitter, FakeStore(jobs=1))
    assert inbox.low.is_set(), "a producer that saw the promise waits for room, and nobody else would tell it"
    for task in waiting:
        task.cancel()
