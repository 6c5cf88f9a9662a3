"""Bulk enqueue through COPY: all or nothing, in order, the same rows as one by one, and no way around the function."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app import client as tandem
from app.client import Job, Unique
from app.queue import running
from app.queue.kinds import Registry
from tests.client.places import ASYNC, SYNC, open_asyncpg
from tests.support.membership import check_membership, counts
from workers.testing import drain

SOON = datetime.now(UTC) + timedelta(days=1)
MIXED = [
    Job("a", {"n": 0, "text": "tab\tnewline\nbackslash\\N ä"}),
    Job("b", [1, 2], queue="other", priority=0, partition_key="t", event_id=UUID(int=3)),
    Job("c", run_at=SOON, policy={"max_attempts": 1}, context={"request_id": "r"}),
    Job("a", run_at=datetime(2026, 1, 1, tzinfo=UTC)),
]
ROWS = """
SELECT j.kind, j.payload, j.queue, j.priority, j.partition_key, j.event_id, j.policy, j.context,
       s.next_attempt_at, coalesce(s.attempt, r.attempt), coalesce(s.crashes, r.crashes),
       coalesce(s.suspect, r.suspect),
       coalesce(s.priority, r.priority), coalesce(s.queue, r.queue), coalesce(s.partition_key, r.partition_key),
       r.ready_at IS NOT NULL
