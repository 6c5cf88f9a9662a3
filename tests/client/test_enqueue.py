"""Enqueue through every kind of connection: in the caller's transaction, in one round trip, with clear refusals."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg.rows import dict_row

from app import client as tandem
from app.client import Job, Unique
from tests.client.places import ASYNC, SYNC, asyncpg_address, open_asyncpg
from tests.support.membership import check_membership

FULL = Job(
    "mail.send",
    {"to": "ä@example.org", "n": 1.5, "deep": {"x": [1, None, True]}},
    queue="mail",
    priority=9,
    run_at=datetime(2026, 1, 1, tzinfo=UTC),
    partition_key="tenant-1",
    event_id=uuid.UUID(int=7),
    unique=Unique("k-1", "period", timedelta(hours=1)),
    policy={"max_attempts": 3},
    context={"request_id": "r-1"},
)
STORED = {
    "kind": "mail.send",
    "payload": FULL.payload,
    "queue": "mail",
    "priority": 9,
    "partition_key": "tenant-1",
    "event_id": uuid.UUID(int=7),
    "policy": {"max_attempts": 3},
    "context": {"request_id": "r-1"},
}
LATER = datetime.now(UTC).replace(microsecond=123456) + timedelta(days=1)


@pytest.fixture
def outside(db_url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """What another connection sees, that is: what is committed."""
    with psycopg.connect(db_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection
    check_membership(db_url)


def jobs(connection: psycopg.Connection[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in connection.execute("SELECT id FROM tandem.job ORDER BY id")]


def stored(connection: psycopg.Connection[dict[str, Any]], job_id: int) -> dict[str, Any]:
    query = (
        "SELECT kind, payload, queue, priority, partition_key, event_id, policy, context"
        " FROM tandem.job WHERE id = %s"
    )
    row = connection.execute(query, (job_id,)).fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize("name", SYNC)
def test_a_job_commits_and_rolls_back_with_its_caller(db_url: str, outside: Any, name: str) -> None:
    with SYNC[name](db_url) as place:
        first = tandem.enqueue(place, FULL)
        assert jobs(outside) == []
        place.commit()
        assert jobs(outside) == [first.job_id]
        assert stored(outside, first.job_id) == STORED
        tandem.enqueue(place, "mail.send", {"n": 2})
        place.rollback()
        assert jobs(outside) == [first.job_id]
        assert tandem.enqueue(place, FULL) == tandem.Enqueued(first.job_id, created=False)


@pytest.mark.parametrize("name", ASYNC)
async def test_an_async_job_commits_and_rolls_back_with_its_caller(
    db_url: str, outside: Any, name: str
) -> None:
    async with ASYNC[name](db_url) as place:
        first = await tandem.aio.enqueue(place, FULL)
        assert jobs(outside) == []
        await place.commit()
        assert jobs(outside) == [first.job_id]
        assert stored(outside, first.job_id) == STORED
        await tandem.aio.enqueue(place, "mail.send", {"n": 2})
        await place.rollback()
        assert jobs(outside) == [first.job_id]
        assert await tandem.aio.enqueue(place, FULL) == tandem.Enqueued(first.job_id, created=False)


async def test_asyncpg_itself_in_its_transaction(db_url: str, outside: Any) -> None:
    async with open_asyncpg(db_url) as connection:
        async with connection.transaction():
            first = await tandem.aio.enqueue(connection, FULL)
            assert jobs(outside) == []
        assert stored(outside, first.job_id) == STORED
        with pytest.raises(RuntimeError):
            async with connection.transaction():
                await tandem.aio.enqueue_many(connection, [Job("a"), Job("b", run_at=LATER)])
                raise RuntimeError
        assert jobs(outside) == [first.job_id]
        with pytest.raises(tandem.UniqueConflict):
            await tandem.aio.enqueue(connection, "mail.send", {"other": 1}, queue="mail", unique=FULL.unique)


async def test_a_connection_that_asyncpgs_pool_lends(db_url: str, outside: Any) -> None:
    async with (
        asyncpg.create_pool(**asyncpg_address(db_url), min_size=1, max_size=1) as pool,
        pool.acquire() as lent,
    ):
        answer = await tandem.aio.enqueue(lent, "mail.send", {"n": 1})
    assert jobs(outside) == [answer.job_id]


@pytest.mark.parametrize("name", SYNC)
def test_a_due_time_arrives_to_the_microsecond(db_url: str, outside: Any, name: str) -> None:
    with SYNC[name](db_url) as place:
        tandem.enqueue(place, "late", run_at=LATER)
        place.commit()
    assert outside.execute("SELECT next_attempt_at AS at FROM tandem.scheduled").fetchone() == {"at": LATER}


@pytest.mark.parametrize("name", ASYNC)
async def test_many_jobs_are_answered_in_order(db_url: str, outside: Any, name: str) -> None:
    wanted = [Job("a", {"n": 0}), Job("b", {"n": 1}, unique=Unique("one")), Job("c", {"n": 2}, run_at=LATER)]
    async with ASYNC[name](db_url) as place:
        answers = await tandem.aio.enqueue_many(place, wanted)
        await place.commit()
    assert [stored(outside, one.job_id)["kind"] for one in answers] == ["a", "b", "c"]
    assert [one.created for one in answers] == [True] * 3


def test_no_jobs_are_no_statement(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        assert tandem.enqueue_many(connection, []) == []
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


class Counting(psycopg.Connection[Any]):
    """Counts exchanges with the server."""

    exchanges = 0

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        self.exchanges += 1
        return super().wait(*args, **kwargs)


def test_one_call_is_one_round_trip(db_url: str, outside: Any) -> None:
    with Counting.connect(db_url, autocommit=True) as connection:
        before = connection.exchanges
        tandem.enqueue_many(connection, [Job("a", {"n": n}, unique=Unique(f"k{n}")) for n in range(500)])
        assert connection.exchanges == before + 1
    assert len(jobs(outside)) == 500


def test_a_conflict_leaves_the_transaction_good_and_says_whose_key_it_is(db_url: str, outside: Any) -> None:
    with psycopg.connect(db_url) as connection:
        first = tandem.enqueue(connection, "a", {"n": 1}, unique=Unique("k"))
        with pytest.raises(tandem.UniqueConflict, match="belongs to job") as refused:
            tandem.enqueue(connection, "a", {"n": 2}, unique=Unique("k"))
        assert refused.value.detail == {"key": "k", "queue": "default", "job_id": first.job_id}
        assert isinstance(refused.value, tandem.Conflict | tandem.TandemError)
    assert jobs(outside) == [first.job_id]


def test_a_conflict_can_be_reported_beside_the_jobs_that_went_well(db_url: str, outside: Any) -> None:
    with psycopg.connect(db_url) as connection:
        first = tandem.enqueue(connection, "a", {"n": 1}, unique=Unique("k"))
        wanted = [
            Job("a", {"n": 2}, unique=Unique("k")),
            Job("a", {"n": 3}),
            Job("a", {"n": 1}, unique=Unique("k")),
        ]
        answers = tandem.enqueue_many(connection, wanted, on_conflict="report")
    assert answers[0] == tandem.Enqueued(first.job_id, created=False, conflict=True)
    assert (answers[1].created, answers[1].conflict) == (True, False)
    assert answers[2] == tandem.Enqueued(first.job_id, created=False)
    assert len(jobs(outside)) == 2


def test_too_many_jobs_for_one_call_are_told_of_copy(tx: Any) -> None:
    with pytest.raises(tandem.InvalidInput, match="enqueue_copy") as refused:
        tandem.enqueue_many(tx, [Job("a")] * 1001)
    assert refused.value.code == "batch-too-large"


async def test_the_wrong_half_of_the_client_names_the_other(db_url: str) -> None:
    with pytest.raises(tandem.InvalidInput, match=r"await tandem\.aio\.enqueue"):
        async with await psycopg.AsyncConnection.connect(db_url) as connection:
            tandem.enqueue(connection, "a")  # type: ignore[call-overload]
    with pytest.raises(tandem.InvalidInput, match="without await"), psycopg.connect(db_url) as connection:
        await tandem.aio.enqueue(connection, "a")  # type: ignore[call-overload]
    with pytest.raises(tandem.InvalidInput, match="psycopg, SQLAlchemy or asyncpg") as refused:
        tandem.enqueue("postgresql://here", "a")  # type: ignore[call-overload]
    assert refused.value.code == "unknown-connection"


def test_a_driver_that_is_not_supported_is_named(db_url: str) -> None:
    class Connection:
        dialect = type("Dialect", (), {"driver": "psycopg2"})

    Connection.__module__ = "sqlalchemy.engine.base"
    with pytest.raises(tandem.InvalidInput, match="SQLAlchemy on psycopg2"):
        tandem.enqueue(Connection(), "a")  # type: ignore[call-overload]


def test_a_ready_job_takes_nothing_beside_it(tx: Any) -> None:
    with pytest.raises(tandem.InvalidInput, match="nothing beside it"):
        tandem.enqueue(tx, Job("a"), {"n": 1})  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        tandem.enqueue(tx, "a", {}, colour="red")  # type: ignore[call-overload]


BAD: dict[str, dict[str, Any]] = {
    "invalid-kind": {"kind": None},
    "invalid-queue": {"queue": "Ä"},
    "invalid-priority": {"priority": True},
    "invalid-run-at": {"run_at": "tomorrow"},
    "invalid-event-id": {"event_id": "7"},
    "invalid-unique-key": {"unique": "k"},
    "invalid-partition-key": {"partition_key": "a\0"},
    "invalid-policy": {"policy": ["max_attempts"]},
    "invalid-context": {"context": "r-1"},
}


@pytest.mark.parametrize("code", BAD)
def test_an_option_of_the_wrong_type_is_refused_by_its_name(code: str) -> None:
    with pytest.raises(tandem.InvalidInput) as refused:
        Job(**{"kind": "a", **BAD[code]})
    assert refused.value.code == code


@pytest.mark.parametrize("period", [timedelta(0), timedelta(days=-1), timedelta(days=400)])
def test_a_period_that_makes_no_sense_is_refused(period: timedelta) -> None:
    with pytest.raises(tandem.InvalidInput):
        Unique("k", "period", period)


def test_a_context_over_its_limit_is_refused(tx: Any) -> None:
    with pytest.raises(tandem.InvalidInput) as refused:
        tandem.enqueue(tx, "a", context={"x": "y" * 9000})
    assert refused.value.code == "context-too-large"
