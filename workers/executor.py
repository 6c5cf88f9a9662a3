"""Runs one try of a job: as a coroutine, in a thread, or in a process that can be killed, and reports how it ended.

Knows nothing of claiming or batching; it is given a job and tells the finisher.
"""

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import psycopg

from app.context import enter
from app.database.connect import CONNECTION_LOST
from app.database.reconnecting import Reconnecting
from app.queue.expiry import REASON
from app.queue.job import ClaimedJob
from app.queue.kinds import Kind, Registry
from app.queue.lease import LeaseLost
from app.queue.outcomes import Cancel, Dead, Decision, Snooze
from app.queue.retry import Failure, JobTimeoutError, RetryPolicy, Verdict, code_of
from app.queue.running import Job, OpenSync, encode_result
from app.queue.store import Store
from workers.finisher import Finisher
from workers.inbox import Inbox
from workers.processes import Answer, ChildCrashedError, ProcessPool
from workers.progress import ProgressWriter

if TYPE_CHECKING:
    from workers.slots import Slot

_log = logging.getLogger(__name__)
Stop = Literal["timeout", "cancel", "lost", "shutdown"]
OpenConnection = Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]]
THREADS = "handler"
CARRIED = ("request_id", "conversation_id", "traceparent")
"""What of a job's context goes into its log lines."""
EXPIRED = Verdict(Failure("expired", "expired", REASON, ""), None)
UNKNOWN_KIND_DELAY = timedelta(seconds=30)


