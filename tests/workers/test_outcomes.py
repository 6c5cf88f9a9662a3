"""What a handler may answer instead of a result, and batch handlers that answer for each of their jobs."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from app.database.connect import connect
from app.errors import ConfigurationError
from app.queue.kinds import Kind, Registry
from app.queue.outcomes import Cancel, Dead, Retry, Snooze
from app.queue.retry import Retrying, RetryPolicy
from app.queue.running import Job
from tests.support.claims import add, rows, value
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async

ONCE = Retrying(own=RetryPolicy(1))
THREE = Retrying(own=RetryPolicy(3, delays=(0.01,)))


def registry_of(handler: Any, **options: Any) -> Registry:
    """One kind, `test`."""
    registry = Registry()
    registry.add(Kind("test", handler, **options))
    return registry


async def test_snooze_waits_and_does_not_count(db_url: str) -> None:
    async def handler(_: Job[dict[str, int]]) -> Snooze:
        return Snooze(3600, "not yet")

    async with await connect(db_url, name="test") as connection:
        await add(connection, 1)
        async with supervised(db_url, registry_of(handler)):
            found = await eventually_async(lambda: rows(connection, "SELECT attempt FROM tandem.scheduled"))
        assert found == [(0,)]
        assert await value(connection, "SELECT count(*) FROM tandem.attempt") == 0
        due = await value(
            connection, "SELECT next_attempt_at > now() + interval '59 minutes' FROM tandem.scheduled"
        )
        assert due


@pytest.mark.parametrize(
    ("decision", "outcome"), [(Cancel("changed my mind"), "CANCELLED"), (Dead("never again"), "DEAD")]
)
async def test_cancel_and_dead_end_the_job_with_their_reason(
    db_url: str, decision: Any, outcome: str
) -> None:
    async def handler(_: Job[dict[str, int]]) -> Any:
        return decision

    async with await connect(db_url, name="test") as connection:
        await add(connection, 1)
        async with supervised(db_url, registry_of(handler, retry=THREE)):
            found = await eventually_async(
                lambda: rows(connection, "SELECT outcome, attempt, reason FROM tandem.done")
            )
        assert found == [(outcome, 1, decision.reason)]


async def test_retry_counts_the_try_and_ends_at_the_policys_limit(db_url: str) -> None:
    tries: list[int] = []

    async def handler(job: Job[dict[str, int]]) -> Retry:
        tries.append(job.attempt)
        return Retry(after=0.0, reason="again, please")

    async with await connect(db_url, name="test") as connection:
        await add(connection, 1)
        async with supervised(db_url, registry_of(handler, retry=THREE)):
            found = await eventually_async(
                lambda: rows(connection, "SELECT outcome, attempt FROM tandem.done")
            )
        assert found == [("DEAD", 3)]
        assert tries == [1, 2, 3]
        verdicts = await rows(connection, "SELECT verdict FROM tandem.attempt ORDER BY attempt")
        assert verdicts == [("RETRY",), ("RETRY",), ("DEAD",)]


@pytest.mark.parametrize("executor", ["async", "thread"])
async def test_a_batch_handler_answers_for_each_job(db_url: str, executor: str) -> None:
    calls: list[int] = []

    def answer(jobs: Sequence[Job[dict[str, int]]]) -> list[Any]:
        calls.append(len(jobs))
        answers: dict[int, Any] = {3: ValueError("odd one"), 4: Dead("no"), 5: Snooze(3600)}
        return [answers.get(job.payload["n"], {"n": job.payload["n"]}) for job in jobs]

    async def coroutine(jobs: Sequence[Job[dict[str, int]]]) -> list[Any]:
        return answer(jobs)

    handler = coroutine if executor == "async" else answer
    registry = registry_of(handler, payload=dict[str, int], executor=executor, batch=20, retry=ONCE)
    async with await connect(db_url, name="test") as connection:
        await add(connection, 50)
        unreadable = "SELECT tandem.enqueue('test', '{\"n\": \"six\"}')"
        await connection.execute(unreadable.encode())
        async with supervised(db_url, registry):
            await eventually_async(lambda: _is(connection, "SELECT count(*) = 50 FROM tandem.done"))
        found = Counter(row[0] for row in await rows(connection, "SELECT outcome FROM tandem.done"))
        assert found == {"SUCCEEDED": 47, "DEAD": 3}
        snoozed = await rows(
            connection, "SELECT j.payload FROM tandem.scheduled JOIN tandem.job AS j ON j.id = job_id"
        )
        assert snoozed == [({"n": 5},)]
        results = await rows(connection, "SELECT result FROM tandem.done WHERE result = '{\"n\": 49}'")
        assert results == [({"n": 49},)]
        assert sum(calls) == 50, "the unreadable payload never reaches the handler"
        assert max(calls) > 1


async def test_a_batch_handler_that_raises_or_miscounts_fails_its_jobs_and_no_slot(db_url: str) -> None:
    async def handler(jobs: Sequence[Job[dict[str, int]]]) -> list[None]:
        if any(job.payload["n"] == 0 for job in jobs):
            raise RuntimeError("the whole batch")
        return [None] * (len(jobs) + 1)

    registry = registry_of(handler, batch=5, retry=ONCE)
    async with await connect(db_url, name="test") as connection:
        await add(connection, 20)
        async with supervised(db_url, registry):
            await eventually_async(lambda: _is(connection, "SELECT count(*) = 20 FROM tandem.done"))
        found = await rows(connection, "SELECT DISTINCT outcome FROM tandem.done")
        assert found == [("DEAD",)]


def test_a_batch_does_not_go_to_a_process() -> None:
    with pytest.raises(ConfigurationError, match="not for processes"):
        Kind("test", registry_of, executor="process", batch=2)


async def _is(connection: Any, query: str) -> bool:
    return bool(await value(connection, query))
