"""What becomes of ends that cannot be written at once: one bad row, a hook that waits, a database that says no."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from app import events
from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.database.reconnecting import Reconnecting
from app.queue.facts import Ended
from app.queue.job import ClaimedJob, NewJob
from app.queue.kinds import Change, Registry
from app.queue.retry import Failure, Retrying, RetryPolicy, Verdict
from app.queue.running import Job
from app.queue.store import PINNED_PLANS, Store
from tests.support.claims import add, claim, rows, value, worker_connection
from tests.support.jobs import enqueue_all, outcome, outcomes, tries
from tests.support.membership import check_membership, counts
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async
from workers.finisher import Finisher
from workers.inbox import Inbox
from workers.settler import MOST_TRIES, Settler

SESSION = {**PINNED_PLANS, "synchronous_commit": "off", "lock_timeout": "200ms"}
Result = tuple[int, str]


@pytest.fixture
def ended() -> Iterator[list[Result]]:
    """(job, result) of every try that ended in this process."""
    seen: list[Result] = []
    stop = events.subscribe(
        Ended, lambda fact: seen.extend((one.job.id, one.result) for one in fact.outcomes)
    )
    yield seen
    stop()


class Rig:
    """A finisher with claimed jobs in its inbox, without a worker around it."""

    def __init__(self, url: str, registry: Registry) -> None:
        async def open_connection() -> BoundedAsyncConnection:
            return await connect(url, name="finish", session=SESSION)

        self.inbox = Inbox(slots=10, most=400)
        self.finishing = Reconnecting("finish", open_connection)
        self.settling = Reconnecting("settle", open_connection)
        settler = Settler(inbox=self.inbox, settling=self.settling, registry=registry)
        self.finisher = Finisher(
            inbox=self.inbox, finishing=self.finishing, registry=registry, settler=settler, batch=200
        )

    def succeed(self, job: ClaimedJob, result: str | None = None) -> None:
        self.finisher.succeeded(job, 0.01, result)

    def fail(self, job: ClaimedJob, delay: float | None = None) -> None:
        self.finisher.failed(job, 0.01, Verdict(Failure("temporary", "f", "it broke", "…"), delay))


@asynccontextmanager
async def rigged(url: str, count: int, registry: Registry | None = None, **job: Any) -> AsyncIterator[Any]:
    rig = Rig(url, registry or Registry())
    async with await worker_connection(url) as connection:
        await add(connection, count, **job)
        jobs = await claim(connection, count)
    rig.inbox.push(jobs, asked_at=0.0)
    rig.inbox.drain()
    rig.finisher.start()
    try:
        yield rig, jobs
    finally:
        await rig.finisher.stop(1.0)
        await rig.finishing.close()
        await rig.settling.close()


def hooked(hook: Any) -> Registry:
    async def handler(_: Job[Any]) -> None:
        return None

    registry = Registry()
    registry.handler("hooked", hook=hook)(handler)
    return registry


async def test_one_bad_result_among_200_becomes_a_dead_letter_and_the_others_succeed(
    db_url: str, ended: list[Result]
) -> None:
    async with rigged(db_url, 200) as (rig, jobs):
        for n, job in enumerate(jobs):
            rig.succeed(job, '"\\u0000"' if n == 120 else '{"n": 1}')
        await eventually_async(lambda: rig.inbox.held == 0)
    bad = jobs[120].id
    assert counts(db_url) == {"succeeded": 199, "dead": 1}
    assert outcome(db_url, bad) == "DEAD"
    assert tries(db_url, bad)[0].fingerprint == "result-refused"
    assert sorted(result for _, result in ended) == ["dead"] + ["success"] * 199
    check_membership(db_url)


async def test_a_hook_that_waits_for_a_lock_holds_up_no_success_and_no_other_failure(db_url: str) -> None:
    async def hook(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
        if change.job_id == 1:
            await connection.execute("UPDATE counter SET n = n + 1")

    with psycopg.connect(db_url, autocommit=True) as setup:
        setup.execute("CREATE TABLE counter (n int)")
        setup.execute("INSERT INTO counter VALUES (0)")
    async with rigged(db_url, 4, hooked(hook), kind="hooked") as (rig, jobs):
        with psycopg.connect(db_url) as other:
            other.execute("UPDATE counter SET n = n + 1")
            rig.fail(jobs[0])
            rig.fail(jobs[1])
            rig.succeed(jobs[2])
            rig.succeed(jobs[3])
            rest = [job.id for job in jobs[1:]]
            await eventually_async(lambda: outcomes(db_url, rest) == ["DEAD", "SUCCEEDED", "SUCCEEDED"])
            assert outcome(db_url, jobs[0].id) == "RUNNING"
            assert rig.inbox.holds(jobs[0].id, jobs[0].token), "its lease is kept alive meanwhile"
        await eventually_async(lambda: outcome(db_url, jobs[0].id) == "DEAD")


async def test_a_hook_that_always_fails_is_given_up_and_left_to_its_lease(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("workers.settler.LONGEST_WAIT", 0.01)

    async def hook(_: psycopg.AsyncConnection[Any], change: Change) -> None:
        calls.append(change.job_id)
        if change.job_id == 2:
            raise ValueError("never")

    async with rigged(db_url, 3, hooked(hook), kind="hooked") as (rig, jobs):
        for job in jobs:
            rig.fail(job)
        await eventually_async(lambda: rig.inbox.held == 0)
        assert rig.finisher.settler.idle
    assert outcomes(db_url, [job.id for job in jobs]) == ["DEAD", "RUNNING", "DEAD"]
    assert calls.count(2) == MOST_TRIES


async def test_a_hook_that_swallows_an_sql_error_fails_alone(db_url: str) -> None:
    async def hook(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
        if change.job_id == 1:
            try:
                await connection.execute("SELECT 1 / 0")
            except psycopg.Error:
                return

    async with rigged(db_url, 2, hooked(hook), kind="hooked") as (rig, jobs):
        rig.fail(jobs[0])
        rig.fail(jobs[1])
        await eventually_async(lambda: outcome(db_url, jobs[1].id) == "DEAD")
        assert outcome(db_url, jobs[0].id) == "RUNNING"


@pytest.mark.parametrize("end", ["succeed", "fail"])
async def test_a_connection_killed_under_a_batch_is_replaced_and_the_batch_written(
    db_url: str, ended: list[Result], end: str
) -> None:
    async with rigged(db_url, 20) as (rig, jobs):
        getattr(rig, end)(jobs[0])
        await eventually_async(lambda: len(ended) == 1)
        with psycopg.connect(db_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        for job in jobs[1:]:
            getattr(rig, end)(job)
        await eventually_async(lambda: len(ended) == 20)
    assert counts(db_url) == ({"succeeded": 20} if end == "succeed" else {"dead": 20})
    check_membership(db_url)


async def test_a_database_that_became_read_only_is_asked_again_on_another_connection(
    db_url: str, ended: list[Result]
) -> None:
    async with rigged(db_url, 3) as (rig, jobs):
        connection = await rig.finishing.get()
        await connection.execute("SET default_transaction_read_only = on")
        for job in jobs:
            rig.succeed(job)
        await eventually_async(lambda: len(ended) == 3)
    assert {result for _, result in ended} == {"success"}
    assert counts(db_url) == {"succeeded": 3}


async def test_what_nobody_thought_of_leaves_no_job_held_for_ever(
    db_url: str, ended: list[Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> set[int]:
        raise RuntimeError("something nobody thought of")

    monkeypatch.setattr(Store, "finish_jobs", fail)
    async with rigged(db_url, 2) as (rig, jobs):
        for job in jobs:
            rig.succeed(job)
        await eventually_async(lambda: rig.inbox.held == 0, timeout=30)
    assert {result for _, result in ended} == {"lost"}
    assert counts(db_url) == {"leased": 2}, "their leases will expire"


async def test_a_fenced_job_is_told_as_lost_and_nothing_is_written(db_url: str, ended: list[Result]) -> None:
    async with rigged(db_url, 3) as (rig, jobs), await worker_connection(db_url) as connection:
        await connection.execute("UPDATE tandem.lease SET token = token + 1 WHERE job_id < 3")
        rig.succeed(jobs[0])
        rig.fail(jobs[1])
        rig.succeed(jobs[2])
        await eventually_async(lambda: sorted(ended) == [(1, "lost"), (2, "lost"), (3, "success")])
        assert await value(connection, "SELECT count(*) FROM tandem.lease") == 2
        assert await rows(connection, "SELECT 1 FROM tandem.attempt") == []


# --- in a whole worker ---------------------------------------------------------------------------------------------


async def test_a_job_is_retried_by_its_policy_and_then_a_dead_letter_with_its_traceback(
    db_url: str, ended: list[Result]
) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE seen (transition text, attempt int, code text, due timestamptz)")

    async def note(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
        due, code = change.next_attempt_at, change.code
        await connection.execute(
            "INSERT INTO seen VALUES (%s, %s, %s, %s)", (change.transition, change.attempt, code, due)
        )

    class HttpError(Exception):
        code = 503  # as urllib has it: a number

    async def fail(_: Job[Any]) -> None:
        raise HttpError("nobody there")

    registry = Registry()
    policy = Retrying(own=RetryPolicy(max_attempts=3, delays=(0.05, 0.1), jitter=0.0))
    registry.handler("fail", retry=policy, hook=note)(fail)
    [job] = enqueue_all(db_url, [NewJob("fail")])
    async with supervised(db_url, registry, sweep=True):
        await eventually_async(lambda: outcome(db_url, job) == "DEAD")
        await eventually_async(lambda: [result for _, result in ended] == ["retry", "retry", "dead"])
    kept = tries(db_url, job)
    assert [(one.attempt, one.verdict, one.error_class) for one in kept] == [
        (1, "RETRY", "temporary"), (2, "RETRY", "temporary"), (3, "DEAD", "temporary"),
    ]  # fmt: skip
    assert len({one.fingerprint for one in kept}) == 1
    assert all("nobody there" in one.message and "in fail" in one.traceback for one in kept)
    with psycopg.connect(db_url) as connection:
        seen = connection.execute(
            "SELECT transition, attempt, code, due IS NULL FROM seen ORDER BY attempt"
        ).fetchall()
    assert seen == [("RETRY", 1, "503", False), ("RETRY", 2, "503", False), ("DEAD", 3, "503", True)]
    check_membership(db_url)


async def test_a_kind_nobody_knows_goes_back_and_waits_for_a_worker_that_does(db_url: str) -> None:
    async def succeed(_: Job[Any]) -> None:
        return None

    [job] = enqueue_all(db_url, [NewJob("from-the-future")])
    async with supervised(db_url, Registry()):
        await eventually_async(lambda: counts(db_url) == {"scheduled": 1})
    assert tries(db_url, job) == []
    registry = Registry()
    registry.handler("from-the-future")(succeed)
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("UPDATE tandem.scheduled SET next_attempt_at = now()")
    async with supervised(db_url, registry, sweep=True):
        await eventually_async(lambda: outcome(db_url, job) == "SUCCEEDED")


async def test_a_payload_that_does_not_decode_dies_at_once(db_url: str) -> None:
    registry = Registry()

    async def read(job: Job[list[int]]) -> None:
        _ = job.payload

    registry.handler("read", payload=list[int])(read)
    [job] = enqueue_all(db_url, [NewJob("read", {"not": "a list"})])
    async with supervised(db_url, registry):
        await eventually_async(lambda: outcome(db_url, job) == "DEAD")
    assert [(one.attempt, one.error_class) for one in tries(db_url, job)] == [(1, "permanent")]


async def test_a_result_that_is_no_json_is_a_failure_of_the_handler(db_url: str) -> None:
    registry = Registry()

    async def answer(_: Job[Any]) -> object:
        return object()

    registry.handler("answer", retry=Retrying(own=RetryPolicy(max_attempts=3)))(answer)
    [job] = enqueue_all(db_url, [NewJob("answer")])
    async with supervised(db_url, registry):
        await eventually_async(lambda: outcome(db_url, job) == "DEAD")
    assert tries(db_url, job)[0].error_class == "permanent"
