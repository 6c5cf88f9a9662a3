"""A worker's inbox, slots, executor and finisher without what fetches jobs by itself: it runs what it is given."""

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import Any, Self

from app.config import DatabaseSettings
from app.queue.admission_store import AdmissionStore
from app.queue.job import ClaimedJob
from app.queue.kinds import Kind, Registry
from app.queue.running import Job
from app.queue.store import Lane, Store
from workers.executor import Executor
from workers.finisher import Finisher
from workers.inbox import Inbox
from workers.processes import ProcessPool
from workers.progress import ProgressWriter
from workers.settler import Settler
from workers.slots import Slots
from workers.testing.ground import Ground

LEASE = timedelta(hours=1)
"""Nobody extends it: a test's handlers are done long before, also when the clock is moved."""


class Runner:
    """Claims and runs jobs on a ground; counts tries and keeps the exceptions of handlers."""

    def __init__(self, ground: Ground, registry: Registry, *, slots: int) -> None:
        self.ground = ground
        self.slots = 1 if ground.serial else slots
        self.want = 1 if ground.serial else 100
        self.tries: dict[int, int] = {}
        self.errors: dict[int, BaseException] = {}
        self._worker = uuid.uuid4()
        self._registry = self._watched(registry)
        self._make_parts()

    def _make_parts(self) -> None:
        ground, registry = self.ground, self._registry
        self._inbox = Inbox(slots=self.slots, most=self.want)
        settler = Settler(inbox=self._inbox, settling=ground.settling, registry=registry)
        self._finisher = Finisher(
            inbox=self._inbox, finishing=ground.finishing, registry=registry, settler=settler, delay=0.0
        )
        self._executor = Executor(
            registry=registry,
            inbox=self._inbox,
            finisher=self._finisher,
            open_async=ground.open_async,
            open_sync=ground.open_sync,
            maintenance=ground.maintenance,
            processes=ProcessPool(ground.url, DatabaseSettings()),
            threads=self.slots,
            progress=ProgressWriter(ground.maintenance),
        )
        self._slots = Slots(inbox=self._inbox, executor=self._executor, count=self.slots)

    async def __aenter__(self) -> Self:
        self._finisher.start()
        self._slots.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        async with AsyncExitStack() as stack:  # each of them, whatever the others do
            stack.push_async_callback(self.ground.close)
            stack.callback(self._executor.close)
            stack.push_async_callback(self._finisher.stop, 1.0)
            stack.push_async_callback(self._slots.stop, 0.0)

    async def claim(self, lanes: Sequence[Lane]) -> list[ClaimedJob]:
        """Claim from these lanes."""
        store = Store(await self.ground.claiming.get())
        token = secrets.randbits(63)
        return await store.claim_jobs(lanes, want=self.want, token=token, worker=self._worker, lease=LEASE)

    async def admit(self, queue: str) -> list[ClaimedJob]:
        """Claim from a managed queue what its limits, order and rates allow."""
        store, token = AdmissionStore(await self.ground.claiming.get()), secrets.randbits(63)
        admitted = await store.admit_jobs(
            queue, want=self.want, token=token, worker=self._worker, lease=LEASE, thorough=True
        )
        return admitted.jobs

    async def run(self, jobs: Sequence[ClaimedJob]) -> None:
        """Run claimed jobs to their end; returns when the database knows what has become of them."""
        for job in jobs:
            self.tries[job.id] = self.tries.get(job.id, 0) + 1
            self.errors.pop(job.id, None)
        self._inbox.push(jobs, asked_at=monotonic())
        while self._inbox.held:
            await asyncio.sleep(0.002)
        await self._finisher.flushed()

    @property
    def running(self) -> list[ClaimedJob]:
        """What handlers work on now."""
        return [slot.job for slot in self._slots.slots if slot.job is not None]

    # --- handlers, watched -----------------------------------------------------------------------------------

    def _watched(self, registry: Registry) -> Registry:
        watched = Registry()
        for kind in registry:
            if kind.executor == "async":
                watched.add(replace(kind, handler=self._watch_async(kind.handler)))
            elif kind.executor == "thread" or self.ground.serial:
                # A process could not see what the test has not committed.
                watched.add(replace(kind, executor="thread", handler=self._watch(kind.handler)))
            else:
                watched.add(kind)
        return watched

    def _watch_async(self, handler: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        async def call(work: Any) -> Any:
            with self._noting(work):
                return await handler(work)

        return call

    def _watch(self, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(work: Any) -> Any:
            with self._noting(work):
                return handler(work)

        return call

    @contextmanager
    def _noting(self, work: "Job[Any] | list[Job[Any]]") -> Iterator[None]:
        try:
            with self.ground.guarded():
                yield
        except BaseException as error:
            for job in work if isinstance(work, list) else [work]:
                self.errors[job.id] = error
            raise


def lane_of(queue: str, priority: int, position: int, *, alone: bool = False) -> Lane:
    """The lane from a position on, or just that position."""
    return Lane(queue, priority, position, position + 1 if alone else 2**63 - 1)


def kind_of(registry: Registry, name: str) -> Kind:
    """The kind. Raises LookupError with the names that there are."""
    kind = registry.get(name)
    if kind is None:
        known = ", ".join(sorted(one.name for one in registry)) or "none"
        raise LookupError(f"no handler for kind {name!r} in this registry; it has: {known}")
    return kind
