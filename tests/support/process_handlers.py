"""Handlers for worker processes. A payload says where to hold, fail or die; files tell the test how far a job is.

Effects go to the table `effect`, which has no unique key: a key would hide that something happened twice.
"""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any, Literal

import psycopg
from pydantic import BaseModel

from app.domains.topics.consumers import Consumer, Received, add_consumers
from app.queue.kinds import Change, Registry
from app.queue.retry import Retrying, RetryPolicy
from app.queue.running import Job
from tests.support.waiting import eventually, eventually_async

LEDGER = """
CREATE TABLE effect (job bigint NOT NULL, attempt int NOT NULL, token bigint NOT NULL, pid int NOT NULL);
CREATE TABLE change (job bigint NOT NULL, transition text NOT NULL, attempt int NOT NULL)
"""
"""What a test makes in its database before it starts workers."""
NOTE = "INSERT INTO effect VALUES (%s, %s, %s, %s)"
HOLD_SECONDS = 120.0
QUICK_RETRY = Retrying(own=RetryPolicy(max_attempts=5, delays=(0.05,)))
Point = Literal["", "before", "inside", "after", "wait"]


class Step(BaseModel):
    """What a job does: `hold_at` is where it waits for the file `go`, the first time it comes there."""

    place: Path
    hold_at: Point = ""
    seconds: float = 0.0


def arrive(job: Job[Step], point: Point) -> bool:
    """Tell the test that the job is here; True when it shall hold. Only the first arrival holds."""
    place = job.payload.place
    (place / f"{point}-{job.id}-{job.attempt}-{os.getpid()}").touch()
    if job.payload.hold_at != point:
        return False
    try:
        (place / f"held-{job.id}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


async def hold(job: Job[Step], point: Point) -> None:
    if arrive(job, point):
        await eventually_async((job.payload.place / "go").exists, timeout=HOLD_SECONDS)


def hold_sync(job: Job[Step], point: Point) -> None:
    if arrive(job, point):
        eventually((job.payload.place / "go").exists, timeout=HOLD_SECONDS)


def facts(job: Job[Any]) -> tuple[int, int, int, int]:
    return (job.id, job.attempt, job.claimed.token, os.getpid())


async def exactly(job: Job[Step]) -> None:
    """The effect commits with the job's end."""
    await hold(job, "before")
    async with job.transaction() as opened:
        await opened.connection.execute(NOTE, facts(job))
        await hold(job, "inside")
    await hold(job, "after")


def exactly_sync(job: Job[Step]) -> None:
    """The same for threads and processes."""
    hold_sync(job, "before")
    with job.transaction_sync() as opened:
        opened.connection.execute(NOTE, facts(job))
        hold_sync(job, "inside")
    hold_sync(job, "after")


def at_least(url: str) -> Any:
    async def at_least_once(job: Job[Step]) -> None:
        """The effect commits by itself; the job ends later."""
        await hold(job, "before")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(NOTE, facts(job))
        await hold(job, "after")

    return at_least_once


async def wait(job: Job[Step]) -> None:
    """Run until the test says go."""
    await hold(job, "wait")


def wait_in_thread(job: Job[Step]) -> None:
    """The same in a thread, deaf to everything else."""
    hold_sync(job, "wait")


async def poison(_: Job[Any]) -> None:
    """Take the worker along."""
    os.kill(os.getpid(), signal.SIGKILL)


def die(_: Job[Any]) -> None:
    """End the child without an answer."""
    os._exit(139)


def die_sometimes(job: Job[Any]) -> None:
    if job.attempt < 3:
        raise ValueError("an ordinary failure")
    if job.attempt == 3:
        os._exit(1)


def spin(job: Job[Step]) -> None:
    """Use the processor and hear nothing; the pid stands in a file."""
    (job.payload.place / f"pid-{job.id}").write_text(str(os.getpid()))
    while True:
        try:
            time.monotonic()
        except InterruptedError:
            continue


def block(job: Job[Step]) -> None:
    """Keep the interpreter busy with expressions that explode, for `seconds`."""
    end = time.monotonic() + job.payload.seconds
    while time.monotonic() < end:
        re.match(r"(a+)+$", "a" * 20 + "b")


async def block_the_loop(job: Job[Step]) -> None:
    block(job)


async def note(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
    await connection.execute(
        "INSERT INTO change VALUES (%s, %s, %s)", (change.job_id, change.transition, change.attempt)
    )


async def succeed(_: Job[Any]) -> None:
    return None


def follow(url: str) -> Any:
    async def follow_key(received: Received[Any]) -> None:
        """Note start and end of a message; between them fail, or die once, where the body says so."""
        body, attempt = received.body, received.job.attempt
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            note = "INSERT INTO step (key, n, phase, pid) VALUES (%s, %s, %s, %s)"
            await connection.execute(note, (received.envelope.key, body["n"], "start", os.getpid()))
            if attempt <= body.get("fails", 0):
                raise ConnectionError("not yet")
            if body.get("dies") and not received.job.claimed.crashes:
                os.kill(os.getpid(), signal.SIGKILL)
            await connection.execute(note, (received.envelope.key, body["n"], "end", os.getpid()))

    return follow_key


def make_registry(url: str) -> Registry:
    """All of them."""
    registry = Registry()
    add = registry.handler
    add("exactly", payload=Step, retry=QUICK_RETRY, hook=note)(exactly)
    add("exactly-thread", payload=Step, executor="thread", retry=QUICK_RETRY)(exactly_sync)
    add("exactly-process", payload=Step, executor="process", concurrency=3, retry=QUICK_RETRY)(exactly_sync)
    add("at-least", payload=Step, retry=QUICK_RETRY, hook=note)(at_least(url))
    add("wait", payload=Step)(wait)
    add("one", payload=Step, concurrency=1)(wait)
    add("wedged", payload=Step, executor="thread")(wait_in_thread)
    add("poison", hook=note)(poison)
    add("die", executor="process", crash_limit=3)(die)
    add("die-sometimes", executor="process", crash_limit=2, retry=QUICK_RETRY)(die_sometimes)
    add("spin", payload=Step, executor="process", timeout=0.5, hard_timeout=1.0, retry=QUICK_RETRY)(spin)
    add("block", payload=Step)(block_the_loop)
    add("succeed")(succeed)
    add_consumers(registry, [Consumer("ordered", "strict", follow(url), retry_delay_ms=30)])
    return registry