class Executor:
    """Runs tries; one per worker process."""

    def __init__(
        self,
        *,
        registry: Registry,
        inbox: Inbox,
        finisher: Finisher,
        open_async: OpenConnection,
        open_sync: OpenSync,
        maintenance: Reconnecting,
        processes: ProcessPool,
        threads: int,
        progress: ProgressWriter,
    ) -> None:
        self.registry = registry
        self.inbox = inbox
        self.finisher = finisher
        self.processes = processes
        self.maintenance = maintenance
        self.progress = progress
        self._open_async = open_async
        self._open_sync = open_sync
        # Room for as many given-up threads again: Python cannot end a thread.
        self._threads = ThreadPoolExecutor(max_workers=threads * 2, thread_name_prefix=THREADS)
        self._jobs: dict[int, list[Job[Any]]] = {}

    async def run(self, slot: "Slot", claimed: ClaimedJob, kind: Kind | None) -> None:
        """Run one try to its end and report it. Raises CancelledError only when the worker itself stops."""
        if claimed.cancelled:
            self.finisher.cancelled(claimed, 0.0, "cancelled before it started")
            return
        if kind is None:
            await self.hand_back([claimed], delay=UNKNOWN_KIND_DELAY)
            return
        if claimed.expired(kind.start_within):
            self.finisher.failed(claimed, 0.0, EXPIRED)
            return
        if not self.inbox.lives(claimed):
            self.finisher.lost(claimed, 0.0)
            return
        job: Job[Any] = self._job(claimed, kind)
        key = id(slot)
        self._jobs[key] = [job]
        enter(_log_ids(claimed))
        try:
            try:
                # No coroutines of ours around the most frequent kind of handler: each costs as much as a small job.
                answer = await (kind.handler(job) if kind.executor == "async" else self._call(slot, job))
            finally:
                if job.reported is not None:
                    await self.progress.flush(job.id, claimed.token)
            result = None if answer is None else _as_json(answer)
        except GeneratorExit:
            raise
        except asyncio.CancelledError:
            self._interrupted(slot, job)
        except BaseException as error:  # some libraries' exceptions pass every `except Exception`
            if not slot.stuck:
                self._failed(job, error, slot.stop)
        else:
            if isinstance(answer, Decision) and not slot.stuck and not job.completed:
                await self._decided(job, answer)
            elif not slot.stuck:
                self._succeeded(job, result)
        finally:
            del self._jobs[key]
        if slot.stop is not None:
            await _absorb_cancel()

    async def run_batch(self, slot: "Slot", batch: list[ClaimedJob], kind: Kind) -> None:
        """Run one try of many jobs in one call of a batch handler, and report each by itself."""
        jobs = self._decodable(batch, kind)
        if not jobs:
            return
        key = id(slot)
        self._jobs[key] = jobs
        try:
            answers = await self._call_batch(kind, jobs)
        except GeneratorExit:
            raise
        except asyncio.CancelledError:
            for job in jobs:
                self._interrupted(slot, job)
        except BaseException as error:
            for job in () if slot.stuck else jobs:
                self._failed(job, error, slot.stop)
        else:
            for job, answer in () if slot.stuck else zip(jobs, answers, strict=True):
                await self._report(job, answer)
        finally:
            del self._jobs[key]
        if slot.stop is not None:
            await _absorb_cancel()

    def _decodable(self, batch: list[ClaimedJob], kind: Kind) -> list[Job[Any]]:
        """The batch's jobs with their payloads read; one that cannot be read does not spoil the others."""
        jobs: list[Job[Any]] = []
        for claimed in batch:
            job: Job[Any] = self._job(claimed, kind)
            if claimed.cancelled:
                self.finisher.cancelled(claimed, 0.0, "cancelled before it started")
                continue
            if claimed.expired(kind.start_within):
                self.finisher.failed(claimed, 0.0, EXPIRED)
                continue
            if not self.inbox.lives(claimed):
                self.finisher.lost(claimed, 0.0)
                continue
            try:
                _ = job.payload
            except Exception as error:
                self._failed(job, error, None)
                continue
            jobs.append(job)
        return jobs

    async def _call_batch(self, kind: Kind, jobs: list[Job[Any]]) -> Sequence[Any]:
        if kind.executor == "thread":
            answers = await asyncio.get_running_loop().run_in_executor(
                self._threads, _in_thread, kind.handler, jobs
            )
        else:
            answers = await kind.handler(jobs)
        if answers is None:
            return [None] * len(jobs)
        if not isinstance(answers, Sequence) or len(answers) != len(jobs):
            raise TypeError(
                f"batch handler {kind.name!r} answers one result per job, in order, or None for all"
            )
        return answers

    async def _report(self, job: Job[Any], answer: Any) -> None:
        try:
            if isinstance(answer, BaseException):
                raise answer
            result = _as_json(answer)
        except BaseException as error:
            self._failed(job, error, None)
            return
        if isinstance(answer, Decision) and not job.completed:
            await self._decided(job, answer)
        else:
            self._succeeded(job, result)

    def _job(self, claimed: ClaimedJob, kind: Kind) -> Job[Any]:
        report = self.progress.report
        return Job(claimed, kind, open_async=self._open_async, open_sync=self._open_sync, report=report)

    async def _call(self, slot: "Slot", job: Job[Any]) -> Any:
        """Run the handler in a thread or a process."""
        if job.kind.executor == "thread":
            run = copy_context().run  # the thread's log lines carry the job's ids too
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, run, _in_thread, job.kind.handler, job
            )
        slot.started_at = math.inf  # a child that has to start first costs the job none of its time
        async with self.processes.child_for(job) as child:
            slot.started_at = job.started_at = monotonic()
            answer = await self.processes.run(job, child)
        job.completed = answer.completed
        return answer.decision or answer

    # --- how a try ended -------------------------------------------------------------------------------------

    def _succeeded(self, job: Job[Any], result: str | None) -> None:
        seconds = monotonic() - job.started_at
        if job.completed:
            self.finisher.completed(job.claimed, seconds)
        else:
            self.finisher.succeeded(job.claimed, seconds, result)

    async def _decided(self, job: Job[Any], decision: Decision) -> None:
        """The handler returned a decision instead of a result."""
        seconds, claimed = monotonic() - job.started_at, job.claimed
        if isinstance(decision, Snooze):
            await self.hand_back([claimed], delay=timedelta(seconds=decision.seconds), started=True)
        elif isinstance(decision, Cancel):
            self.finisher.cancelled(claimed, seconds, decision.reason)
        elif isinstance(decision, Dead):
            failure = Failure("permanent", "dead-by-handler", decision.reason, "")
            self.finisher.failed(claimed, seconds, Verdict(failure, None))
        else:
            failure = Failure("temporary", "retry-by-handler", decision.reason, "")
            verdict = job.kind.retry.decide(
                failure, job.attempt, max_attempts=claimed.own_limit("max_attempts")
            )
            if verdict.delay is not None and decision.after is not None:
                verdict = Verdict(failure, decision.after)
            self.finisher.failed(claimed, seconds, verdict)

    def _failed(self, job: Job[Any], error: BaseException, stop: Stop | None) -> None:
        seconds = monotonic() - job.started_at
        if job.completed:
            # The transaction is committed: what failed after it cannot undo the job.
            self.finisher.completed(job.claimed, seconds)
            return
        if isinstance(error, LeaseLost) or stop == "lost":
            self.finisher.lost(job.claimed, seconds)
            return
        if stop == "cancel":
            self.finisher.cancelled(job.claimed, seconds, "cancelled while it ran")
            return
        if stop == "shutdown":
            return  # handed back by the supervisor, the attempt refunded
        if stop == "timeout":
            error = _timeout(job)
        self.finisher.failed(job.claimed, seconds, self._verdict(job, error), code=code_of(error))

    def _verdict(self, job: Job[Any], error: BaseException) -> Verdict:
        kind, claimed = job.kind, job.claimed
        failure = Failure.of(error)
        if isinstance(error, ChildCrashedError):
            # Crashes have a count of their own: what failed otherwise before does not bring the end nearer.
            limit, crashes = claimed.own_limit("crash_limit") or kind.crash_limit, claimed.crashes + 1
            again = RetryPolicy(limit, delays=(1.0,)).delay(crashes) if crashes < limit else None
            return Verdict(failure, again, crashes=crashes)
        return kind.retry.decide(failure, job.attempt, max_attempts=claimed.own_limit("max_attempts"))

    def _interrupted(self, slot: "Slot", job: Job[Any]) -> None:
        task = asyncio.current_task()
        if slot.stuck:
            return
        if slot.stop is None:
            if task is not None and task.cancelling():
                raise asyncio.CancelledError  # the worker ends; its supervisor knows what to do with the job
            self._failed(job, RuntimeError("the handler raised CancelledError by itself"), None)
            return
        self._failed(job, _timeout(job), slot.stop)

    # --- interruptions ---------------------------------------------------------------------------------------

    def interrupt(self, slot: "Slot") -> None:
        """Ask the slot's handler to end."""
        jobs = self._jobs.get(id(slot), [])
        for job in jobs:
            job.stop_requested.set()
            if job.kind.executor == "process":
                self.processes.interrupt(job)
        if jobs and jobs[0].kind.executor == "async" and slot.task is not None:
            slot.task.cancel()

    def kill(self, slot: "Slot") -> bool:
        """Kill the process that runs the slot's job; False when it does not run in one."""
        jobs = self._jobs.get(id(slot), [])
        return any(job.kind.executor == "process" and self.processes.kill(job) for job in jobs)

    def report_timeout(self, slot: "Slot") -> None:
        """Report a handler that was given up; what it still does is fenced off."""
        for job in self._jobs.get(id(slot), []):
            self._failed(job, _timeout(job), slot.stop or "timeout")

    async def mark_alone(self, claimed: ClaimedJob) -> bool:
        """Note in the lease that the job runs alone. False when the lease is lost."""
        while True:
            connection = await self.maintenance.get()
            try:
                return await Store(connection).mark_alone(claimed.id, claimed.token)
            except CONNECTION_LOST as error:
                await self.maintenance.lost(error)

    async def hand_back(
        self, jobs: list[ClaimedJob], *, delay: timedelta = timedelta(0), started: bool = False
    ) -> None:
        """Return jobs that nobody started, or, with `started`, that shall start anew; the attempt is refunded."""
        if not jobs:
            return
        unknown = {job.kind for job in jobs if self.registry.get(job.kind) is None}
        if unknown:
            self.finisher.warn_unknown(unknown)
        try:
            store = Store(await self.maintenance.get())
            pairs = [(job.id, job.token) for job in jobs]
            back = await store.hand_back_jobs(pairs, delay=delay, started=started)
            if back and not delay:
                await store.wake_queues({queue for _, queue in back})
        except CONNECTION_LOST as error:
            await self.maintenance.lost(error)
        except Exception:
            _log.exception("%d jobs could not be handed back", len(jobs))
        finally:
            # Also when it failed: what nobody extends any more expires by itself.
            for job in jobs:
                self.inbox.ended(job.id, job.token)

    def handler_threads(self) -> list[threading.Thread]:
        """The threads that still run a handler, once this is closed."""
        return [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]

    def close(self) -> None:
        """Let go of threads and processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.processes.close()


def _in_thread(handler: Callable[[Any], Any], work: Any) -> Any:
    try:
        return handler(work)
    except StopIteration as error:  # a future cannot carry it: whoever awaits would wait for ever
        raise RuntimeError("the handler raised StopIteration") from error


def _as_json(answer: Any) -> str | None:
    if isinstance(answer, Answer):
        return answer.result  # the child has encoded it
    return None if isinstance(answer, Decision) else encode_result(answer)


async def _absorb_cancel() -> None:
    """A handler that ended just as it was cancelled: take the cancellation back before the next job starts."""
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    while task.uncancel():
        pass


def _timeout(job: Job[Any]) -> JobTimeoutError:
    return JobTimeoutError(f"{job.kind.name} ran longer than {job.kind.timeout:g} s")


def _log_ids(claimed: ClaimedJob) -> dict[str, str | int]:
    """The ids of a job's log lines: its own, and what its producer gave along."""
    ids: dict[str, str | int] = {"job_id": claimed.id}
    if claimed.raw_context is not None:
        context = claimed.context
        ids.update({name: context[name] for name in CARRIED if isinstance(context.get(name), str)})
    return ids
