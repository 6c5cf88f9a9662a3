"""Writes what became of jobs: successes in batches on one connection, failures with their hooks beside them.

While one batch is on its way the next one gathers, so batches grow with load and a lone job is written at once.
An answer that was lost is asked for again with the same tokens; nothing is given up while the process lives.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Literal

from app import events
from app.database.connect import CONNECTION_LOST
from app.database.reconnecting import Reconnecting
from app.queue.facts import Ended, Outcome
from app.queue.finish import Finished, finish_batch
from app.queue.job import ClaimedJob
from app.queue.kinds import Registry, Transition
from app.queue.retry import Failure, Verdict
from app.queue.settle import FailedJob, settle
from app.queue.store import Failed, Finish, Store
from workers.inbox import Inbox
from workers.service import Service

FAILURES_AT_ONCE = 50
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
        batch: int = 200,
        delay: float = 0.005,
    ) -> None:
        super().__init__("finisher")
        self.inbox = inbox
        self.finishing = finishing
        self.registry = registry
        self.batch = batch
        self.delay = delay
        self._successes: deque[tuple[ClaimedJob, float, str | None]] = deque()
        self._failures: deque[tuple[ClaimedJob, float, FailedJob]] = deque()
        self._unknown: set[str] = set()
        self._something = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    # --- what slots call -------------------------------------------------------------------------------------

    def succeeded(self, job: ClaimedJob, seconds: float, result: str | None) -> None:
        """A handler returned; `result` is JSON text."""
        self._successes.append((job, seconds, result))
        self._something.set()

    def failed(self, job: ClaimedJob, seconds: float, verdict: Verdict, *, code: str | None = None) -> None:
        """A handler failed and the verdict is in."""
        failure = verdict.failure
        self._fail(job, seconds, failure, delay=verdict.delay, outcome="DEAD", code=code)

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
    ) -> None:
        failed = Failed(
            job_id=job.id,
            token=job.token,
            ran_ms=seconds * 1000,
            error_class="cancelled" if outcome == "CANCELLED" else failure.error_class,
            message=failure.message,
            fingerprint=failure.fingerprint,
            traceback=failure.traceback,
            delay=delay or 0.0,
            outcome=outcome,
        )
        entry = FailedJob(job.kind, job.event_id, failed, again=delay is not None, code=code)
        self._failures.append((job, seconds, entry))
        self._something.set()

    def completed(self, job: ClaimedJob, seconds: float) -> None:
        """A handler ended its job itself, in its own transaction."""
        self.inbox.ended(job.id, job.token)
        events.publish(Ended([Outcome(job, "success", seconds)]))

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
        while self._successes or self._failures or not self._idle.is_set():
            await asyncio.sleep(0.01)

    # --- the loop --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write until stopped and empty."""
        while not (self.stopping.is_set() and not self._successes and not self._failures):
            if not self._successes and not self._failures:
                self._idle.set()
                self._something.clear()
                await self._wait()
                continue
            self._idle.clear()
            await self._gather()
            if self._successes:
                await self._write_successes()
            if self._failures:
                await self._write_failures()
        self._idle.set()

    async def _wait(self) -> None:
        waiters = [asyncio.ensure_future(self._something.wait()), asyncio.ensure_future(self.stopping.wait())]
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiters:
            waiter.cancel()

    async def _gather(self) -> None:
        """Give a batch time to fill while jobs run; an idle worker has nothing to wait for."""
        busy = self.inbox.slots - self.inbox.free_slots
        if (
            len(self._successes) < self.batch
            and busy > 1
            and not self._failures
            and not self.stopping.is_set()
        ):
            await asyncio.sleep(self.delay)

    async def _write_successes(self) -> None:
        taken = [self._successes.popleft() for _ in range(min(len(self._successes), self.batch))]
        rows = [
            Finish(job.id, job.token, seconds * 1000, result, self._ttl(job, result))
            for job, seconds, result in taken
        ]
        report = await self._until_known(rows)
        reasons = {row[0]: reason for row, reason in report.refused}
        ended: list[Outcome] = []
        for job, seconds, _ in taken:
            if job.id in reasons:
                self._refuse(job, seconds, reasons[job.id])
                continue
            if job.id in report.fenced:
                self._log.warning("job %s: its lease was lost before it could be finished", job.id)
            self.inbox.ended(job.id, job.token)
            ended.append(Outcome(job, "lost" if job.id in report.fenced else "success", seconds))
        events.publish(Ended(ended))

    def _ttl(self, job: ClaimedJob, result: str | None) -> float | None:
        kind = None if result is None else self.registry.get(job.kind)
        return kind.result_ttl if kind is not None else None

    async def _until_known(self, rows: Sequence[Finish]) -> Finished:
        """Finish the rows, however long the database is away; an error of another kind gives them up to rescue."""
        repeated, tries = False, 0
        while True:
            connection = await self.finishing.get()
            try:
                return await finish_batch(Store(connection), rows, repeated=repeated)
            except CONNECTION_LOST as error:
                repeated = True
                await self._after(error)
            except Exception:
                tries += 1
                self._log.exception(
                    "%d jobs could not be finished (try %d of %d)", len(rows), tries, FINISH_TRIES
                )
                if tries == FINISH_TRIES:
                    return Finished(fenced={row.job_id for row in rows})
                await asyncio.sleep(0.2 * tries)

    def _refuse(self, job: ClaimedJob, seconds: float, reason: str) -> None:
        failure = Failure(error_class="permanent", fingerprint="result-refused", message=reason, traceback="")
        self.failed(job, seconds, Verdict(failure, None), code="result-refused")

    async def _write_failures(self) -> None:
        taken = [self._failures.popleft() for _ in range(min(len(self._failures), FAILURES_AT_ONCE))]
        await self._settle(taken)

    async def _settle(self, taken: list[tuple[ClaimedJob, float, FailedJob]]) -> None:
        """Write failures; a hook or a row that fails is bisected out and left to its lease's expiry."""
        started = monotonic()
        became: dict[int, Transition] | None = None
        while became is None:
            connection = await self.finishing.get()
            try:
                became = await settle(connection, self.registry, [entry for _, _, entry in taken])
            except CONNECTION_LOST as error:
                # Whatever was committed unseen is not ours any more, and the repeat leaves it alone.
                await self._after(error)
            except Exception:
                if len(taken) > 1:
                    half = len(taken) // 2
                    await self._settle(taken[:half])
                    await self._settle(taken[half:])
                    return
                job = taken[0][0]
                self._log.exception("job %s: its failure could not be written; its lease will expire", job.id)
                self.inbox.ended(job.id, job.token)
                return
        ended: list[Outcome] = []
        for job, seconds, _ in taken:
            self.inbox.ended(job.id, job.token)
            ended.append(Outcome(job, _OUTCOMES[became[job.id]] if job.id in became else "lost", seconds))
        self._log.debug("settled %d failures in %.3f s", len(taken), monotonic() - started)
        events.publish(Ended(ended))

    async def _after(self, error: BaseException) -> None:
        if self.finishing.is_open:
            await asyncio.sleep(
                0.05
            )  # a lock or statement time limit ended the statement, not the connection
        else:
            await self.finishing.lost(error)


_OUTCOMES: dict[str, Literal["retry", "dead", "cancelled"]] = {
    "RETRY": "retry",
    "DEAD": "dead",
    "CANCELLED": "cancelled",
}
