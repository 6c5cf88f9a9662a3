"""SIGTERM at any moment: what runs may end, what has not started goes back uncounted, the process ends with 0."""

import asyncio
import signal
from pathlib import Path

import psycopg
import pytest

from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.running import Job
from tests.support.jobs import enqueue_all, outcome, outcomes, status
from tests.support.ledger import effects, go, held, ledger_place, processes, step
from tests.support.membership import check_membership, counts
from tests.support.supervised import quick_settings, supervised
from tests.support.waiting import eventually, eventually_async
from tests.support.worker_process import worker_process
from workers.supervisor import Supervisor

place = pytest.fixture(ledger_place)


@pytest.mark.chaos
def test_a_drain_lets_running_jobs_end_and_hands_the_others_back(db_url: str, place: Path) -> None:
    # Of the kind `one` a process runs one at a time: it holds further ones, not started.
    running, *waiting = enqueue_all(db_url, [step("one", place, "wait") for _ in range(4)])
    with worker_process(db_url, place, drain_seconds=60) as worker:
        eventually(lambda: held(place) == 1 and outcomes(db_url, waiting) == ["RUNNING"] * 3, timeout=60)
        worker.signal(signal.SIGTERM)
        eventually(lambda: outcomes(db_url, waiting) == ["PENDING"] * 3, timeout=30)
        assert [status(db_url, job).attempt for job in waiting] == [0, 0, 0]
        assert outcome(db_url, running) == "RUNNING"
        go(place)
        assert worker.ended() == 0, worker.log
    assert counts(db_url) == {"succeeded": 1, "ready": 3}
    with psycopg.connect(db_url) as connection:
        assert connection.execute(
            "SELECT count(*) FROM tandem.worker WHERE stopped_at IS NULL"
        ).fetchone() == (0,)


@pytest.mark.chaos
def test_a_second_signal_does_not_wait_for_running_jobs(db_url: str, place: Path) -> None:
    [job] = enqueue_all(db_url, [step("wait", place, "wait")])
    with worker_process(db_url, place, drain_seconds=600) as worker:
        eventually(lambda: held(place) == 1, timeout=60)
        worker.signal(signal.SIGTERM)
        eventually(lambda: " drains" in worker.log)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0, worker.log
    assert (outcome(db_url, job), status(db_url, job).attempt) == ("PENDING", 0)


@pytest.mark.chaos
def test_after_the_grace_period_running_jobs_go_back_and_a_wedged_thread_holds_nothing_up(
    db_url: str, place: Path
) -> None:
    jobs = enqueue_all(db_url, [step("wait", place, "wait"), step("wedged", place, "wait")])
    with worker_process(db_url, place, drain_seconds=0.5) as worker:
        eventually(lambda: held(place) == 2, timeout=60)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0, worker.log
    assert outcomes(db_url, jobs) == ["PENDING", "PENDING"]
    assert [status(db_url, job).attempt for job in jobs] == [0, 0]


@pytest.mark.chaos
@pytest.mark.parametrize("moment", ["at once", "registered"])
def test_a_signal_during_start_is_not_lost(db_url: str, place: Path, moment: str) -> None:
    enqueue_all(db_url, [NewJob("succeed") for _ in range(5)])
    with worker_process(db_url, place) as worker:
        if moment == "registered":
            with psycopg.connect(db_url, autocommit=True) as connection:
                query = "SELECT count(*) FROM tandem.worker"
                eventually(lambda: connection.execute(query).fetchone() == (1,), timeout=60, every=0.001)
        worker.signal(signal.SIGTERM)
        # Before Python has installed a handler the signal itself ends the process.
        assert worker.ended() in (0, -signal.SIGTERM), worker.log
    assert "lease" not in str(counts(db_url))


async def test_a_stop_at_any_moment_of_the_start_ends_everything_and_loses_nothing(db_url: str) -> None:
    registry = Registry()
    ran: list[int] = []

    async def count(job: Job[None]) -> None:
        ran.append(job.id)

    registry.handler("count")(count)
    jobs = enqueue_all(db_url, [NewJob("count") for _ in range(40)])
    for moment in range(0, 200, 10):
        worker = Supervisor(quick_settings(slots=2), db_url, registry)
        running = asyncio.create_task(worker.run())
        await asyncio.wait([running], timeout=moment / 1000)
        worker.ask_to_stop()
        async with asyncio.timeout(30):
            await running
        assert "leased" not in counts(db_url), f"after {moment} ms"
        assert worker.inbox.held == 0
        check_membership(db_url)
    async with supervised(db_url, registry):
        await eventually_async(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"})
    assert sorted(ran) == jobs, "each ran once"
    ours = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name LIKE 'tandem %' AND datname = current_database()"
    )
    with psycopg.connect(db_url, autocommit=True) as connection:
        eventually(lambda: connection.execute(ours).fetchone() == (0,))


@pytest.mark.chaos
def test_two_workers_share_the_work_and_every_job_runs_once(db_url: str, place: Path) -> None:
    with worker_process(db_url, place, slots=2) as one, worker_process(db_url, place, slots=2) as two:
        one.started()
        two.started()
        jobs = enqueue_all(db_url, [step("exactly", place) for _ in range(300)])
        eventually(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"}, timeout=60)
        pids = {one.pid, two.pid}
    assert [len(effects(db_url, job)) for job in jobs] == [1] * 300
    assert processes(db_url) == pids
