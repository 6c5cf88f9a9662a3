"""COMMIT happens and its answer is lost: a whole worker behind a proxy that swallows what the server says."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from app import events
from app.queue.facts import Ended
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.retry import Retrying, RetryPolicy
from app.queue.running import Job
from tests.support.cut_answers import CuttingProxy
from tests.support.jobs import enqueue_all, outcomes, status, tries
from tests.support.membership import check_membership
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async


@pytest.fixture
def ended() -> Iterator[list[tuple[int, str]]]:
    """(job, result) of every try that ended in this process."""
    seen: list[tuple[int, str]] = []
    stop = events.subscribe(
        Ended, lambda fact: seen.extend((one.job.id, one.result) for one in fact.outcomes)
    )
    yield seen
    stop()


class Counted:
    """Handlers that count their runs."""

    def __init__(self) -> None:
        self.runs: dict[int, int] = {}

    def _count(self, job: Job[Any]) -> None:
        self.runs[job.id] = self.runs.get(job.id, 0) + 1

    async def plain(self, job: Job[Any]) -> None:
        self._count(job)

    async def fail(self, job: Job[Any]) -> None:
        self._count(job)
        raise ValueError("each time")

    async def transaction(self, job: Job[Any]) -> None:
        self._count(job)
        async with job.transaction() as opened:
            await opened.connection.execute("INSERT INTO effect VALUES (%s)", (job.id,))

    def registry(self) -> Registry:
        made = Registry()
        made.handler("plain")(self.plain)
        made.handler("fail", retry=Retrying(own=RetryPolicy(max_attempts=1)))(self.fail)
        made.handler("transaction")(self.transaction)
        return made


CASES = {
    "plain": (("tandem finish", ""), "success", "SUCCEEDED"),
    "fail": (("tandem settle", "COMMIT"), "lost", "DEAD"),
    "transaction": (("tandem handlers", "COMMIT"), "lost", "SUCCEEDED"),
}


@pytest.mark.parametrize("kind", sorted(CASES))
async def test_a_commit_whose_answer_is_lost_happens_once_and_is_not_repeated(
    db_url: str, ended: list[tuple[int, str]], kind: str
) -> None:
    which, result, stands = CASES[kind]
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE effect (job bigint)")
    counted = Counted()
    with CuttingProxy(db_url) as proxy:
        async with supervised(proxy.url, counted.registry(), slots=4) as worker:
            warm = enqueue_all(db_url, [NewJob(name) for name in CASES])
            await eventually_async(lambda: len(ended) == len(CASES))
            proxy.cut_answer(*which)
            [job] = enqueue_all(db_url, [NewJob(kind)])
            await eventually_async(lambda: ended[len(warm) :] == [(job, result)])
            assert proxy.cuts == 1
            assert worker.inbox.held == 0
            more = enqueue_all(db_url, [NewJob("plain") for _ in range(5)])
            await eventually_async(lambda: set(outcomes(db_url, more)) == {"SUCCEEDED"})
    assert outcomes(db_url, [job]) == [stands]
    assert counted.runs[job] == 1
    assert status(db_url, job).attempt == 1
    assert len(tries(db_url, job)) == (1 if kind == "fail" else 0)
    with psycopg.connect(db_url) as connection:
        effects = connection.execute("SELECT count(*) FROM effect WHERE job = %s", (job,)).fetchone()
    assert effects == (1 if kind == "transaction" else 0,)
    check_membership(db_url)


async def test_a_claim_whose_answer_is_lost_is_rescued(db_url: str) -> None:
    counted = Counted()
    [job] = enqueue_all(db_url, [NewJob("plain")])
    with CuttingProxy(db_url) as proxy:
        proxy.cut_answer("tandem claim", "default")  # the request that names the queues
        async with supervised(proxy.url, counted.registry(), lease_seconds=1.5, sweep=True):
            await eventually_async(lambda: outcomes(db_url, [job]) == ["SUCCEEDED"], timeout=30)
    assert proxy.cuts == 1
    assert counted.runs == {job: 1}
    assert [one.verdict for one in tries(db_url, job)] == ["RESCUED"]
    check_membership(db_url)
