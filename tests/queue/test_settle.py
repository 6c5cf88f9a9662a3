"""Failed tries: retry, dead letter or cancel, with the hook in the same transaction, whatever the hook does."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.job import ClaimedJob
from app.queue.kinds import Change, Registry
from app.queue.settle import FailedJob, settle
from app.queue.store import Failed, Store
from tests.support.claims import add, claim, rows, value, worker_connection
from tests.support.membership import assert_membership_async


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection to a database of the test's own, with a table for hooks to write to."""
    async with await worker_connection(db_url) as connection:
        await connection.execute("CREATE TABLE seen (job bigint, transition text, attempt int, code text)")
        yield connection
        await assert_membership_async(connection)


async def note(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
    await connection.execute(
        "INSERT INTO seen VALUES (%s, %s, %s, %s)",
        (change.job_id, change.transition, change.attempt, change.code),
    )


async def refuse(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
    await note(connection, change)
    raise ValueError("the hook does not like it")


def registry(hook: Any = note) -> Registry:
    made = Registry()
    made.handler("test", hook=hook)(note)
    return made


def entry(
    job: ClaimedJob, *, again: bool = False, delay: float = 0.0, event: UUID | None = None
) -> FailedJob:
    failed = Failed(job.id, job.token, 7.0, "temporary", "it broke", "abc", "Traceback …", delay=delay)
    return FailedJob("test", event, failed, again=again, code="E-1")


async def test_a_retry_waits_for_its_delay_and_keeps_the_failed_try(queue: BoundedAsyncConnection) -> None:
    await add(queue)
    [job] = await claim(queue)
    assert await settle(queue, registry(), [entry(job, again=True, delay=60.0)]) == {job.id: "RETRY"}
    [(due, attempt)] = await rows(
        queue, "SELECT next_attempt_at - clock_timestamp(), attempt FROM tandem.scheduled"
    )
    assert timedelta(seconds=50) < due <= timedelta(seconds=60) and attempt == 1
    kept = "SELECT attempt, verdict, error_class, fingerprint, message, traceback FROM tandem.attempt"
    assert await rows(queue, kept) == [(1, "RETRY", "temporary", "abc", "it broke", "Traceback …")]
    assert await rows(queue, "TABLE seen") == [(job.id, "RETRY", 1, "E-1")]


async def test_a_dead_letter_keeps_reason_class_and_fingerprint(queue: BoundedAsyncConnection) -> None:
    await add(queue)
    [job] = await claim(queue)
    assert await settle(queue, registry(), [entry(job)]) == {job.id: "DEAD"}
    done = "SELECT outcome, error_class, fingerprint, reason, attempt FROM tandem.done"
    assert await rows(queue, done) == [("DEAD", "temporary", "abc", "it broke", 1)]
    assert await rows(queue, "SELECT verdict FROM tandem.attempt") == [("DEAD",)]
    assert await rows(queue, "TABLE seen") == [(job.id, "DEAD", 1, "E-1")]


async def test_a_retry_of_a_job_that_was_asked_to_cancel_is_a_cancel(queue: BoundedAsyncConnection) -> None:
    await add(queue, 2)
    asked, other = await claim(queue)
    await queue.execute(
        "INSERT INTO tandem.cancel_intent (job_id, requested_at) VALUES (%s, now())", (asked.id,)
    )
    became = await settle(queue, registry(), [entry(asked, again=True), entry(other, again=True)])
    assert became == {asked.id: "CANCELLED", other.id: "RETRY"}
    assert await rows(queue, "SELECT job_id, outcome FROM tandem.done") == [(asked.id, "CANCELLED")]
    assert await rows(queue, "SELECT 1 FROM tandem.cancel_intent") == []


@pytest.mark.parametrize("again", [True, False], ids=["retry", "dead"])
async def test_a_hook_that_fails_takes_the_transition_back(
    queue: BoundedAsyncConnection, again: bool
) -> None:
    await add(queue)
    [job] = await claim(queue)
    with pytest.raises(ValueError, match="does not like it"):
        await settle(queue, registry(refuse), [entry(job, again=again)])
    assert await value(queue, "SELECT count(*) FROM tandem.lease") == 1
    assert await rows(queue, "SELECT 1 FROM tandem.attempt UNION ALL SELECT 1 FROM seen") == []


async def test_the_hook_knows_the_event_and_when_the_job_runs_again(queue: BoundedAsyncConnection) -> None:
    await add(queue)
    [job] = await claim(queue)
    event, changes = uuid4(), list[Change]()

    async def keep(_: psycopg.AsyncConnection[Any], change: Change) -> None:
        changes.append(change)

    await settle(queue, registry(keep), [entry(job, again=True, delay=30.0, event=event)])
    [change] = changes
    due = await value(queue, "SELECT next_attempt_at FROM tandem.scheduled")
    assert (change.event_id, change.next_attempt_at, change.message) == (event, due, "it broke")


async def test_crashes_are_counted_on_and_forgotten_by_another_failure(queue: BoundedAsyncConnection) -> None:
    await add(queue)
    for crashes, kept in ((1, 1), (2, 2), (0, 0)):
        [job] = await claim(queue)
        failed = Failed(job.id, job.token, 1.0, "crash", "x", crashes=crashes)
        await settle(queue, registry(), [FailedJob("test", None, failed, again=True)])
        assert await value(queue, "SELECT crashes FROM tandem.ready") == kept


async def test_its_commit_is_flushed(queue: BoundedAsyncConnection) -> None:
    await queue.execute("SET synchronous_commit = off")
    await add(queue)
    [job] = await claim(queue)
    levels: list[str] = []

    async def look(connection: psycopg.AsyncConnection[Any], _: Change) -> None:
        levels.append(await value(connection, "SHOW synchronous_commit"))

    await settle(queue, registry(look), [entry(job)])
    assert levels == ["on"]


async def test_a_retry_without_delay_is_ready_at_once(queue: BoundedAsyncConnection) -> None:
    await add(queue, 2)
    [job] = await claim(queue, 1)
    await settle(queue, registry(), [entry(job, again=True)])
    again = await claim(queue)
    assert [(one.id, one.attempt) for one in again][-1] == (job.id, 2), "behind what waited before"
    await Store(queue).hand_back_jobs([(one.id, one.token) for one in again], delay=timedelta(0))
