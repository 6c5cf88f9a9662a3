"""Managed queues in the test kit: drain and inline admit jobs under limits and order, and find what waits."""

import psycopg
import pytest

from app.queue.enqueue import enqueue_many
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.outcomes import Dead
from app.queue.running import Job
from tests.support.membership import assert_membership
from workers.testing import assert_enqueued, drain, inline

ORDERED = "SELECT tandem.manage_queue('default', ordered => true)"


def make_registry(seen: list[int]) -> Registry:
    registry = Registry()

    @registry.handler("note", executor="thread")
    def note(job: Job[dict[str, int]]) -> Dead | None:
        seen.append(job.payload["n"])
        return Dead("three") if job.payload["n"] == 3 else None

    return registry


@pytest.mark.parametrize("inside", [True, False])
def test_drain_runs_ordered_jobs_in_order(db_url: str, inside: bool) -> None:
    seen: list[int] = []
    with psycopg.connect(db_url, autocommit=not inside) as connection:
        connection.execute(ORDERED)
        enqueue_many(connection, [NewJob("note", {"n": n}, partition_key="a") for n in range(6)])
        assert len(assert_enqueued(connection, "note", run_at=None)) == 6
        report = drain(connection if inside else db_url, make_registry(seen))
        assert seen == list(range(6))
        assert [job.status for job in report.jobs].count("DEAD") == 1
        assert_membership(connection)


def test_drain_leaves_what_a_limit_holds_back(db_url: str) -> None:
    seen: list[int] = []
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("SELECT tandem.manage_queue('default'), tandem.set_limit('key:default/a', 0)")
        enqueue_many(connection, [NewJob("note", {"n": n}, partition_key="ab"[n % 2]) for n in range(4)])
    with pytest.raises(AssertionError, match="limit"), psycopg.connect(db_url) as connection:
        inline(make_registry(seen), NewJob("note", {"n": 9}, partition_key="a"), connection=connection)
    drain(db_url, make_registry(seen))
    assert sorted(seen) == [1, 3]


def test_inline_runs_a_job_of_a_managed_queue(db_url: str) -> None:
    seen: list[int] = []
    with psycopg.connect(db_url) as connection:
        connection.execute(ORDERED)
        ran = inline(make_registry(seen), NewJob("note", {"n": 7}, partition_key="a"), connection=connection)
    assert (ran.status, seen) == ("SUCCEEDED", [7])
