"""Writes what became of jobs: successes in batches here; failures with their hooks go to the settler.

While one batch is on its way the next one gathers, so batches grow with load and a lone job is written at once.
An answer that was lost is asked for again with the same tokens; nothing is given up while the process lives.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from app import events
from app.database.connect import CONNECTION_LOST, READ_ONLY
from app.database.reconnecting import Reconnecting
from app.queue.admission_store import AdmissionStore
from app.queue.facts import Ended, Outcome
from app.queue.finish import REFUSED, Finished, finish_batch
from app.queue.job import ClaimedJob, is_delivery
from app.queue.kinds import Registry
from app.queue.retry import Failure, Verdict, storable
from app.queue.settle import FailedJob
from app.queue.store import Failed, Finish, Store
from workers.admitter import Admitter
from workers.bell import Bell, first_of
from workers.inbox import Inbox
from workers.service import Service
from workers.settler import Settler

FINISH_TRIES = 5
"""How often a batch that fails without a lost connection is tried, before its leases are left to expire."""


class Finisher(Service):
    """Batches of at most `batch`; a batch that is not full waits at most `delay` seconds while slots are busy."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        finishing: Reconnecting,
        registry: Registry,
        settler: Settler,
        batch: int = 200,
        delay: float = 0.005,
        admitter: Admitter | None = None,
    ) -> None:
        super().__init__("finisher")
        self.inbox = inbox
        self.finishing = finishing
        self.registry = registry
        self.settler = settler
        self.admitter = admitter
        self.batch = batch
        self.delay = delay
        self._successes: deque[tuple[ClaimedJob, float, str | None]] = deque()
        self._unknown: set[str] = set()
        self._something = Bell()
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        """Start both tasks."""
        self.settler.start()
        super().start()

    async def stop(self, grace: float = 5.0) -> None:
        """End both; what is not written by then is left to the expiry of its lease."""
        await asyncio.gather(super().stop(grace), self.settler.stop(grace))

    # --- what slots call -------------------------------------------------------------------------------------

    def succeeded(self, job: ClaimedJob, seconds: float, result: str | None) -> None:
        """A handler returned; `result` is JSON text."""
        self._successes.append((job, seconds, result))
        self._something.set()

    def failed(self, job: ClaimedJob, seconds: float, verdict: Verdict, *, code: str | None = None) -> None:
        """A handler failed and the verdict is in."""
        failure = verdict.failure
        self._fail(
            job, seconds, failure, delay=verdict.delay, outcome="DEAD", code=code, crashes=verdict.crashes
        )

    def cancelled(self, job: ClaimedJob, seconds: float, reason: str) -> None:
        """A job ends because somebody asked to cancel it."""
        failure = Failure(error_class="permanent", fingerprint="cancelled", message=reason, traceback="")
        self._fail(job, seconds, failure, delay=None, outcome="CANCELLED", code=None)

    def _fail(
        self,
        job: ClaimedJob,
        seconds: float,
        failure: Failure,
        *,
        delay: float | None,
        outcome: str,
        code: str | None,
        crashes: int = 0,
    ) -> None:
        failed = Failed(
            job_id=job.id,
            token=job.token,
            ran_ms=seconds * 1000,
            error_class="cancelled" if outcome == "CANCELLED" else failure.error_class,
            message=storable(failure.message),
            fingerprint=failure.fingerprint,
            traceback=failure.traceback,
            delay=delay or 0.0,
            crashes=crashes,
            outcome=outcome,
        )
        entry = FailedJob(job.kind, job.event_id, failed, again=delay is not None, code=code)
        self._note(job, seconds)
        self.settler.add(job, seconds, entry)

    def _note(self, job: ClaimedJob, seconds: float) -> None:
        if self.admitter is not None and self.admitter.manages(job.queue):
            self.admitter.ran(job.queue, 1, seconds * 1000)

    def completed(self, job: ClaimedJob, seconds: float) -> None:
        """A handler ended its job itself, in its own transaction."""
        self.inbox.ended(job.id, job.token)
        self._note(job, seconds)
        events.publish(Ended([Outcome(job, "success", seconds)]))
        self._stir()

    def lost(self, job: ClaimedJob, seconds: float) -> None:
        """Somebody else has the job: write nothing."""
        self._log.warning("job %s: its lease was lost while it ran", job.id)
        self.inbox.ended(job.id, job.token)
        events.publish(Ended([Outcome(job, "lost", seconds)]))

    def warn_unknown(self, kinds: set[str]) -> None:
        """Say once per kind that this worker has no handler for it."""
        for kind in sorted(kinds - self._unknown):
            self._log.error(
                "no handler for kind %r here: its jobs go back; serve their queue with one that has it", kind
            )
        self._unknown |= kinds

    async def flushed(self) -> None:
        """Wait until everything reported so far is written."""
        while self._successes or not self._idle.is_set() or not self.settler.idle:
            await asyncio.sleep(0.01)

    # --- the loop --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write until stopped and empty."""
        while not (self.stopping.is_set() and not self._successes):
            if not self._successes:
                self._idle.set()
                self._something.clear()
                await self._wait()
                continue
            self._idle.clear()
            await self._gather()
            await self._write_successes()
        self._idle.set()

    async def _wait(self) -> None:
        await first_of(None, self._something, self.stopping)

    async def _gather(self) -> None:
        """Give a batch time to fill while jobs run; an idle worker has nothing to wait for."""
        busy = self.inbox.slots - self.inbox.free_slots
        if len(self._successes) < self.batch and busy > 1 and not self.stopping.is_set():
            await asyncio.sleep(self.delay)

    async def _write_successes(self) -> None:
        taken = [self._successes.popleft() for _ in range(min(len(self._successes), self.batch))]
        rows = [
            Finish(job.id, job.token, seconds * 1000, result, None if result is None else self._ttl(job))
            for job, seconds, result in taken
        ]
        report = await self._finish([job for job, _, _ in taken], rows)
        ended = [Outcome(job, "success", seconds) for job, seconds, _ in taken]
        if report.fenced or report.refused:
            ended = self._sort_out(report, ended)
        self.inbox.all_ended([(job.id, job.token) for job, _, _ in ended])
        events.publish(Ended(ended))

    def _sort_out(self, report: Finished, ended: list[Outcome]) -> list[Outcome]:
        """What has ended of a batch in which not everything was written."""
        reasons = {row[0]: reason for row, reason in report.refused}
        left: list[Outcome] = []
        for job, _, seconds in ended:
            if job.id in reasons:
                self._refuse(job, seconds, reasons[job.id])
            elif job.id in report.fenced:
                self._log.warning("job %s: its lease was lost before it could be finished", job.id)
                left.append(Outcome(job, "lost", seconds))
            else:
                left.append(Outcome(job, "success", seconds))
        return left

    async def _finish(self, jobs: Sequence[ClaimedJob], rows: Sequence[Finish]) -> Finished:
        """Finish the rows; those of a managed queue in the statement that refills their slots."""
        if self.admitter is None or not self.admitter.managed:
            return await self._until_known(rows, deliveries=_any_delivery(jobs))
        by_queue: dict[str | None, list[Finish]] = {}
        for job, row in zip(jobs, rows, strict=True):
            queue = job.queue if self.admitter.manages(job.queue) else None
            by_queue.setdefault(queue, []).append(row)
        report = Finished()
        for queue, some in by_queue.items():
            if queue:
                report.add(await self._refill(queue, some))
            else:
                report.add(await self._until_known(some, deliveries=_any_delivery(jobs)))
        if None in by_queue:
            self._stir()
        return report

    async def _refill(self, queue: str, rows: Sequence[Finish]) -> Finished:
        assert self.admitter is not None  # noqa: S101 - the caller has looked
        try:
            store = AdmissionStore(await self.finishing.get())
            admitted, _ = await self.admitter.admit(store, queue, finished=rows)
        except CONNECTION_LOST as error:
            await self._after(error)
        except REFUSED:
            pass  # one of the rows cannot be stored: find out which
        else:
            return Finished(admitted.finished, {row.job_id for row in rows} - admitted.finished)
        report = await self._until_known(rows, repeated=True, deliveries=is_delivery(queue))
        self._stir()
        return report

    def _stir(self) -> None:
        if self.admitter is not None:
            self.admitter.stir()

    def _ttl(self, job: ClaimedJob) -> float | None:
        kind = self.registry.get(job.kind)
        return kind.result_ttl if kind is not None else None

    async def _until_known(
        self, rows: Sequence[Finish], *, repeated: bool = False, deliveries: bool = False
    ) -> Finished:
        """Finish the rows, however long the database is away; an error of another kind gives them up to rescue."""
        tries = 0
        while True:
            connection = await self.finishing.get()
            try:
                store = Store(connection)
                return await finish_batch(store, rows, repeated=repeated, deliveries=deliveries)
            except CONNECTION_LOST as error:
                repeated = True
                await self._after(error)
            except Exception as error:
                tries += 1
                self._log.exception(
                    "%d jobs could not be finished (try %d of %d)", len(rows), tries, FINISH_TRIES
                )
                if tries == FINISH_TRIES:
                    return Finished(fenced={row.job_id for row in rows})
                # For instance a server that became read-only: another connection may lead to another one.
                repeated = True
                await self.finishing.lost(error)
                await asyncio.sleep(0.2 * tries)

    def _refuse(self, job: ClaimedJob, seconds: float, reason: str) -> None:
        failure = Failure(error_class="permanent", fingerprint="result-refused", message=reason, traceback="")
        self.failed(job, seconds, Verdict(failure, None), code="result-refused")

    async def _after(self, error: BaseException) -> None:
        if self.finishing.is_open and not isinstance(error, READ_ONLY):
            await asyncio.sleep(
                0.05
            )  # a lock or statement time limit ended the statement, not the connection
        else:
            await self.finishing.lost(error)


def _any_delivery(jobs: Sequence[ClaimedJob]) -> bool:
    return any(map(is_delivery, {job.queue for job in jobs}))
