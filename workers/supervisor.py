"""A worker process from start to end: what starts in which order, what signals do, and how it drains.

Builds everything from settings, a registry of kinds and the applications' reconcilers; owns no logic of its own.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from app.config import Settings
from app.database.connect import CONNECTION_LOST, connect, is_pooled
from app.database.deadline import BoundedAsyncConnection
from app.database.pooled import moves
from app.database.reconnecting import Open, Reconnecting
from app.database.session_settings import idle_limit
from app.errors import ConfigurationError
from app.queue.admission_store import AdmissionStore
from app.queue.claim import Floors
from app.queue.kinds import Registry
from app.queue.schedules import declare_schedules
from app.queue.store import PINNED_PLANS, Store
from workers.admitter import Admitter
from workers.connections import HandlerConnections
from workers.executor import Executor, Stop
from workers.finisher import Finisher
from workers.garbage import collect_young
from workers.heartbeat import Heartbeat
from workers.inbox import Inbox
from workers.prober import Prober
from workers.processes import ProcessPool
from workers.producer import Producer
from workers.progress import ProgressWriter
from workers.sampler import Sampler
from workers.settler import Settler
from workers.slots import Slots
from workers.sweeper.reconcile import Reconciler
from workers.sweeper.sweeper import Sweeper, all_steps

VERSION = "0.1.0"
_log = logging.getLogger(__name__)


class Supervisor:
    """One worker process. `run` returns when it has drained after `ask_to_stop`, or a signal."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        registry: Registry,
        *,
        reconcilers: Sequence[Reconciler] = (),
        lent: HandlerConnections | None = None,
        sweep: bool = True,
    ) -> None:
        worker = settings.worker
        self.settings = settings
        self.url = url
        self.registry = registry
        self.id = uuid.uuid4()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.lease = timedelta(seconds=worker.lease_seconds)
        self.queues = list(worker.queues)
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.started = asyncio.Event()

        self.loop: asyncio.AbstractEventLoop | None = None
        self.lent = lent or HandlerConnections(url, settings.database)
        self._make_connections()
        self._make_path()
        self._make_services(reconcilers if sweep else None)

    def _make_connections(self) -> None:
        """Claims and finishes of at-least-once jobs need no flush: a server crash runs such a job again."""
        limit = str(self.settings.database.lock_timeout_ms)
        session = {**PINNED_PLANS, "synchronous_commit": "off", "lock_timeout": limit}
        self.claiming = Reconnecting("claim", self._opener("claim", session=session))
        self.maintenance = Reconnecting("maintenance", self._opener("maintenance", session=session))
        self.finishing = Reconnecting("finish", self._opener("finish", session=session))
        self.settling = Reconnecting("settle", self._opener("settle", session=session))

    def _make_path(self) -> None:
        """The way of a job through this process: inbox, slots, executor, finisher."""
        worker, registry = self.settings.worker, self.registry
        most = worker.claim_batch * worker.prefetch_batches
        self.inbox = Inbox(slots=worker.slots, most=most, lease=worker.lease_seconds)
        self.admitter = Admitter(
            inbox=self.inbox,
            queues=worker.queues,
            worker=self.id,
            lease=self.lease,
            batch=worker.claim_batch,
        )
        self.finisher = Finisher(
            inbox=self.inbox,
            finishing=self.finishing,
            settler=Settler(
                inbox=self.inbox, settling=self.settling, registry=registry, admitter=self.admitter
            ),
            admitter=self.admitter,
            registry=registry,
            batch=worker.finish_batch,
            delay=worker.finish_delay_ms / 1000,
        )
        self.progress = ProgressWriter(self.maintenance)
        self.sampler = Sampler(self.maintenance)
        self.executor = Executor(
            registry=registry,
            inbox=self.inbox,
            finisher=self.finisher,
            open_async=self.lent.open_async,
            open_sync=self.lent.open_sync,
            maintenance=self.maintenance,
            processes=ProcessPool(self.url, self.settings.database),
            threads=worker.slots,
            progress=self.progress,
        )
        self.slots = Slots(inbox=self.inbox, executor=self.executor, count=worker.slots)

    def _make_services(self, reconcilers: Sequence[Reconciler] | None) -> None:
        """What brings jobs in, keeps their leases, and sweeps."""
        settings, worker = self.settings, self.settings.worker
        floors, batch = Floors(worker.queues), worker.claim_batch
        self.prober = Prober(
            inbox=self.inbox,
            floors=floors,
            maintenance=self.maintenance,
            worker=self.id,
            lease=self.lease,
            batch=batch,
            admitter=self.admitter,
        )
        self.producer = Producer(
            inbox=self.inbox,
            floors=floors,
            claiming=self.claiming,
            open_listener=self._opener("listen", url=settings.database_listen_url or self.url),
            worker=self.id,
            lease=self.lease,
            batch=batch,
            on_cancel=self._beat_soon,
            mode=worker.mode,
            poll_every=worker.poll_seconds,
            admitter=self.admitter,
        )
        self.heartbeat = Heartbeat(
            inbox=self.inbox,
            opener=self._opener("heartbeat"),
            worker=self.id,
            lease=self.lease,
            on_lost=lambda leases: self._interrupt_soon(leases, "lost"),
            on_cancel=lambda leases: self._interrupt_soon(leases, "cancel"),
        )
        self.sweeper = (
            Sweeper(
                steps=all_steps(self.registry, reconcilers, settings.sweeper),
                opener=self._opener("sweeper"),
                holder=self.id,
                leader_lease=settings.sweeper.leader_lease_seconds,
            )
            if reconcilers is not None
            else None
        )

    @property
    def pools(self) -> dict[str, Any]:
        """The pools from which handlers take connections, by name, for gauges."""
        return self.lent.pools

    # --- connections -----------------------------------------------------------------------------------------

    def _opener(self, name: str, *, url: str | None = None, session: dict[str, str] | None = None) -> Open:
        # Who is stopped or cut off inside a transaction would keep its rows for ever: rescue steps over locked ones.
        limits = {**idle_limit(self.settings.database), **(session or {})}

        async def open_connection() -> BoundedAsyncConnection:
            return await connect(url or self.url, name=name, settings=self.settings.database, session=limits)

        return open_connection

    # --- life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start, work until asked to stop, drain, end. Safe to interrupt at any moment: leases run out."""
        self.loop = asyncio.get_running_loop()
        self._catch_signals()
        starting = asyncio.ensure_future(self._start())
        stop = asyncio.ensure_future(self.stopping.wait())
        await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        elif starting.exception() is None:
            self.started.set()
            _log.info(
                "worker %s serves %s with %d slots",
                self.name,
                ", ".join(self.queues),
                self.settings.worker.slots,
            )
            await self._watch(stop)
        await asyncio.gather(starting, return_exceptions=True)
        await self._drain()
        if starting.done() and not starting.cancelled() and starting.exception() is not None:
            raise starting.exception() or RuntimeError("the worker could not start")

    def ask_to_stop(self) -> None:
        """The first call drains; the second one does not wait for running jobs."""
        if self.stopping.is_set():
            self.hurry.set()
        self.stopping.set()

    def _catch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not in the main thread (tests): then only ask_to_stop ends the worker.
            with contextlib.suppress(RuntimeError, ValueError, NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(number, self.ask_to_stop)

    async def _start(self) -> None:
        while True:
            connection = await self.maintenance.get()
            try:
                await self._declare(Store(connection))
                await self._refuse_hidden_pooler(connection)
                break
            except CONNECTION_LOST as error:  # all of it can be repeated: an answer may have been lost
                await self.maintenance.lost(error)
        self.heartbeat.start()
        self.finisher.start()
        self.slots.start()
        self.progress.start()
        self.sampler.start()
        self.prober.start()
        self.producer.start()
        if self.sweeper is not None:
            self.sweeper.start()

    async def _refuse_hidden_pooler(self, connection: BoundedAsyncConnection) -> None:
        """A pooler that passes the server's process number on is not seen at the start of a connection."""
        claiming = await self.claiming.get()
        if is_pooled(connection) or is_pooled(claiming):
            _log.info(
                "worker %s works through a transaction pooler: every transaction brings its settings",
                self.name,
            )
        elif await moves(connection, claiming):
            raise ConfigurationError(
                "hidden-pooler",
                "statements of one connection run in different server processes: a transaction pooler stands in "
                "between and hides it; set TANDEM_DATABASE__POOLER=transaction",
            )

    async def _declare(self, store: Store) -> None:
        """Make known which queues are served, which kinds can run, and that this process is there."""
        await store.declare_queues(self.queues)
        await self.admitter.refresh(AdmissionStore(store.connection), every=0.0)
        if len(self.registry):
            await store.declare_kinds(
                [
                    (kind.name, kind.retry.max_attempts, kind.crash_limit, kind.hook is not None)
                    for kind in self.registry
                ]
            )
        await declare_schedules(store.connection, self.registry.schedules)
        await store.register_worker(
            worker=self.id,
            name=self.name,
            mode=self.settings.worker.mode,
            queues=self.queues,
            concurrency=self.settings.worker.slots,
            version=VERSION,
        )

    async def _watch(self, stop: "asyncio.Task[Literal[True]]") -> None:
        """Wait for the stop; a worker whose heartbeat died would lose every lease, so it ends instead."""
        while not stop.done():
            await asyncio.wait([stop], timeout=1.0)
            collect_young()
            if not self.heartbeat.alive and not stop.done():
                _log.critical("the heartbeat thread is gone: the worker ends, its supervisor starts another")
                self.stopping.set()
            if self.slots.stuck >= self.settings.worker.slots and not stop.done():
                _log.critical(
                    "as many handlers were given up as there are slots: the worker ends to get rid of them"
                )
                self.stopping.set()

    async def _drain(self) -> None:
        """Claim no more, hand back what has not started, let the rest end within the grace, write everything."""
        self.inbox.closed = True
        _log.info("worker %s drains, %d jobs run", self.name, self.slots.busy)
        # A claim ends in milliseconds; who cannot even reach the database is not waited for.
        await asyncio.gather(self.producer.stop(2.0), self.prober.stop(2.0))
        unstarted = [*self.inbox.drain(), *self.slots.drain()]
        await self._bounded(self.executor.hand_back(unstarted), 5.0)
        await self._wait_for_jobs(self.settings.worker.drain_seconds)
        left = [job for slot in self.slots.slots if slot.job is not None for job in (slot.job, *slot.others)]
        if left:
            _log.warning("%d jobs still run after the grace period; they go back", len(left))
            self.slots.interrupt_jobs({(job.id, job.token): "shutdown" for job in left})
            await self._wait_for_jobs(2.0)
        await self._bounded(self.finisher.flushed(), 10.0)
        await self.slots.stop(0.5)
        left = [job for job in left if self.inbox.holds(job.id, job.token)]
        await self._bounded(self.executor.hand_back(left, started=True), 5.0)
        await asyncio.gather(self.finisher.stop(2.0), self.progress.stop(1.0), self.sampler.stop(1.0))
        self.executor.close()
        if self.sweeper is not None:
            await asyncio.to_thread(self.sweeper.stop)
        self.heartbeat.stop()  # last: leases live until their jobs are written
        await self._close()

    async def _wait_for_jobs(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self.slots.busy and loop.time() < end and not self.hurry.is_set():
            await asyncio.sleep(0.02)

    async def _bounded(self, work: Any, seconds: float) -> None:
        """Shutdown work never hangs: what it leaves undone, lease expiry does."""
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            _log.warning("the database did not take everything in time; leases will expire")
        except CONNECTION_LOST as error:
            _log.warning("while stopping: %s", error)

    async def _close(self) -> None:
        if self.maintenance.is_open:
            with contextlib.suppress(*CONNECTION_LOST):
                await Store(await self.maintenance.get()).stop_worker(self.id)
        for connection in (self.claiming, self.finishing, self.settling, self.maintenance):
            await connection.close()
        await self.lent.close()

    def _beat_soon(self) -> None:
        self.heartbeat.beat_soon()  # looked up late: the producer is made before the heartbeat

    def _interrupt_soon(self, leases: list[tuple[int, int]], stop: Stop) -> None:
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.slots.interrupt_jobs, dict.fromkeys(leases, stop))
