"""Enqueue rides in the caller's transaction: with every kind of connection, event and job are there together or not."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryFile
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.database.deadline import BoundedConnection
from app.database.engine import make_engine, make_sync_engine
from app.errors import InvalidInput
from app.queue.enqueue import enqueue, enqueue_async, enqueue_many
from app.queue.job import Enqueued, NewJob
from tests.support.membership import assert_membership, check_membership

EVENT = "INSERT INTO event (name) VALUES ('ended')"
Way = Callable[[str, bool], Coroutine[Any, Any, Enqueued]]


async def by_psycopg(url: str, commit: bool) -> Enqueued:
    with psycopg.connect(url) as connection:
        connection.execute(EVENT)
        answer = enqueue(connection, NewJob("test", {"n": 1}))
        connection.commit() if commit else connection.rollback()
    return answer


async def by_psycopg_with_named_rows(url: str, commit: bool) -> Enqueued:
    with psycopg.connect(url, row_factory=namedtuple_row) as connection:
        connection.execute(EVENT)
        answer = enqueue(connection, NewJob("test", {"n": 1}))
        connection.commit() if commit else connection.rollback()
    return answer


async def by_async_psycopg(url: str, commit: bool) -> Enqueued:
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
        await connection.execute(EVENT)
        answer = await enqueue_async(connection, NewJob("test", {"n": 1}))
        await (connection.commit() if commit else connection.rollback())
    return answer


async def by_client_side_cursors(url: str, commit: bool) -> Enqueued:
    with psycopg.connect(url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(EVENT)
        answer = enqueue(connection, NewJob("test", {"n": 1}))
        connection.commit() if commit else connection.rollback()
    return answer


async def by_session(url: str, commit: bool) -> Enqueued:
    engine = make_sync_engine(url, name="test", pooled=False)
    with Session(engine) as session:
        session.execute(text(EVENT))
        answer = enqueue(session, NewJob("test", {"n": 1}))
        session.commit() if commit else session.rollback()
    return answer


async def by_alchemy_connection(url: str, commit: bool) -> Enqueued:
    engine = make_sync_engine(url, name="test", pooled=False)
    with engine.connect() as connection:
        connection.execute(text(EVENT))
        answer = enqueue(connection, NewJob("test", {"n": 1}))
        connection.commit() if commit else connection.rollback()
    return answer


@asynccontextmanager
async def async_session(url: str) -> AsyncIterator[AsyncSession]:
    engine = make_engine(url, name="test")
    try:
        async with AsyncSession(engine) as session:
            yield session
    finally:
        await engine.dispose()


async def by_async_session(url: str, commit: bool) -> Enqueued:
    async with async_session(url) as session:
        await session.execute(text(EVENT))
        answer = await enqueue_async(session, NewJob("test", {"n": 1}))
        await (session.commit() if commit else session.rollback())
    return answer


async def by_async_alchemy_connection(url: str, commit: bool) -> Enqueued:
    async with async_session(url) as session:
        connection = await session.connection()
        await connection.execute(text(EVENT))
        answer = await enqueue_async(connection, NewJob("test", {"n": 1}))
        await (connection.commit() if commit else connection.rollback())
    return answer


async def by_plain_sql(url: str, commit: bool) -> Enqueued:
    with psycopg.connect(url) as connection:
        connection.execute(EVENT)
        row = connection.execute("""SELECT tandem.enqueue('test', '{"n": 1}')""").fetchone()
        connection.commit() if commit else connection.rollback()
    assert row is not None
    return Enqueued(row[0], True)


WAYS: dict[str, Way] = {
    "psycopg": by_psycopg,
    "psycopg, named rows": by_psycopg_with_named_rows,
    "psycopg async, dict rows": by_async_psycopg,
    "psycopg, client-side cursors": by_client_side_cursors,
    "Session": by_session,
    "Connection": by_alchemy_connection,
    "AsyncSession": by_async_session,
    "AsyncConnection": by_async_alchemy_connection,
    "plain SQL": by_plain_sql,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
async def test_event_and_job_are_there_together_or_not_at_all(db_url: str, way: Way) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE event (name text)")
        both = (
            "SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM tandem.job),"
            " (SELECT count(*) FROM tandem.ready)"
        )
        await way(db_url, False)
        assert connection.execute(both).fetchone() == (0, 0, 0)
        answer = await way(db_url, True)
        assert connection.execute(both).fetchone() == (1, 1, 1)
        assert answer.created
        found = connection.execute("SELECT id, kind, queue, priority, payload FROM tandem.job").fetchone()
        assert found == (answer.job_id, "test", "default", 5, {"n": 1})
        assert_membership(connection)


def test_many_jobs_are_one_statement_and_keep_their_order(tx: BoundedConnection) -> None:
    answers = enqueue_many(tx, [NewJob("test", {"n": n}, priority=n % 10) for n in range(1000)])
    assert [one.created for one in answers] == [True] * 1000
    rows = tx.execute(
        "SELECT j.id, (j.payload ->> 'n')::int, r.priority"
        " FROM tandem.job AS j JOIN tandem.ready AS r ON r.job_id = j.id ORDER BY r.pos"
    ).fetchall()
    assert rows == [(one.job_id, n, n % 10) for n, one in enumerate(answers)]
    assert_membership(tx)


def test_nothing_is_enqueued_by_an_empty_call(tx: BoundedConnection) -> None:
    assert enqueue_many(tx, []) == []


def test_more_than_a_batch_is_refused_before_anything_is_written(tx: BoundedConnection) -> None:
    with pytest.raises(InvalidInput, match="limit is 1000"):
        enqueue_many(tx, [NewJob("test")] * 1001)
    assert tx.execute("SELECT count(*) FROM tandem.job").fetchone() == (0,)


def test_a_job_keeps_what_its_producer_said(tx: BoundedConnection) -> None:
    event = uuid4()
    answer = enqueue(
        tx,
        NewJob(
            "mail.send",
            {"to": "Zoë 🚲", "deep": [[1, 2.5, None, True]]},
            queue="mail",
            priority=9,
            partition_key="customer:7",
            event_id=event,
            policy={"max_attempts": 2},
            context={"request_id": "r-1"},
        ),
    )
    row = tx.execute(
        "SELECT kind, payload, queue, priority, partition_key, event_id, policy, context FROM tandem.job WHERE id = %s",
        (answer.job_id,),
    ).fetchone()
    payload = {"to": "Zoë 🚲", "deep": [[1, 2.5, None, True]]}
    assert row == (
        "mail.send", payload, "mail", 9, "customer:7", event, {"max_attempts": 2}, {"request_id": "r-1"},
    )  # fmt: skip
    ready = tx.execute("SELECT queue, priority, partition_key, attempt FROM tandem.ready").fetchone()
    assert ready == ("mail", 9, "customer:7", 0)


class Greeting(BaseModel):
    name: str
    at: datetime


def test_a_model_is_a_payload(tx: BoundedConnection) -> None:
    enqueue(tx, NewJob("greet", Greeting(name="An", at=datetime(2026, 1, 2, tzinfo=UTC))))
    row = tx.execute("SELECT payload FROM tandem.job").fetchone()
    assert row == ({"name": "An", "at": "2026-01-02T00:00:00Z"},)


def test_a_delayed_job_waits_for_its_time_and_a_past_time_means_now(tx: BoundedConnection) -> None:
    now = datetime.now(UTC)
    later, past = enqueue_many(
        tx,
        [
            NewJob("test", run_at=now + timedelta(hours=1)),
            NewJob("test", run_at=now - timedelta(days=1000)),
        ],
    )
    assert tx.execute("SELECT job_id, next_attempt_at FROM tandem.scheduled").fetchall() == [
        (later.job_id, now + timedelta(hours=1))
    ]
    assert tx.execute("SELECT job_id FROM tandem.ready").fetchall() == [(past.job_id,)]
    assert_membership(tx)


def test_plain_sql_enqueues_delayed_jobs_too(tx: BoundedConnection) -> None:
    row = tx.execute("SELECT tandem.enqueue('test', run_at => now() + interval '1 hour')").fetchone()
    assert tx.execute("SELECT job_id FROM tandem.scheduled").fetchone() == row
    assert_membership(tx)


def test_an_enqueue_is_one_round_trip(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection, TemporaryFile() as wire:
        connection.pgconn.trace(wire.fileno())
        enqueue_many(connection, [NewJob("test", {"n": n}) for n in range(500)])
        connection.pgconn.untrace()
        wire.seek(0)
        assert wire.read().count(b"\tSync\n") == 1
    check_membership(db_url)
