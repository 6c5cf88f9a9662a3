"""Handlers in processes: killed for real, and one that dies costs its own job alone. One worker serves every test."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.queue.job import NewJob
from tests.support import databases
from tests.support.jobs import enqueue_all, outcome, outcomes, status, tries
from tests.support.membership import check_membership
from tests.support.process_handlers import LEDGER
from tests.support.waiting import eventually
from tests.support.worker_process import WorkerProcess, gone, worker_process

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def url(server_url: str, template: str) -> Iterator[str]:
    """A database for the tests of this file."""
    with databases.clone(server_url, template) as made:
        with psycopg.connect(made, autocommit=True) as connection:
            connection.execute(LEDGER)
        yield made
        check_membership(made)


@pytest.fixture(scope="module")
def worker(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """The worker; it must live through everything."""
    with worker_process(url, tmp_path_factory.mktemp("worker")) as made:
        yield made.started()
        assert made.process.poll() is None, made.log


def test_a_child_that_ends_without_an_answer_is_a_crash(url: str, worker: WorkerProcess) -> None:
    [job] = enqueue_all(url, [NewJob("die", policy={"crash_limit": 2})])
    eventually(lambda: outcome(url, job) == "DEAD", timeout=60)
    assert [one.error_class for one in tries(url, job)] == ["crash", "crash"]
    assert "exit code 139" in tries(url, job)[0].message
    assert status(url, job).error_class == "crash"


def test_other_failures_before_do_not_bring_the_end_by_crashes_nearer(
    url: str, worker: WorkerProcess
) -> None:
    [job] = enqueue_all(url, [NewJob("die-sometimes")])
    eventually(lambda: outcome(url, job) == "SUCCEEDED", timeout=60)
    assert [one.error_class for one in tries(url, job)] == ["temporary", "temporary", "crash"]
    assert status(url, job).attempt == 4


def test_a_handler_past_its_hard_limit_is_really_killed(
    url: str, worker: WorkerProcess, tmp_path: Path
) -> None:
    [job] = enqueue_all(url, [NewJob("spin", {"place": str(tmp_path)}, policy={"max_attempts": 1})])
    eventually(lambda: outcome(url, job) == "DEAD", timeout=60)
    assert gone(int((tmp_path / f"pid-{job}").read_text()))
    assert [one.error_class for one in tries(url, job)] == ["timeout"]


def test_children_are_used_again_and_their_transactions_count_once(
    url: str, worker: WorkerProcess, tmp_path: Path
) -> None:
    jobs = enqueue_all(url, [NewJob("exactly-process", {"place": str(tmp_path)}) for _ in range(12)])
    eventually(lambda: set(outcomes(url, jobs)) == {"SUCCEEDED"}, timeout=60)
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT job, pid FROM effect WHERE job = ANY (%s)", (jobs,)).fetchall()
    assert sorted(job for job, _ in rows) == jobs
    assert 1 <= len({pid for _, pid in rows}) <= 3
    assert worker.pid not in {pid for _, pid in rows}


def test_a_payload_that_does_not_fit_is_a_dead_letter_at_once(url: str, worker: WorkerProcess) -> None:
    jobs = enqueue_all(url, [NewJob("exactly-process", {"place": 7}), NewJob("exactly", {"nothing": 1})])
    eventually(lambda: outcomes(url, jobs) == ["DEAD", "DEAD"], timeout=60)
    for job in jobs:
        assert [(one.attempt, one.error_class) for one in tries(url, job)] == [(1, "permanent")]