FROM tandem.job AS j LEFT JOIN tandem.ready AS r ON r.job_id = j.id LEFT JOIN tandem.scheduled AS s ON s.job_id = j.id
WHERE j.id = ANY (%s) ORDER BY j.id
"""


def rows(url: str, ids: list[int]) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(ROWS, (ids,)).fetchall()


@pytest.mark.parametrize("name", SYNC)
def test_copied_jobs_are_the_same_as_enqueued_ones(db_url: str, name: str) -> None:
    with SYNC[name](db_url) as place:
        one_by_one = [one.job_id for one in tandem.enqueue_many(place, MIXED)]
        copied = tandem.enqueue_copy(place, iter(MIXED))
        place.commit()
    assert sorted(copied) == copied
    assert rows(db_url, copied) == rows(db_url, one_by_one)
    check_membership(db_url)


@pytest.mark.parametrize("name", ASYNC)
async def test_the_same_for_async_connections(db_url: str, name: str) -> None:
    async with ASYNC[name](db_url) as place:
        one_by_one = [one.job_id for one in await tandem.aio.enqueue_many(place, MIXED)]
        copied = await tandem.aio.enqueue_copy(place, iter(MIXED))
        await place.commit()
        await tandem.aio.enqueue_copy(place, MIXED)
        await place.rollback()
    assert rows(db_url, copied) == rows(db_url, one_by_one)
    assert counts(db_url)["ready"] + counts(db_url)["scheduled"] == 8
    check_membership(db_url)


async def test_the_same_for_asyncpg_itself(db_url: str) -> None:
    async with open_asyncpg(db_url) as connection:
        one_by_one = [one.job_id for one in await tandem.aio.enqueue_many(connection, MIXED)]
        copied = await tandem.aio.enqueue_copy(connection, MIXED)
    assert rows(db_url, copied) == rows(db_url, one_by_one)


@pytest.mark.parametrize("name", SYNC)
def test_nothing_is_committed_before_the_caller_commits(db_url: str, name: str) -> None:
    with SYNC[name](db_url) as place:
        tandem.enqueue_copy(place, [Job("a")] * 3)
        assert counts(db_url) == {}
        place.rollback()
    assert counts(db_url) == {}


def test_workers_run_copied_jobs(db_url: str) -> None:
    registry = Registry()

    @registry.handler("a")
    async def handle(job: running.Job[dict[str, Any]]) -> int:
        return int(job.payload["n"])

    with psycopg.connect(db_url) as connection:
        tandem.enqueue_copy(connection, (Job("a", {"n": n}) for n in range(300)))
    assert [job.result for job in drain(db_url, registry).succeeded] == list(range(300))
    check_membership(db_url)


def test_a_connection_without_a_transaction_gets_one_of_the_calls_own(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        assert len(tandem.enqueue_copy(connection, [Job("a")] * 3)) == 3
        assert counts(db_url)["ready"] == 3
        assert tandem.enqueue_copy(connection, []) == []


def bad_ones() -> Iterator[Job]:
    yield Job("a")
    yield Job("a", {"x": object()})


@pytest.mark.parametrize("jobs", [bad_ones, lambda: [Job("a"), Job("a", unique=Unique("k"))]])
def test_a_bad_job_takes_back_the_whole_call_and_nothing_else(db_url: str, jobs: Any) -> None:
    with psycopg.connect(db_url) as connection:
        tandem.enqueue(connection, "before")
        with pytest.raises(tandem.InvalidInput):
            tandem.enqueue_copy(connection, jobs())
        tandem.enqueue_copy(connection, [Job("after")] * 2)
    assert counts(db_url)["ready"] == 3
    check_membership(db_url)


async def test_a_bad_job_in_asyncpg(db_url: str) -> None:
    async with open_asyncpg(db_url) as connection, connection.transaction():
        with pytest.raises(tandem.InvalidInput):
            await tandem.aio.enqueue_copy(connection, bad_ones())
        await tandem.aio.enqueue_copy(connection, [Job("after")])
    assert counts(db_url)["ready"] == 1


def test_several_copies_in_one_transaction_do_not_mix(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        first = tandem.enqueue_copy(connection, [Job("a")] * 3)
        second = tandem.enqueue_copy(connection, [Job("b")] * 2)
        assert (len(first), len(second)) == (3, 2)
        connection.commit()
        assert len(tandem.enqueue_copy(connection, [Job("c")])) == 1
    check_membership(db_url)


def test_the_commit_wakes_the_lanes_of_what_is_ready(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        tandem.enqueue_copy(
            connection, [Job("a", queue="q1"), Job("a", queue="q2"), Job("a", queue="q3", run_at=SOON)]
        )
        query = "SELECT array_agg(lane ORDER BY lane) FROM tandem.wake_request"
        lanes = connection.execute(
            "SELECT array_agg(tandem.wake_lane(q) ORDER BY tandem.wake_lane(q)) FROM unnest('{q1,q2}'::text[]) AS q"
        ).fetchone()
        assert connection.execute(query).fetchone() == lanes
        connection.rollback()
        tandem.enqueue_copy(connection, [Job("a")], wake=False)
        assert connection.execute(query).fetchone() == (None,)


def test_positions_are_drawn_by_a_transaction_that_has_its_id(db_url: str) -> None:
    """A copy that is held open keeps the bound of the safe floors below its positions."""
    with psycopg.connect(db_url) as connection, psycopg.connect(db_url, autocommit=True) as other:
        tandem.enqueue_copy(connection, [Job("a")])
        xid = connection.execute("SELECT pg_current_xact_id_if_assigned()::text::bigint").fetchone()
        floor = other.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").fetchone()
        assert xid is not None
        assert floor is not None
        assert floor[0] <= xid[0]


def test_sql_clients_get_the_defaults_and_the_limits(tx: Any) -> None:
    tx.execute("SELECT tandem.begin_copy()")
    with tx.cursor().copy("COPY pg_temp.tandem_copy (kind) FROM STDIN") as copy:
        copy.write("one\ntwo\n")
    (ids,) = tx.execute("SELECT tandem.enqueue_copied()").fetchone()
    query = "SELECT kind, payload, queue, priority FROM tandem.job WHERE id = ANY (%s) ORDER BY id"
    assert tx.execute(query, (ids,)).fetchall() == [("one", {}, "default", 5), ("two", {}, "default", 5)]
    with tx.cursor().copy("COPY pg_temp.tandem_copy (kind, run_at) FROM STDIN") as copy:
        copy.write("far\tinfinity\n")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="366 days"):
        tx.execute("SELECT tandem.enqueue_copied()")


def test_a_staging_table_of_the_callers_own_is_refused(db_url: str) -> None:
    """Its triggers would run with the rights of the functions' owner."""
    with psycopg.connect(db_url) as connection:
        connection.execute("CREATE ROLE producer_of_copies")
        try:
            connection.execute("GRANT USAGE ON SCHEMA tandem TO producer_of_copies")
            connection.execute("SET LOCAL ROLE producer_of_copies")
            assert len(tandem.enqueue_copy(connection, [Job("a")])) == 1
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(
                    "CREATE TRIGGER t BEFORE INSERT ON pg_temp.tandem_copy"
                    " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
                )
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute("SELECT payload FROM pg_temp.tandem_copy")
            connection.execute("RESET ROLE")
            connection.execute("DROP TABLE pg_temp.tandem_copy")
            connection.execute("SET LOCAL ROLE producer_of_copies")
            connection.execute("CREATE TEMPORARY VIEW tandem_copy AS SELECT 'a'::text AS kind")
            for call in ("SELECT tandem.begin_copy()", "SELECT tandem.enqueue_copied()"):
                with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState), connection.transaction():
                    connection.execute(call)
        finally:
            connection.rollback()  # takes the role back as well
