"""Child processes for CPU-bound handlers: one job at a time each, reused, and killed when a limit asks for it.

A killed or crashed child costs its own job a try and nobody else's; the worker process lives on.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import psycopg

from app.config import DatabaseSettings
from app.database.connect import connect_sync
from app.database.session_settings import session_limits
from app.queue.job import ClaimedJob
from app.queue.kinds import Kind
from app.queue.lease import LeaseLost
from app.queue.outcomes import Decision
from app.queue.progress import Progress
from app.queue.retry import Failure, RemoteError, code_of
from app.queue.running import Job, encode_result

_log = logging.getLogger(__name__)
START_SECONDS = 60.0
_spawn = multiprocessing.get_context("spawn")


class ChildCrashedError(Exception):
    """The child process ended without an answer: killed, out of memory, or crashed in native code."""

    error_class = "crash"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child sends back: a result, a failure, or that the lease was lost."""

    result: str | None = None
    completed: bool = False
    failure: Failure | None = None
    code: str | None = None
    lost: bool = False
    decision: Decision | None = None


class Child:
    """One child process and the pipe to it."""

    def __init__(self, url: str, settings: DatabaseSettings) -> None:
        self.idle = True
        self.pipe, theirs = _spawn.Pipe()
        self.process: BaseProcess = _spawn.Process(target=_main, args=(theirs, url, settings), daemon=True)
        self.process.start()
        theirs.close()
        with suppress(EOFError, OSError):
            self.pipe.recv()  # it is up; if it ended instead, the first job says so

    def ask(self, kind: Kind, claimed: ClaimedJob, report: Callable[[Progress], None]) -> Answer:
        """Run one job in the child; blocks, and passes its progress on.

        Raises ChildCrashedError when the child ends instead of answering.
        """
        self.idle = False
        try:
            self.pipe.send((kind, claimed))
            while isinstance(answer := self.pipe.recv(), Progress):
                report(answer)
        except (EOFError, OSError):
            self.process.join(1.0)
            raise ChildCrashedError(
                f"the handler's process ended with {_ending(self.process.exitcode)}"
            ) from None
        if not isinstance(answer, Answer):
            raise ChildCrashedError("the handler's process sent something else than an answer")
        self.idle = True
        return answer

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        with suppress(OSError):
            self.pipe.close()


class ProcessPool:
    """Children on demand; idle ones are kept for the next job."""

    def __init__(self, url: str, settings: DatabaseSettings) -> None:
        self._url = url
        self._settings = settings
        self._idle: list[Child] = []
        self._busy: dict[int, Child] = {}
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="child")

    @asynccontextmanager
    async def child_for(self, job: Job[Any]) -> AsyncIterator[Child]:
        """A child for one job: an idle one, or a new one that has imported what it needs. Raises ChildCrashedError."""
        child = self._idle.pop() if self._idle else None
        if child is None or not child.process.is_alive():
            starting = asyncio.get_running_loop().run_in_executor(
                self._threads, partial(Child, self._url, self._settings)
            )
            try:
                async with asyncio.timeout(START_SECONDS):
                    child = await starting
            except TimeoutError:
                raise ChildCrashedError(
                    f"a handler's process did not start within {START_SECONDS:g} s"
                ) from None
        self._busy[id(job)] = child
        try:
            yield child
        finally:
            del self._busy[id(job)]
            if child.idle and child.process.is_alive():
                self._idle.append(child)
            else:
                child.end()

    async def run(self, job: Job[Any], child: Child) -> Answer:
        """Run a job in its child. Raises RemoteError (the handler failed), LeaseLost, ChildCrashedError."""
        ask = partial(
            child.ask, _bare(job.kind), job.claimed, lambda news: job.progress(news.percent, news.stage)
        )
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        if answer.lost:
            raise LeaseLost.of(job.id)
        if answer.failure is not None:
            raise RemoteError(answer.failure, answer.code)
        return answer

    def interrupt(self, job: Job[Any]) -> None:
        """Ask the child to end its job: SIGTERM raises InterruptedError in the handler."""
        child = self._busy.get(id(job))
        if child is not None and child.process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(child.process.pid, signal.SIGTERM)

    def kill(self, job: Job[Any]) -> bool:
        """Kill the child that runs this job."""
        child = self._busy.get(id(job))
        if child is None:
            return False
        child.process.kill()
        return True

    def close(self) -> None:
        """End every child."""
        for child in (*self._idle, *self._busy.values()):
            child.end()
        self._idle.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _bare(kind: Kind) -> Kind:
    """The kind without what a child does not need and what may not travel."""
    return replace(kind, hook=None)


def _ending(code: int | None) -> str:
    if code is None:
        return "no exit code"
    if code < 0:
        with suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


# --- inside the child ----------------------------------------------------------------------------------------


def _main(pipe: Connection, url: str, settings: DatabaseSettings) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides, not the terminal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    database = _ChildDatabase(url, settings)
    pipe.send(None)
    while True:
        try:
            kind, claimed = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_run(kind, claimed, database, pipe))


def _end_with_parent() -> None:
    """Nobody enforces limits on a child whose worker was killed, and its open transaction would hold the lease."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(kind: Kind, claimed: ClaimedJob, database: "_ChildDatabase", pipe: Connection) -> Answer:
    # The worker writes it: it has the connection, and throttles.
    job: Job[Any] = Job(
        claimed, kind, open_sync=database.open, report=lambda _job, _token, news: pipe.send(news)
    )
    try:
        signal.signal(signal.SIGTERM, _interrupted)
        try:
            result = kind.handler(job)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if isinstance(result, Decision):
            return Answer(decision=result, completed=job.completed)
        return Answer(encode_result(result), job.completed)
    except LeaseLost:
        return Answer(lost=True)
    except BaseException as error:
        if job.completed:
            return Answer(completed=True)
        return Answer(failure=Failure.of(error), code=code_of(error))


def _interrupted(_signal: int, _frame: object) -> None:
    raise InterruptedError("the worker asked the handler to end")


class _ChildDatabase:
    """The child's own connection, opened when a handler first asks for its job's transaction."""

    def __init__(self, url: str, settings: DatabaseSettings) -> None:
        self._url = url
        self._settings = settings
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def open(self) -> Iterator[psycopg.Connection[Any]]:
        if self._connection is None or self._connection.closed:
            self._connection = connect_sync(
                self._url, name="handler", settings=self._settings, session=session_limits(self._settings)
            )
        yield self._connection
