"""assert_enqueued: what fits, and the message when nothing does."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.client import aio
from app.queue.enqueue import enqueue, enqueue_many
from app.queue.job import NewJob
from tests.client.places import ASYNC, SYNC, open_asyncpg
from tests.workers.testing.kinds import make_registry
from workers.testing import assert_enqueued, assert_enqueued_async, assert_not_enqueued, drain, fake_clock
from workers.testing.assertions import assert_not_enqueued_async

SOON = datetime.now(UTC) + timedelta(days=1)


@dataclass
class Mail:
    to: UUID
    copies: int = 1


@pytest.fixture
def filled(tx: Any) -> Any:
    enqueue_many(
        tx,
        [
            NewJob(
                "mail.send",
                {"to": "a", "deep": {"x": 1, "y": [1, 2]}},
                queue="mail",
                context={"request_id": "r"},
            ),
            NewJob("mail.send", {"to": "b"}, run_at=SOON),
            NewJob("report", {"n": 1}),
        ],
    )
    return tx


def test_what_fits_is_answered(filled: Any) -> None:
    (first,) = assert_enqueued(filled, "mail.send", payload={"to": "a"}, queue="mail", run_at=None)
    assert (first.kind, first.priority, first.context) == ("mail.send", 5, {"request_id": "r"})
    assert len(assert_enqueued(filled, "mail.send", count=2)) == 2
    assert_enqueued(filled, payload={"deep": {"y": [1, 2]}}, count=1)
    assert_enqueued(filled, "mail.send", run_at=SOON)
    assert_enqueued(filled, "mail.send", run_at=timedelta(days=1), within=timedelta(hours=1), count=1)
    assert len(assert_enqueued(filled)) == 3
    assert_not_enqueued(filled, "mail.receive")
    assert_not_enqueued(filled, "mail.send", payload={"to": "c"})


def test_models_count_as_their_json(tx: Any) -> None:
    enqueue(tx, NewJob("mail.send", Mail(UUID(int=1))))
    assert_enqueued(tx, "mail.send", payload=Mail(UUID(int=1)))
    assert_enqueued(tx, "mail.send", payload={"to": UUID(int=1)})
    assert_not_enqueued(tx, "mail.send", payload=Mail(UUID(int=2)))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"payload": {"to": "c"}}, "payload.to is 'a'"),
    ({"payload": {"deep": {"x": True}}}, "payload.deep.x is 1"),
    ({"payload": {"deep": {"y": [1]}}}, r"payload.deep.y is \[1, 2\]"),
    ({"payload": {"cc": 1}}, "payload has no 'cc'"),
    ({"queue": "slow"}, "queue is 'mail'"),
    ({"run_at": timedelta(hours=1)}, "it is ready now"),
    ({"run_at": SOON, "payload": {"to": "a"}}, "it is ready now"),
    ({"run_at": None, "payload": {"to": "b"}}, r"it is due at .* \((in 1 day, 0:00:00|in 2[0-3]:..:..)\)"),
    ({"count": 5}, "this one fits"),
    ({"kind": "receipt"}, "kind is 'mail.send'"),
]


@pytest.mark.parametrize(("wanted", "told"), WRONG)
def test_the_message_says_what_is_there_instead(filled: Any, wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        assert_enqueued(filled, **{"kind": "mail.send", **wanted})


def test_the_message_says_what_was_wanted(filled: Any) -> None:
    with pytest.raises(AssertionError) as failed:
        assert_enqueued(filled, "report", payload={"n": 2}, queue="q", run_at=timedelta(minutes=1), count=2)
    first, second, *_ = str(failed.value).splitlines()
    assert first == (
        "expected 2 waiting jobs (kind 'report', payload with {\"n\": 2}, queue 'q', due in 0:01:00), found 0"
    )
    assert " report in default, ready now, {\"n\": 1}  <- queue is 'default'" in second


def test_an_empty_queue_asks_where_the_jobs_are(tx: Any) -> None:
    with pytest.raises(AssertionError, match="has not committed"):
        assert_enqueued(tx, "mail.send")
    enqueue_many(tx, [NewJob("a", {"text": "x" * 1000}) for _ in range(12)])
    with pytest.raises(AssertionError, match=r"x…, \.\.\.|and 2 more"):
        assert_enqueued(tx, "mail.send")


def test_jobs_that_have_run_do_not_wait(tx: Any) -> None:
    enqueue(tx, NewJob("plain", {"number": 1}))
    drain(tx, make_registry())
    assert_not_enqueued(tx, "plain")


def test_durations_count_from_the_moved_clock(tx: Any) -> None:
    at = datetime(2031, 5, 1, tzinfo=UTC)
    with fake_clock(tx, at=at):
        enqueue(tx, NewJob("late", run_at=at + timedelta(days=1)))
        assert_enqueued(tx, "late", run_at=timedelta(days=1), within=timedelta(minutes=1))


def test_a_time_without_zone_is_refused(tx: Any) -> None:
    with pytest.raises(ValueError, match="time zone"):
        assert_enqueued(tx, run_at=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of it


@pytest.mark.parametrize("name", SYNC)
def test_every_place_can_be_asked(db_url: str, name: str) -> None:
    with SYNC[name](db_url) as place:
        enqueue(place, NewJob("a", {"n": 1}))
        assert_enqueued(place, "a", payload={"n": 1}, run_at=None)


@pytest.mark.parametrize("name", ASYNC)
async def test_every_async_place_can_be_asked(db_url: str, name: str) -> None:
    async with ASYNC[name](db_url) as place:
        await aio.enqueue(place, "a", {"n": 1})
        await assert_enqueued_async(place, "a", payload={"n": 1}, run_at=None)
        await assert_not_enqueued_async(place, "b")


async def test_asyncpg_can_be_asked(db_url: str) -> None:
    async with open_asyncpg(db_url) as connection:
        await aio.enqueue(connection, "a", {"n": 1}, run_at=SOON)
        await assert_enqueued_async(connection, "a", payload={"n": 1}, run_at=SOON)
