"""Failures: the retry policy, the event that always says what its job says, the end of all tries, and the redrive."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.config import Settings
from app.database.connect import connect
from app.domains.conversations import processing
from app.domains.conversations.jobs import KIND
from app.domains.conversations.scoring import score_conversation
from app.queue import admin
from app.queue.retry import Failure, HandlerError
from app.queue.store import Store
from tests.support.conversations import (
    claim_one,
    end,
    event,
    friendship,
    kind_of,
    make_settings,
    opened_sessions,
    read,
    registered,
    serving,
    working,
    write,
)
from tests.support.membership import check_membership
from tests.support.waiting import eventually_async
from workers.sweeper.rescue import RescueJobs
from workers.sweeper.step import Settled

QUICK = {"retry_delays_seconds": (0.05, 0.05, 0.05, 0.05)}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Scoring raises the exceptions of this list, first to last, and then works."""
    failures: list[Exception] = []

    def score_or_fail(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return score_conversation(*args, **kwargs)

    monkeypatch.setattr(processing, "score_conversation", score_or_fail)
    return failures


async def test_the_policy_is_the_product_pages(db_url: str) -> None:
    async with opened_sessions(db_url) as sessions:
        kind = kind_of(registered(sessions, Settings()))
    assert (kind.timeout, kind.hard_timeout, kind.crash_limit) == (240.0, 300.0, 3)

    def delay(attempt: int, error: Exception) -> float | None:
        return kind.retry.decide(Failure.of(error), attempt).delay

    for attempt, least in enumerate([30, 300, 1800, 7200], start=1):
        for error in (RuntimeError("any"), ConnectionError("network"), MemoryError("resource")):
            waits = delay(attempt, error)
            assert waits is not None
            assert least <= waits <= least * 1.1
    assert delay(5, RuntimeError("any")) is None
    assert delay(1, PermissionError("auth")) is None
    assert delay(1, HandlerError("no key", error_class="auth")) is None


async def test_a_retry_is_told_to_the_event_in_the_same_transaction(
    db_url: str, failing: list[Exception]
) -> None:
    failing.append(HandlerError("no answer", error_class="network", code="model-away"))
    async with serving(db_url) as client, working(db_url, make_settings()):
        await end(client)
        await eventually_async(lambda: event(db_url).attempt_count == 1)
        state = (await client.get("/v1/conversations/conv_1")).json()
    row = event(db_url)
    [job] = read(db_url, "SELECT next_attempt_at, attempt FROM tandem.job_status")
    assert (row.status, row.attempt_count, row.next_attempt_at) == ("PENDING", 1, job.next_attempt_at)
    assert (row.error_code, row.error_details) == ("model-away", "HandlerError: no answer")
    assert state["outcome"]["error_code"] == "model-away"
    assert state["job"]["waiting_for"] == "time"


async def test_a_conversation_that_fails_and_then_succeeds_counts_once(
    db_url: str, failing: list[Exception]
) -> None:
    failing += [RuntimeError("one"), RuntimeError("two")]
    async with serving(db_url) as client, working(db_url, make_settings(conversations=QUICK), sweep=True):
        await end(client)
        await eventually_async(lambda: event(db_url).status == "PROCESSED")
    row = event(db_url)
    assert (row.attempt_count, row.error_code, row.error_details) == (3, None, None)
    assert friendship(db_url).conversations == 1


async def test_after_five_tries_the_event_fails_and_a_redrive_makes_it_pending_again(
    db_url: str, failing: list[Exception]
) -> None:
    failing += [RuntimeError("no luck")] * 5
    quick = make_settings(conversations=QUICK)
    async with serving(db_url) as client, working(db_url, quick, sweep=True) as worker:
        await end(client)
        await eventually_async(lambda: event(db_url).status == "FAILED")
        row = event(db_url)
        assert (row.stored, row.attempt_count, row.next_attempt_at) == ("FAILED", 5, None)
        assert (row.error_code, row.error_details) == ("temporary", "RuntimeError: no luck")
        assert row.job_status == "DEAD"
        [letter] = read(db_url, "SELECT error_class, fingerprint FROM tandem.done")
        assert letter.error_class == "temporary"
        assert len(read(db_url, "SELECT verdict FROM tandem.attempt")) == 5
        repeated = await end(client)
        assert repeated["status"] == "FAILED"

        failing.append(RuntimeError("once more"))
        async with await connect(db_url, name="operator") as connection:
            await admin.redrive_job(connection, worker.registry, row.job_id)
        await eventually_async(lambda: event(db_url).status == "PROCESSED")
    assert friendship(db_url).conversations == 1
    assert event(db_url).error_code is None
    check_membership(db_url)


async def test_a_redriven_event_is_pending_with_its_error_forgotten(
    db_url: str, failing: list[Exception]
) -> None:
    failing.append(PermissionError("the key was withdrawn"))
    async with serving(db_url) as client:
        async with working(db_url) as worker:
            await end(client)
            await eventually_async(lambda: event(db_url).status == "FAILED")
        row = event(db_url)
        assert (row.attempt_count, row.error_code) == (1, "auth")
        async with await connect(db_url, name="operator") as connection:
            await admin.redrive_job(connection, worker.registry, row.job_id)
    row = event(db_url)
    assert (row.stored, row.attempt_count, row.error_code, row.error_details) == ("PENDING", 0, None, None)
    assert (row.next_attempt_at is not None, row.job_status) == (True, "PENDING")


async def test_a_handler_past_its_limit_is_stopped_and_tried_again(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(processing.Processor, "_score", never)
    limits = make_settings(conversations={"soft_limit_seconds": 0.2, "hard_limit_seconds": 0.4})
    async with serving(db_url) as client, working(db_url, limits):
        await end(client)
        await eventually_async(lambda: event(db_url).attempt_count == 1)
    assert (event(db_url).status, event(db_url).error_code) == ("PENDING", "timeout")


async def test_three_crashes_alone_fail_the_event_though_no_worker_can_say_so(db_url: str) -> None:
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        registry = registered(sessions)
        await end(client)
        # As a worker's start would: the crash limit of the kind is known to the sweeper from there.
        async with await connect(db_url, name="worker") as connection:
            kind = kind_of(registry)
            await Store(connection).declare_kinds([(KIND, 5, kind.crash_limit, True)])
        seen = []
        for _ in range(3):
            claimed = await claim_one(db_url, lease=timedelta(0))
            async with await connect(db_url, name="sweeper") as connection:
                await Store(connection).mark_alone(claimed.id, claimed.token)
                await RescueJobs(registry, Settled()).run_once(connection)
            seen.append((event(db_url).stored, event(db_url).error_code))
    assert seen == [("PENDING", "crash"), ("PENDING", "crash"), ("FAILED", "crash")]
    assert "worker process ended" in event(db_url).error_details
    assert event(db_url).job_status == "DEAD"


async def test_a_cancelled_job_fails_its_event(db_url: str) -> None:
    async with serving(db_url) as client:
        answer = await end(client)
        write(
            db_url,
            "INSERT INTO tandem.cancel_intent (job_id, requested_at) VALUES (%s, clock_timestamp())",
            answer["job_id"],
        )
        async with working(db_url):
            await eventually_async(lambda: event(db_url).status == "FAILED")
    assert (event(db_url).error_code, event(db_url).job_status) == ("cancelled", "CANCELLED")


async def test_an_event_that_was_deleted_ends_its_job_at_once(db_url: str) -> None:
    async with serving(db_url) as client:
        await end(client)
        write(db_url, "DELETE FROM conversation_events")
        async with working(db_url):
            await eventually_async(lambda: bool(read(db_url, "SELECT job_id FROM tandem.done")))
    [letter] = read(db_url, "SELECT outcome, error_class, attempt FROM tandem.done")
    assert (letter.outcome, letter.error_class, letter.attempt) == ("DEAD", "permanent", 1)


async def test_an_older_job_of_the_event_cannot_change_it_any_more(
    db_url: str, failing: list[Exception]
) -> None:
    failing.append(PermissionError("of the first job"))
    async with serving(db_url) as client:
        await end(client)
        write(db_url, "UPDATE conversation_events SET job_id = job_id + 1000")
        async with working(db_url):
            await eventually_async(lambda: bool(read(db_url, "SELECT job_id FROM tandem.done")))
    assert (event(db_url).stored, event(db_url).error_code) == ("PENDING", None)
