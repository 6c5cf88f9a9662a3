"""Workers, sweep, API and handlers through PgBouncer in transaction mode.

`pooled_url` looks after every test for what stayed in the server processes that other clients get next.
"""

import json
import logging
import signal
from pathlib import Path

import psycopg
import pytest

from app.queue import admin
from app.queue.enqueue import enqueue
from app.queue.job import NewJob
from app.queue.kinds import Kind, Registry
from app.queue.running import Job
from tests.support.conversations import end, event, opened_sessions, registered, serving
from tests.support.jobs import enqueue_all, outcome, outcomes, status, tries
from tests.support.ledger import effects, held, ledger_place, step
from tests.support.pgbouncer import leaked
from tests.support.supervised import supervised
from tests.support.waiting import eventually, eventually_async
from tests.support.worker_process import worker_process

LEASE = {"lease_seconds": 1.5}


place = pytest.fixture(ledger_place)


def test_every_executor_works_and_what_a_killed_worker_held_goes_on(
    pooled_url: str, db_url: str, place: Path
) -> None:
    kinds = ["exactly", "exactly-thread", "exactly-process", "at-least"]
    kept = enqueue_all(pooled_url, [step(kind, place, "before") for kind in kinds])
    with worker_process(pooled_url, place, slots=8, **LEASE) as first:
        eventually(lambda: held(place) == len(kept), timeout=60)
        assert "through a transaction pooler" in first.log
        first.killed()
    more = enqueue_all(db_url, [step(kinds[n % 3], place) for n in range(30)])
    with worker_process(pooled_url, place, slots=8, **LEASE) as second:
        eventually(lambda: set(outcomes(db_url, kept + more)) == {"SUCCEEDED"}, timeout=60)
        assert leaked(pooled_url) == [], "while the worker runs, too"
        second.signal(signal.SIGTERM)
        assert second.ended() == 0
    assert all(len(effects(db_url, job)) == 1 for job in [*kept, *more])


def test_failures_dead_letters_and_hooks_are_written(pooled_url: str, db_url: str, place: Path) -> None:
    [failing, dying] = enqueue_all(db_url, [NewJob("die-sometimes"), NewJob("die")])
    with worker_process(pooled_url, place, slots=4, **LEASE):
        eventually(lambda: outcome(db_url, dying) == "DEAD", timeout=60)
        eventually(lambda: outcome(db_url, failing) == "SUCCEEDED", timeout=60)
    assert [one.error_class for one in tries(db_url, failing)].count("crash") == 1


async def test_nobody_wakes_the_worker_so_it_looks_often_and_says_so(
    pooled_url: str, db_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()

    async def nothing(_: Job[dict[str, object]]) -> None:
        pass

    registry.add(Kind("nothing", nothing))
    with caplog.at_level(logging.WARNING):
        async with supervised(pooled_url, registry, sweep=True) as supervisor:
            sleeper = supervisor.producer.sleeper
            assert sleeper is not None
            await eventually_async(lambda: sleeper.deaf)
            [job] = enqueue_all(pooled_url, [NewJob("nothing")])
            await eventually_async(lambda: outcome(db_url, job) == "SUCCEEDED")
    assert "DATABASE_LISTEN_URL" in caplog.text


async def test_a_running_job_is_cancelled_and_a_failed_transaction_leaves_the_enqueue_undone(
    pooled_url: str, db_url: str, place: Path
) -> None:
    with psycopg.connect(pooled_url, prepare_threshold=None) as connection:
        enqueue(connection, NewJob("succeed"))
        connection.rollback()
    [job] = enqueue_all(pooled_url, [step("wait", place, "wait")])
    with worker_process(pooled_url, place, slots=2, **LEASE):
        await eventually_async(lambda: held(place) == 1, timeout=60)
        registry = Registry()
        async with await psycopg.AsyncConnection.connect(
            pooled_url, autocommit=True, prepare_threshold=None
        ) as connection:
            await admin.cancel_job(connection, registry, job, by="a test")
        await eventually_async(lambda: outcome(db_url, job) == "CANCELLED", timeout=30)
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT count(*) FROM tandem.job").fetchone() == (1,)


async def test_a_conversation_is_taken_processed_and_answered(pooled_url: str, db_url: str) -> None:
    async with opened_sessions(pooled_url) as sessions, serving(pooled_url) as client:
        await end(client)
        registry = registered(sessions)
        async with supervised(pooled_url, registry, sweep=True, queues={"conversations": 1}):
            await eventually_async(lambda: event(db_url).job_status == "SUCCEEDED", timeout=30)
        answer = await client.get("/health/ready")
        assert answer.status_code == 200, json.dumps(answer.json())
    assert status(db_url, event(db_url).job_id).attempt == 1
