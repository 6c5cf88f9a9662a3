"""Runs the steps: once in a row for cron, or on their own paces under APScheduler while this process leads.

A step that fails or hangs is reported and tried again at its next turn; the others have their own connections.
"""

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from uuid import UUID

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app import events
from app.config import SweeperSettings
from app.database.connect import CONNECTION_LOST, READ_ONLY
from app.database.reconnecting import Open, Reconnecting
from app.queue.facts import Swept
from app.queue.kinds import Registry
from workers.sweeper.cancels import SettleCancels
from workers.sweeper.cron import FireSchedules
from workers.sweeper.deadlines import ExpireJobs
from workers.sweeper.dependencies import ReleaseDependents
from workers.sweeper.floors import MoveFloors
from workers.sweeper.leader import Leadership
from workers.sweeper.lines import KeepLines
from workers.sweeper.partitions import KeepPartitions
from workers.sweeper.priorities import RecalculatePriorities
from workers.sweeper.promote import PromoteJobs
from workers.sweeper.reconcile import Reconcile, Reconciler
from workers.sweeper.rescue import RescueJobs
from workers.sweeper.retention import DropPartitions, ForgetExpired
from workers.sweeper.step import Moved, Settled, Step

_log = logging.getLogger(__name__)
FORGET_EVERY = 300.0
"""Seconds after which remembered floors are dropped, in case the database's clock was set back."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """How one run of a step went."""

    name: str
    moved: int
    seconds: float
    error: str | None
    detail: dict[str, int]


def all_steps(registry: Registry, reconcilers: Sequence[Reconciler], settings: SweeperSettings) -> list[Step]:
    """The steps of this service, in the order in which a single pass runs them."""
    settled = Settled()
    retention = timedelta(days=settings.retention_days)
    return [
        MoveFloors(settled, every=min(1.0, settings.every_seconds)),
        FireSchedules(registry, every=min(1.0, settings.every_seconds)),
        PromoteJobs(settled, every=min(0.5, settings.every_seconds), batch=settings.batch),
        ReleaseDependents(registry, every=min(0.25, settings.every_seconds)),
        ExpireJobs(registry, settled, every=min(1.0, settings.every_seconds)),
        RescueJobs(registry, settled, every=settings.every_seconds),
        KeepLines(every=settings.every_seconds, batch=settings.batch),
        RecalculatePriorities(registry, every=min(1.0, settings.every_seconds)),
        SettleCancels(registry, every=settings.every_seconds),
        *(Reconcile(one) for one in reconcilers),
        KeepPartitions(),
        DropPartitions(retention=retention),
        ForgetExpired(retention=retention, batch=settings.batch),
    ]


async def run_step(step: Step, connection: Reconnecting) -> StepReport:
    """Run one step now; whatever goes wrong stands in the report."""
    started, moved, error = monotonic(), Moved(0), None
    try:
        opened = await connection.get()
        if connection.generation != step.generation:
            # After a crash positions are given out again and rows come back: what was remembered may be false.
            step.reset()
            step.generation = connection.generation
        moved = await step.run_once(opened)
    except CONNECTION_LOST as lost:
        error = _first_line(lost)
        if isinstance(lost, READ_ONLY) or not connection.is_open:
            await connection.close()
    except Exception as failed:
        error = _first_line(failed)
        _log.exception("sweeper step %s failed", step.name)
    report = StepReport(step.name, moved.rows, monotonic() - started, error, moved.detail)
    events.publish(Swept(step.name, report.moved, report.seconds, failed=error is not None))
    return report


async def sweep_once(steps: Sequence[Step], opener: Open, leadership: Leadership) -> list[StepReport] | None:
    """One pass over all steps, for cron. None when another process leads. Raises Unavailable without a database."""
    connection = await opener()
    try:
        if not await leadership.acquire(connection):
            return None
        holder = Reconnecting("sweeper", opener)
        try:
            # The steps that keep floors run twice: a sample settles only when the transactions of its time have ended.
            again = [step for step in steps if isinstance(step, MoveFloors)]
            reports = [await run_step(step, holder) for step in (*steps, *again)]
        finally:
            await holder.close()
        await leadership.release(connection)
        return reports
    finally:
        await connection.close()


class Sweeper:
    """The steps under APScheduler in a thread of their own, so that a blocked event loop does not stop rescue."""

    def __init__(
        self, *, steps: Sequence[Step], opener: Open, holder: UUID | None = None, leader_lease: float = 15.0
    ) -> None:
        self.steps = steps
        self.leadership = Leadership(holder or uuid.uuid4(), lease=leader_lease)
        self.on_report: Callable[[StepReport], None] | None = None
        self._opener = opener
        self._leading = Reconnecting("sweeper leadership", opener)
        self._connections = {step.name: Reconnecting(f"sweeper {step.name}", opener) for step in steps}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="sweeper", daemon=True)
        self._was_leader = False
        self._turns = 0
        self._forgotten_at = monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._ready.wait(5.0)

    def ask_to_stop(self) -> None:
        """Let `run` give leadership up and end; from any thread or signal handler."""
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    def stop(self) -> None:
        """Give leadership up and end the thread."""
        self.ask_to_stop()
        if self._thread.ident is not None:
            self._thread.join(10.0)

    def _main(self) -> None:
        asyncio.run(self.run())

    async def run(self) -> None:
        """Lead when possible until stopped."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        scheduler = AsyncIOScheduler(event_loop=self._loop)
        scheduler.add_listener(_job_failed, EVENT_JOB_ERROR)
        for step in self.steps:
            options = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
            jitter = min(0.2, step.every / 10)
            scheduler.add_job(
                self._turn,
                "interval",
                args=[step],
                seconds=step.every,
                jitter=jitter,
                id=step.name,
                **options,
            )
        scheduler.start()
        self._ready.set()
        try:
            await self._lead()
        finally:
            scheduler.pause()
            await self._quiet(2.0)
            scheduler.shutdown(wait=False)
            await self._resign()

    async def _quiet(self, seconds: float) -> None:
        """Let the turns that are under way end."""
        end = monotonic() + seconds
        while self._turns and monotonic() < end:
            await asyncio.sleep(0.01)

    async def _lead(self) -> None:
        stop = self._stop
        assert stop is not None  # noqa: S101 - set by run
        waiter = asyncio.ensure_future(stop.wait())
        while not stop.is_set():
            renewal = asyncio.ensure_future(self._renew())
            await asyncio.wait([renewal, waiter], return_when=asyncio.FIRST_COMPLETED)
            if not renewal.done():
                renewal.cancel()
                await asyncio.wait([renewal])  # or the connection it is opening would outlive us
            elif error := renewal.exception():
                _log.error("leadership could not be renewed", exc_info=error)
            await asyncio.wait([waiter], timeout=self.leadership.lease / 3)

    async def _renew(self) -> None:
        try:
            leads = await self.leadership.acquire(await self._leading.get())
        except CONNECTION_LOST as error:
            await self._leading.lost(error)
            return
        if leads and not self._was_leader:
            _log.info("this process leads the sweep")
            for step in self.steps:
                step.reset()
        if not leads and self._was_leader:
            _log.info("another process leads the sweep")
            for connection in self._connections.values():
                await connection.close()
        self._was_leader = leads

    async def _turn(self, step: Step) -> None:
        if not self.leadership.held:
            return
        if monotonic() - self._forgotten_at > FORGET_EVERY:
            self._forgotten_at = monotonic()
            for one in self.steps:
                one.reset()
        self._turns += 1
        try:
            report = await run_step(step, self._connections[step.name])
        except asyncio.CancelledError:
            if self._stop is not None and self._stop.is_set():
                return  # the database is away, and we do not wait for it
            raise
        finally:
            self._turns -= 1
        if self.on_report is not None:
            self.on_report(report)

    async def _resign(self) -> None:
        try:
            if self._leading.is_open:
                await self.leadership.release(await self._leading.get())
        except CONNECTION_LOST as error:
            _log.warning("leadership was not given up, it runs out by itself: %s", error)
        for connection in (self._leading, *self._connections.values()):
            await connection.close()


def _job_failed(event: JobExecutionEvent) -> None:
    _log.error("sweeper turn %s failed", event.job_id, exc_info=event.exception)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
