"""drain: everything that a worker would run, with the real executor, committed or in the test's own transaction."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.client.errors import InvalidInput
from app.queue.enqueue import enqueue, enqueue_async, enqueue_many
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.running import Job
from tests.client.places import ASYNC, SYNC, open_asyncpg
from tests.support.membership import check_membership, counts
from tests.workers.testing.kinds import TABLE, make_registry
from workers.testing import drain, drain_async, fake_clock

EVERY = [
    NewJob("plain", {"number": 1}),
    NewJob("effect", {"number": 5, "note": "hello"}, queue="other"),
    NewJob("thread", priority=9),
    NewJob("fails"),
    NewJob("spoils"),
    NewJob("decides", {"how": "snooze"}),
    NewJob("decides", {"how": "cancel"}),
    NewJob("decides", {"how": "dead"}),
    NewJob("batch", {"n": 1}),
    NewJob("batch", {"n": 2}),
    NewJob("plain", {"number": "not a number"}),
    NewJob("nobody"),
]
STATUSES = {
    "plain": ["DEAD", "SUCCEEDED", "SUCCEEDED"],
    "effect": ["SUCCEEDED"],
    "thread": ["SUCCEEDED"],
    "fails": ["PENDING"],
    "spoils": ["PENDING"],
    "decides": ["CANCELLED", "DEAD", "PENDING"],
    "batch": ["PENDING", "SUCCEEDED"],
    "nobody": ["PENDING"],
}


def statuses(report: Any) -> dict[str, list[str]]:
    return {kind: sorted(job.status for job in report.of(kind)) for kind in STATUSES}


def effects(connection: Any) -> list[str]:
    return [row[0] for row in connection.execute("SELECT note FROM effect ORDER BY note")]


def test_every_sort_of_job_by_address(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        connection.execute(TABLE)
        enqueue_many(connection, [*EVERY, NewJob("process")])
    report = drain(db_url, make_registry())
    assert statuses(report) == STATUSES
    assert [job.status for job in report.of("process")] == ["SUCCEEDED"]
    assert [job.result for job in report.of("process")] == [{"by": "process"}]
    with psycopg.connect(db_url) as connection:
        assert effects(connection) == ["RETRY temporary", "hello", "process", "thread"]
    check_membership(db_url)


@pytest.mark.parametrize("name", SYNC)
def test_every_sort_of_job_in_the_tests_transaction(db_url: str, name: str) -> None:
    with psycopg.connect(db_url) as outside:
        outside.execute(TABLE)
    with SYNC[name](db_url) as place:
        enqueue_many(place, [*EVERY, NewJob("process")])
        report = drain(place, make_registry())
        assert statuses(report) == STATUSES
        assert report.of("plain")[0].result == {"number": 2}
        assert report.of("effect")[0].result == {"noted": "hello"}
        assert isinstance(report.of("spoils")[0].error, psycopg.errors.DivisionByZero)
        assert counts(db_url) == {}
        place.rollback()
    assert counts(db_url) == {}


@pytest.mark.parametrize("name", [name for name in ASYNC if "asyncpg" not in name])
async def test_the_same_in_async_tests(db_url: str, name: str) -> None:
    with psycopg.connect(db_url) as outside:
        outside.execute(TABLE)
    async with ASYNC[name](db_url) as place:
        for job in EVERY:
            await enqueue_async(place, job)
        report = await drain_async(place, make_registry())
        assert statuses(report) == STATUSES
        assert counts(db_url) == {}
        await place.commit()
    check_membership(db_url)
    assert counts(db_url)["succeeded"] == 5
    with psycopg.connect(db_url) as connection:
        assert effects(connection) == ["RETRY temporary", "hello", "thread"]


def test_the_connection_is_the_tests_own_again_afterwards(tx: Any) -> None:
    heard: list[Any] = []
    tx.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    enqueue(tx, NewJob("plain", {"number": 1}))
    for _ in range(10):  # enough for psycopg to prepare statements on both sides
        drain(tx, make_registry())
        tx.execute("SELECT tandem.clock()")
    tx.execute("DO $$ BEGIN RAISE NOTICE 'here'; END $$")
    assert heard == ["here"]
    assert not tx.closed


def test_what_a_handler_spoils_on_the_tests_connection_is_taken_back(tx: Any) -> None:
    registry = Registry()

    @registry.handler("careless", executor="thread")
    def careless(job: Job[dict[str, Any]]) -> None:
        tx.execute("SELECT 1/0")

    enqueue_many(tx, [NewJob("careless"), NewJob("careless")])
    report = drain(tx, registry)
    assert [type(error) for error in report.errors] == [psycopg.errors.DivisionByZero] * 2
    assert tx.execute("SELECT count(*) FROM tandem.scheduled").fetchone() == (2,)


def test_an_autocommit_connection_commits(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        enqueue(connection, NewJob("plain", {"number": 1}))
        assert len(drain(connection, make_registry())) == 1
        assert counts(db_url) == {"succeeded": 1}


def test_retries_run_when_their_time_has_come(tx: Any) -> None:
    tx.execute(TABLE)
    enqueue(tx, NewJob("fails"))
    registry = make_registry()
    with fake_clock(tx) as clock:
        assert [job.status for job in drain(tx, registry).jobs] == ["PENDING"]
        assert len(drain(tx, registry)) == 0
        clock.advance(timedelta(minutes=3))
        assert len(drain(tx, registry, due=False)) == 0
        (dead,) = drain(tx, registry).jobs
    assert (dead.status, dead.attempt) == ("DEAD", 2)
    assert "no luck at try 2" in str(dead)


def test_only_the_queues_that_are_asked_for(tx: Any) -> None:
    enqueue_many(tx, [NewJob("plain", {"number": 1}, queue="a"), NewJob("plain", {"number": 1}, queue="b")])
    assert [job.queue for job in drain(tx, make_registry(), queues=["b"]).jobs] == ["b"]
    tx.execute("INSERT INTO tandem.queue (name, paused_at) VALUES ('a', now())")
    assert len(drain(tx, make_registry())) == 0


def test_errors_can_be_raised(tx: Any) -> None:
    enqueue(tx, NewJob("decides", {"how": "unheard of"}))
    report = drain(tx, make_registry())
    with pytest.raises(KeyError):
        report.raise_errors()
    enqueue_many(tx, [NewJob("decides", {"how": "a"}), NewJob("decides", {"how": "b"})])
    with pytest.raises(BaseExceptionGroup) as group:
        drain(tx, make_registry()).raise_errors()
    assert len(group.value.exceptions) == 2
    drain(tx, Registry()).raise_errors()


def test_a_job_that_makes_itself_again_is_stopped(tx: Any) -> None:
    registry = Registry()

    @registry.handler("again", executor="thread")
    def again(job: Job[dict[str, Any]]) -> None:
        enqueue(tx, NewJob("again"))

    enqueue(tx, NewJob("again"))
    with pytest.raises(AssertionError, match="more than 20 tries"):
        drain(tx, registry, most=20)


def test_a_handler_that_does_not_end_is_named(db_url: str) -> None:
    registry = Registry()

    @registry.handler("endless")
    async def endless(job: Job[dict[str, Any]]) -> None:
        await asyncio.Event().wait()

    with psycopg.connect(db_url) as connection:
        enqueue(connection, NewJob("endless"))
    with pytest.raises(TimeoutError, match="endless"):
        drain(db_url, registry, timeout=0.5)


async def test_synchronous_calls_inside_a_loop_name_the_other(tx: Any) -> None:
    with pytest.raises(RuntimeError, match="await drain_async"):
        drain(tx, make_registry())


async def test_asyncpg_is_told_to_give_the_address(db_url: str) -> None:
    async with open_asyncpg(db_url) as connection:
        with pytest.raises(InvalidInput, match="address"):
            await drain_async(connection, make_registry())


def test_schedules_fire_by_the_fake_clock(db_url: str) -> None:
    registry = make_registry()
    registry.cron("hourly", "@hourly", kind="plain", payload={"number": 1})
    registry.cron("each", "*/30 * * * *", kind="plain", payload={"number": 2}, missed="catch_up")
    with psycopg.connect(db_url) as connection, fake_clock(connection) as clock:
        assert len(drain(connection, registry)) == 0
        clock.advance(timedelta(hours=3))
        assert len(drain(connection, registry, due=False)) == 0
        results = [job.result["number"] for job in drain(connection, registry).of("plain")]
        assert sorted(results) == [2] + [3] * 6
        assert len(drain(connection, registry)) == 0
